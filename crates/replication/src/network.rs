//! openraft's network to one member of a broker group, over tonic.
//!
//! Replication, heartbeats and snapshots use connections of their own, so that a full append stream delays no heartbeat.
//! AppendEntries are pipelined on one stream per session; *received* marks come back on the same stream.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryFutureExt};
use hyper_util::rt::TokioIo;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, Snapshot};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

use duolog_types::NodeId;

use crate::identity::Identity;
use crate::lease::Lease;
use crate::marks::ReceivedMarks;
use crate::net::Net;
use crate::scrub::Scrub;
use crate::snapshot::{self, SnapshotHandle, SnapshotSource};
use crate::testing::Hooks;
use crate::type_config::{Member, RaftLogId, RaftVote, TypeConfig, term_of};
use crate::watermarks::Mark;
use crate::wire::{self, proto};

/// Requests that wait between openraft's request stream and the connection; each holds up to 1 MiB.
const QUEUED_REQUESTS_MAX: usize = 4;
/// HTTP/2 windows: with less, one round trip per window would limit a stream.
const WINDOW_BYTES: u32 = 8 << 20;
/// Setting up a stream or a control call.
const CONTROL_TIMEOUT: Duration = Duration::from_millis(1_000);

pub(crate) type Client = proto::cluster_client::ClusterClient<Channel>;
type BoxFuture<'a, T> = futures_util::future::BoxFuture<'a, T>;

/// A lazily connected client. It reconnects by itself.
pub(crate) fn connect(host: &str, grpc_port: u16, net: Option<Arc<dyn Net>>) -> Result<Client, String> {
    let endpoint = Endpoint::from_shared(format!("http://{host}:{grpc_port}"))
        .map_err(|error| format!("address {host}:{grpc_port}: {error}"))?
        .connect_timeout(Duration::from_millis(500))
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        // A peer that vanished without a reset is noticed; a paused one is not given up within an election or two.
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    let channel = match net {
        None => endpoint.connect_lazy(),
        Some(net) => endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
            let connection = net.connect(uri.host().unwrap_or_default().to_owned(), uri.port_u16().unwrap_or_default());
            connection.map_ok(TokioIo::new)
        })),
    };
    Ok(Client::new(channel)
        .max_decoding_message_size(wire::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(wire::MESSAGE_BYTES_MAX))
}

/// What all connections of a broker group share.
pub(crate) struct GroupNetwork {
    pub(crate) group: u32,
    pub(crate) identity: Arc<Identity>,
    pub(crate) marks: Arc<ReceivedMarks>,
    pub(crate) lease: Arc<Lease>,
    pub(crate) snapshots: Arc<dyn SnapshotSource>,
    pub(crate) scrub: Arc<Scrub>,
    pub(crate) hooks: Hooks,
}

impl GroupNetwork {
    /// Whoever does not name a higher vote follows the leader of `term`.
    fn confirmed_by(&self, node: u64, response: &AppendEntriesResponse<TypeConfig>, term: u64, sent_at: Instant) {
        match response {
            AppendEntriesResponse::Success
            | AppendEntriesResponse::PartialSuccess(_)
            | AppendEntriesResponse::Conflict => self.lease.confirmed(term, node, sent_at),
            AppendEntriesResponse::HigherVote(_) => {}
        }
    }
}

/// Makes connections to members.
#[derive(Clone)]
pub(crate) struct PeerFactory(pub(crate) Arc<GroupNetwork>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Append,
    Heartbeat,
    Snapshot,
}

/// A connection to one member for one purpose.
pub(crate) struct Peer {
    shared: Arc<GroupNetwork>,
    target: u64,
    member: Member,
    purpose: Purpose,
    client: Result<Client, String>,
}

impl PeerFactory {
    fn peer(&self, target: u64, member: &Member, purpose: Purpose) -> Peer {
        Peer {
            shared: self.0.clone(),
            target,
            member: member.clone(),
            purpose,
            client: self.0.hooks.connect(NodeId(target), member),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for PeerFactory {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Member) -> Peer {
        self.peer(target, node, Purpose::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> Peer {
        self.peer(target, node, Purpose::Heartbeat)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Member) -> Peer {
        self.peer(target, node, Purpose::Snapshot)
    }
}

fn rpc_error(status: &Status) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(status.message()))
}

impl Peer {
    fn client(&self) -> Result<Client, RPCError<TypeConfig>> {
        self.client.clone().map_err(|error| RPCError::Unreachable(Unreachable::from_string(error)))
    }

    fn sign<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        self.shared.identity.sign(&mut request, NodeId(self.target), &self.member.incarnation);
        request
    }

    fn timed<T>(&self, message: T, timeout: Duration) -> Request<T> {
        let mut request = self.sign(message);
        request.set_timeout(timeout);
        request
    }
}

/// Ends the sender with its response stream: it holds a lock that the next session needs.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A request that was sent and not answered yet.
struct Sent {
    prev: Option<RaftLogId>,
    last: Option<RaftLogId>,
    term: u64,
    /// Before it was sent, whatever that means for a process that is paused.
    at: Instant,
}

/// Requests in the order in which they were sent, which is that of the answers.
type Unanswered = Arc<Mutex<VecDeque<Sent>>>;

struct Session {
    frames: tonic::Streaming<proto::AppendReply>,
    unanswered: Unanswered,
    shared: Arc<GroupNetwork>,
    target: u64,
    ended: bool,
    _sender: AbortOnDrop,
}

impl Session {
    /// The next answer; *received* marks on the way are taken note of.
    async fn next(&mut self) -> Option<Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>> {
        if self.ended {
            return None;
        }
        loop {
            let reply = match self.frames.message().await {
                Ok(Some(reply)) => reply,
                Ok(None) => return None,
                Err(status) => {
                    self.ended = true;
                    return Some(Err(RPCError::Network(NetworkError::from_string(status.message()))));
                }
            };
            match reply.kind {
                Some(proto::append_reply::Kind::Received(id)) => {
                    self.shared.marks.update(self.target, Mark { term: id.term, index: id.index });
                }
                Some(proto::append_reply::Kind::Answer(answer)) => return Some(self.answered(&answer)),
                None => {}
            }
        }
    }

    fn answered(
        &mut self,
        answer: &proto::AppendAnswer,
    ) -> Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>> {
        let Some(Sent { prev, last, term, at }) = self.unanswered.lock().pop_front() else {
            self.ended = true;
            return Err(RPCError::Network(NetworkError::from_string("an answer without a request")));
        };
        let response = wire::answer_from_wire(answer).map_err(|status| rpc_error(&status))?;
        self.shared.confirmed_by(self.target, &response, term, at);
        let partial = matches!(response, AppendEntriesResponse::PartialSuccess(_));
        let result = response.into_stream_result(prev, last);
        if let Ok(Some(flushed)) = &result {
            self.shared.marks.update(self.target, Mark { term: term_of(flushed), index: flushed.index });
        }
        self.ended = partial || result.is_err();
        Ok(result)
    }
}

async fn send_requests<S>(group: u32, mut input: S, sender: mpsc::Sender<proto::AppendRequest>, unanswered: Unanswered)
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    while let Some(request) = input.next().await {
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        unanswered.lock().push_back(Sent {
            prev: request.prev_log_id,
            last,
            term: request.vote.leader_id.term,
            at: Instant::now(),
        });
        if sender.send(wire::append_to_wire(group, &request)).await.is_err() {
            return;
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotHandle;

    /// One AppendEntries as a call: heartbeats only.
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = self.timed(wire::append_to_wire(self.shared.group, &rpc), option.hard_ttl());
        let sent_at = Instant::now();
        let answer = self.client()?.heartbeat(request).await.map_err(|status| rpc_error(&status))?;
        let response = wire::answer_from_wire(answer.get_ref()).map_err(|status| rpc_error(&status))?;
        self.shared.confirmed_by(self.target, &response, rpc.vote.leader_id.term, sent_at);
        Ok(response)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>, RPCError<TypeConfig>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.purpose == Purpose::Heartbeat {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            // openraft waits out its backoff inside of the request stream, so nothing is tried before the first request.
            let Some(first) = input.next().await else { return Ok(futures_util::stream::empty().boxed()) };
            let input = futures_util::stream::iter([first]).chain(input);
            let mut client = self.client()?;
            let unanswered = Unanswered::default();
            let (sender, receiver) = mpsc::channel(QUEUED_REQUESTS_MAX);
            let sending = tokio::spawn(send_requests(self.shared.group, input, sender, unanswered.clone()));
            let sending = AbortOnDrop(sending);
            let request = self.sign(ReceiverStream::new(receiver));
            let response = tokio::time::timeout(CONTROL_TIMEOUT, client.append(request))
                .await
                .map_err(|_| RPCError::Unreachable(Unreachable::from_string("no answer to a new append stream")))?
                .map_err(|status| rpc_error(&status))?;
            let session = Session {
                frames: response.into_inner(),
                unanswered,
                shared: self.shared.clone(),
                target: self.target,
                ended: false,
                _sender: sending,
            };
            let stream = futures_util::stream::unfold(session, |mut session| async move {
                let item = session.next().await?;
                Some((item, session))
            });
            Ok(stream.boxed())
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = self.timed(wire::vote_request_to_wire(self.shared.group, &rpc), CONTROL_TIMEOUT);
        let reply = self.client()?.vote(request).await.map_err(|status| rpc_error(&status))?;
        wire::vote_reply_from_wire(reply.get_ref()).map_err(|status| rpc_error(&status))
    }

    /// An error when the peer cannot be reached: openraft's default would grant.
    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = self.timed(wire::vote_request_to_wire(self.shared.group, &rpc), CONTROL_TIMEOUT);
        let reply = self.client()?.pre_vote(request).await.map_err(|status| rpc_error(&status))?;
        wire::vote_reply_from_wire(reply.get_ref()).map_err(|status| rpc_error(&status))
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        _: Snapshot<crate::type_config::CommittedLeaderId, u64, Member, SnapshotHandle>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let client = self.client().map_err(|_| StreamingError::Unreachable(Unreachable::from_string("no address")))?;
        let sending = snapshot::send(snapshot::Transfer {
            client,
            group: self.shared.group,
            vote,
            identity: self.shared.identity.clone(),
            target: NodeId(self.target),
            target_incarnation: self.member.incarnation.clone(),
            source: self.shared.snapshots.clone(),
            scrub: self.shared.scrub.clone(),
        })
        .map_err(|error| StreamingError::Unreachable(Unreachable::from_string(error)));
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sending => sent.map(SnapshotResponse::new),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = self.timed(wire::transfer_to_wire(self.shared.group, &req), CONTROL_TIMEOUT);
        let reply = self.client()?.transfer_leader(request).await.map_err(|status| rpc_error(&status))?;
        match reply.into_inner().refused {
            refused if refused.is_empty() => Ok(Ok(())),
            refused => Err(RPCError::Unreachable(Unreachable::from_string(refused))),
        }
    }
}
