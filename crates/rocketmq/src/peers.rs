//! The other nodes' front ends: where they are, and the same call to one of them.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use duolog_types::NodeId;
use parking_lot::RwLock;
use tokio::time::Instant;
use tonic::Code as GrpcCode;
use tonic::transport::{Channel, Endpoint};

use crate::answer::Answer;
use crate::caller::Caller;
use crate::config::{RocketmqConfig, RocketmqNode};
use crate::errors::Refusal;
use crate::metrics::RocketmqMetrics;
use crate::proto::messaging_service_client::MessagingServiceClient;
use crate::proto::receive_message_response::Content;
use crate::proto::{
    self, Address, AddressScheme, Code, Endpoints, Message, PullMessageRequest, PullMessageResponse,
    ReceiveMessageRequest, ReceiveMessageResponse, Status, pull_message_response,
};

/// Longest wait for a connection to another node.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection whose other side does not answer is given up after these.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// The least time that a forwarded call gets.
const TIMEOUT_MIN: Duration = Duration::from_millis(50);

type Client = MessagingServiceClient<Channel>;

/// Where a member of the cluster serves RocketMQ clients, if it does.
pub(crate) type LookUp = Box<dyn Fn(NodeId) -> Option<RocketmqNode> + Send + Sync>;

/// The nodes that serve RocketMQ clients, this one included: those of the config, and those that joined later.
pub(crate) struct Peers {
    nodes: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
    look_up: LookUp,
    message_bytes_max: usize,
    metrics: Arc<RocketmqMetrics>,
}

struct Peer {
    node: RocketmqNode,
    calls: OnceLock<Channel>,
    /// Long polls have a connection of their own: they must not take the places of other calls.
    polls: OnceLock<Channel>,
}

impl Peer {
    fn new(node: RocketmqNode) -> Self {
        Self { node, calls: OnceLock::new(), polls: OnceLock::new() }
    }
}

/// A call with one answer that may be made on another node.
pub(crate) trait Forward: Clone + Send + Sync + Sized + 'static {
    type Answer: Answer;

    fn call(
        client: &mut Client,
        request: tonic::Request<Self>,
    ) -> impl Future<Output = Result<tonic::Response<Self::Answer>, tonic::Status>> + Send;
}

macro_rules! forward {
    ($($request:ident => $answer:ident by $method:ident;)*) => {$(
        impl Forward for proto::$request {
            type Answer = proto::$answer;

            async fn call(
                client: &mut Client,
                request: tonic::Request<Self>,
            ) -> Result<tonic::Response<Self::Answer>, tonic::Status> {
                client.$method(request).await
            }
        }
    )*};
}

forward! {
    SendMessageRequest => SendMessageResponse by send_message;
    AckMessageRequest => AckMessageResponse by ack_message;
    ChangeInvisibleDurationRequest => ChangeInvisibleDurationResponse by change_invisible_duration;
    ForwardMessageToDeadLetterQueueRequest => ForwardMessageToDeadLetterQueueResponse
        by forward_message_to_dead_letter_queue;
    EndTransactionRequest => EndTransactionResponse by end_transaction;
    RecallMessageRequest => RecallMessageResponse by recall_message;
    GetOffsetRequest => GetOffsetResponse by get_offset;
    UpdateOffsetRequest => UpdateOffsetResponse by update_offset;
    QueryOffsetRequest => QueryOffsetResponse by query_offset;
}

impl Peers {
    pub(crate) fn new(config: &RocketmqConfig, look_up: LookUp, metrics: Arc<RocketmqMetrics>) -> Self {
        let nodes = config.nodes.iter().map(|node| (node.id, Arc::new(Peer::new(node.clone())))).collect();
        Self { nodes: RwLock::new(nodes), look_up, message_bytes_max: config.message_bytes_max, metrics }
    }

    fn peer(&self, node: NodeId) -> Option<Arc<Peer>> {
        if let Some(peer) = self.nodes.read().get(&node) {
            return Some(peer.clone());
        }
        let found = Arc::new(Peer::new((self.look_up)(node)?));
        Some(self.nodes.write().entry(node).or_insert(found).clone())
    }

    /// The address for clients of what a node leads. `None` when it serves no RocketMQ clients.
    ///
    /// One address, although every node takes every call: Java's client would choose among several at random, and Python's sends
    /// all of them as the name of the server, which HTTP/2 here refuses.
    pub(crate) fn endpoints(&self, leader: NodeId) -> Option<Endpoints> {
        let peer = self.peer(leader)?;
        let node = &peer.node;
        let address = Address { host: node.host.clone(), port: i32::from(node.port) };
        Some(Endpoints { scheme: scheme(&node.host).into(), addresses: vec![address] })
    }

    /// Makes a call on another node.
    ///
    /// # Errors
    /// What that node refuses as a whole because it does not lead, or that it does not answer; both are transient.
    pub(crate) async fn forward<R: Forward>(
        &self,
        node: NodeId,
        caller: &Caller,
        request: R,
        deadline: Instant,
    ) -> Result<R::Answer, Refusal> {
        let mut client = self.client(node, |peer| &peer.calls)?;
        self.metrics.count_forwarded();
        let answer = R::call(&mut client, forwarded(caller, request, deadline)).await;
        let answer = answer.map_err(|status| no_answer(node, &status))?.into_inner();
        match answer.status() {
            Some(status) if answer.code() == Code::HaNotAvailable => {
                Err(Refusal::new(Code::HaNotAvailable, status.message.clone()))
            }
            _ => Ok(answer),
        }
    }

    /// Receives messages on another node.
    ///
    /// # Errors
    /// As [`Peers::forward`], and every other refusal of that node.
    pub(crate) async fn receive(
        &self,
        node: NodeId,
        caller: &Caller,
        request: ReceiveMessageRequest,
        deadline: Instant,
    ) -> Result<Vec<Message>, Refusal> {
        let mut client = self.client(node, |peer| &peer.polls)?;
        self.metrics.count_forwarded();
        let lost = |status: tonic::Status| no_answer(node, &status);
        let items = client.receive_message(forwarded(caller, request, deadline)).await;
        let mut items = items.map_err(lost)?.into_inner();
        let mut messages = Vec::new();
        while let Some(ReceiveMessageResponse { content }) = items.message().await.map_err(lost)? {
            match content {
                Some(Content::Message(message)) => messages.push(message),
                Some(Content::Status(status)) if !is_answer(&status) => {
                    return Err(Refusal::new(Code::try_from(status.code).unwrap_or_default(), status.message));
                }
                Some(Content::Status(_) | Content::DeliveryTimestamp(_)) | None => {}
            }
        }
        Ok(messages)
    }

    /// Pulls messages on another node; gives the answer's items.
    ///
    /// # Errors
    /// As [`Peers::receive`].
    pub(crate) async fn pull(
        &self,
        node: NodeId,
        caller: &Caller,
        request: PullMessageRequest,
        deadline: Instant,
    ) -> Result<Vec<pull_message_response::Content>, Refusal> {
        let mut client = self.client(node, |peer| &peer.polls)?;
        self.metrics.count_forwarded();
        let lost = |status: tonic::Status| no_answer(node, &status);
        let mut items = client.pull_message(forwarded(caller, request, deadline)).await.map_err(lost)?.into_inner();
        let mut contents = Vec::new();
        while let Some(PullMessageResponse { content }) = items.message().await.map_err(lost)? {
            match content {
                Some(pull_message_response::Content::Status(status)) if !is_answer(&status) => {
                    return Err(Refusal::new(Code::try_from(status.code).unwrap_or_default(), status.message));
                }
                content => contents.extend(content),
            }
        }
        Ok(contents)
    }

    fn client(&self, node: NodeId, place: impl Fn(&Peer) -> &OnceLock<Channel>) -> Result<Client, Refusal> {
        let Some(peer) = self.peer(node) else {
            let sentence = format!("node {node} leads, but it serves no RocketMQ clients, as far as this node knows");
            return Err(Refusal::new(Code::InternalServerError, sentence));
        };
        let channel = match place(&peer).get() {
            Some(channel) => channel.clone(),
            None => {
                let endpoint = endpoint(&peer.node)?;
                place(&peer).get_or_init(|| endpoint.connect_lazy()).clone()
            }
        };
        let client = MessagingServiceClient::new(channel);
        Ok(client.max_decoding_message_size(self.message_bytes_max).max_encoding_message_size(self.message_bytes_max))
    }
}

/// Whether the call was done, with messages or without.
fn is_answer(status: &Status) -> bool {
    matches!(Code::try_from(status.code), Ok(Code::Ok | Code::MessageNotFound))
}

fn scheme(host: &str) -> AddressScheme {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => AddressScheme::IPv4,
        Ok(IpAddr::V6(_)) => AddressScheme::IPv6,
        Err(_) => AddressScheme::DomainName,
    }
}

fn endpoint(node: &RocketmqNode) -> Result<Endpoint, Refusal> {
    let host = match node.host.parse::<Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => node.host.clone(),
    };
    let uri = format!("http://{host}:{}", node.port);
    let endpoint = Endpoint::from_shared(uri.clone()).map_err(|error| {
        Refusal::new(Code::InternalServerError, format!("node {} has no usable address {uri}: {error}", node.id))
    })?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT))
}

fn forwarded<R>(caller: &Caller, request: R, deadline: Instant) -> tonic::Request<R> {
    let mut request = tonic::Request::new(request);
    *request.metadata_mut() = caller.forwarded();
    request.set_timeout(deadline.saturating_duration_since(Instant::now()).max(TIMEOUT_MIN));
    request
}

/// A node that cannot be reached may be about to lose its leadership. One that is too slow, or whose connection broke during the
/// call, may have done what was asked: that is not tried again here.
fn no_answer(node: NodeId, status: &tonic::Status) -> Refusal {
    let (code, then) = match status.code() {
        GrpcCode::Unavailable => (Code::HaNotAvailable, ""),
        GrpcCode::DeadlineExceeded | GrpcCode::Cancelled | GrpcCode::Unknown => {
            (Code::ProxyTimeout, "; it may have happened")
        }
        GrpcCode::ResourceExhausted => (Code::TooManyRequests, ""),
        _ => (Code::InternalServerError, ""),
    };
    Refusal::new(code, format!("node {node}, which leads, did not answer: {}{then}", status.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(hosts: &[&str]) -> Peers {
        let node = |(id, host): (u64, &&str)| RocketmqNode { id: NodeId(id), host: (*host).to_owned(), port: 8_081 };
        let nodes = (0..).zip(hosts).map(node).collect();
        let joined = RocketmqNode { id: NodeId(7), host: "joined".to_owned(), port: 8_081 };
        let look_up = Box::new(move |id| Some(joined.clone()).filter(|node| node.id == id));
        Peers::new(&RocketmqConfig { nodes, ..RocketmqConfig::default() }, look_up, Arc::default())
    }

    #[test]
    fn a_node_that_joined_later_is_found() {
        let peers = peers(&["a"]);
        for _ in 0..2 {
            assert_eq!(peers.endpoints(NodeId(7)).unwrap().addresses[0].host, "joined");
        }
    }

    #[test]
    fn an_address_says_what_it_is() {
        let peers = peers(&["10.0.0.1", "broker-1", "::1"]);
        let of = |id| {
            let endpoints = peers.endpoints(NodeId(id)).unwrap();
            (endpoints.scheme(), endpoints.addresses[0].host.clone(), endpoints.addresses.len())
        };
        assert_eq!(of(0), (AddressScheme::IPv4, "10.0.0.1".to_owned(), 1));
        assert_eq!(of(1), (AddressScheme::DomainName, "broker-1".to_owned(), 1));
        assert_eq!(of(2), (AddressScheme::IPv6, "::1".to_owned(), 1));
        assert_eq!(peers.endpoints(NodeId(9)), None);
    }

    #[test]
    fn a_node_without_a_port_is_named() {
        let refusal = peers(&["a"]).client(NodeId(5), |peer| &peer.calls).unwrap_err();
        assert!(refusal.status().message.contains("node 5"));
    }
}
