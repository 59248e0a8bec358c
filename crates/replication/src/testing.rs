//! What the tests reach into. A running broker uses none of it: [`Hooks::default`] changes nothing.

use std::sync::Arc;
use std::time::Duration;

use duolog_types::{BrokerGroupId, NodeId};
use openraft::Config;
use tonic::Request;

use crate::admin::{self, AdminReply, AdminRequest};
use crate::cluster::Cluster;
use crate::net::Net;
use crate::network::{self, Client};
use crate::service::current_vote;
use crate::snapshot::{self, Transfer};
use crate::type_config::Member;
use crate::wire::proto;

/// Where a member is called.
pub type AddressOf = Arc<dyn Fn(NodeId) -> (String, u16) + Send + Sync>;

/// What a test changes of a node.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Members are called here, at the test's own proxies, instead of at the addresses that the membership records.
    pub address_of: Option<AddressOf>,
    /// The network between nodes, when it is not TCP.
    pub net: Option<Arc<dyn Net>>,
    /// Changes openraft's configuration before it is checked.
    pub configure: Option<fn(&mut Config)>,
    /// Starts with a configuration that the check would refuse.
    pub skip_config_check: bool,
    /// Called by a node whose state is damaged, between comparing its log with that of another node and copying the state from there.
    pub before_copy: Option<Arc<dyn Fn() + Send + Sync>>,
    /// A node that initializes the cluster stands still when so many broker groups have begun, as one does that is killed then.
    pub groups_begun_max: Option<usize>,
    /// Bugs.
    pub early: Early,
}

/// What a node does too early: bugs that a simulation plants, to see that they are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Early {
    /// What the leader has written counts as committed when producers are answered.
    pub acks: bool,
    /// Committed entries are applied before they are flushed here.
    pub apply: bool,
    /// Commits of offsets are answered when they are proposed.
    pub offset_commits: bool,
    /// Deliveries of single messages and their acknowledgements are answered when they are proposed.
    pub deliveries: bool,
    /// A leader answers although no quorum has confirmed it lately.
    pub leases: bool,
    /// Changes of the members are answered when they are proposed.
    pub changes: bool,
}

impl Hooks {
    pub(crate) fn connect(&self, node: NodeId, member: &Member) -> Result<Client, String> {
        match &self.address_of {
            None => network::connect(&member.host, member.grpc_port, self.net.clone()),
            Some(address_of) => {
                let (host, port) = address_of(node);
                network::connect(&host, port, self.net.clone())
            }
        }
    }
}

/// Ends a node as kill -9 does: nothing is handed over, flushed or marked, and every task is gone when this returns. What
/// is left of its threads ends when the node is dropped.
pub fn kill(node: &Cluster) {
    if let Some(runtime) = node.take_runtime() {
        runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

/// What `node` answers to an admin call, without a connection.
///
/// # Errors
/// Its answer is not understood.
pub async fn admin(node: &Cluster, request: &AdminRequest) -> Result<AdminReply, String> {
    let json = serde_json::to_string(request).map_err(|error| error.to_string())?;
    serde_json::from_str(&admin::handle(node.shared(), &json).await).map_err(|error| error.to_string())
}

/// A way into an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ballot {
    /// Asks whether a vote would be granted.
    PreVote,
    /// Asks for a vote, as a candidate to whom leadership was transferred: leases do not count.
    Vote,
    /// Tells a node to stand, as the leader of the term.
    Transfer,
}

/// Calls `to` as `from` would, with some of the metadata that says who calls whom replaced. Gives what each kind of call was
/// refused with; `None` for one that was taken.
///
/// # Errors
/// `to` is no member that `from` knows.
pub async fn pretend(
    from: &Cluster,
    group: BrokerGroupId,
    to: NodeId,
    replaced: &[(&'static str, &str)],
) -> Result<Vec<(&'static str, Option<String>)>, String> {
    let shared = from.shared();
    let replica = shared.group(group).ok_or("no such broker group")?;
    let view = replica.members().into_iter().find(|view| view.node_id == to).ok_or("no such member")?;
    let mut client = shared.hooks.connect(to, &view.member)?;
    // A term that would depose any leader.
    let vote = proto::Vote { term: 1_000_000, node_id: shared.node_id().0, committed: true };
    let last = Some(proto::LogId { term: 1_000_000, index: 1_000_000 });
    let append =
        proto::AppendRequest { group: group.0, vote: Some(vote), prev: None, leader_commit: None, entries: Vec::new() };
    let ballot = proto::VoteRequest {
        group: group.0,
        vote: Some(proto::Vote { committed: false, ..vote }),
        last,
        leadership_transfer: true,
    };
    let transfer = proto::TransferRequest { group: group.0, from: Some(vote), to: to.0, last };
    let propose = proto::ProposeRequest { group: group.0, command: bytes::Bytes::from_static(b"x"), flush: 0 };
    let chunk = proto::SnapshotChunk::default();
    macro_rules! call {
        ($call:ident, $message:expr) => {{
            let mut request = Request::new($message);
            shared.identity.sign(&mut request, to, &view.member.incarnation);
            for (key, value) in replaced {
                request.metadata_mut().insert(*key, value.parse().map_err(|_| "no metadata value")?);
            }
            let answer = client.$call(request).await;
            (stringify!($call), answer.err().map(|status| status.message().to_owned()))
        }};
    }
    Ok(vec![
        call!(append, tokio_stream::iter([append.clone()])),
        call!(heartbeat, append),
        call!(vote, ballot),
        call!(pre_vote, ballot),
        call!(transfer_leader, transfer),
        call!(install_snapshot, tokio_stream::iter([chunk])),
        call!(replica_status, proto::ReplicaStatusRequest { group: group.0 }),
        call!(propose, propose),
    ])
}

/// Sends a snapshot of `from` to `to`, whether it needs one or not.
///
/// # Errors
/// `to` is no member that `from` knows, or it did not take the snapshot.
pub async fn send_snapshot(from: &Cluster, group: BrokerGroupId, to: NodeId) -> Result<(), String> {
    let shared = from.shared();
    let replica = shared.group(group).ok_or("no such broker group")?;
    let view = replica.members().into_iter().find(|view| view.node_id == to).ok_or("no such member")?;
    let transfer = Transfer {
        client: shared.hooks.connect(to, &view.member)?,
        identity: shared.identity.clone(),
        group: group.0,
        vote: current_vote(&replica),
        target: to,
        target_incarnation: view.member.incarnation.clone(),
        source: replica.cell.clone(),
        scrub: replica.scrub.clone(),
    };
    snapshot::send(transfer).await.map(drop)
}

/// Asks `to` in the name of `from`, whose log counts. `Err` is why there was no answer of Raft itself.
///
/// # Errors
/// The call was refused, or `to` cannot be reached.
pub async fn ask(from: &Cluster, group: BrokerGroupId, to: NodeId, term: u64, ballot: Ballot) -> Result<bool, String> {
    let shared = from.shared();
    let replica = shared.group(group).ok_or("no such broker group")?;
    let view = replica.members().into_iter().find(|view| view.node_id == to).ok_or("no such member")?;
    let mut client = shared.hooks.connect(to, &view.member)?;
    let last = replica.log().last().map(|(term, index)| proto::LogId { term: term.0, index: index.0 });
    let vote = proto::Vote { term, node_id: shared.node_id().0, committed: ballot == Ballot::Transfer };
    let vote_request = proto::VoteRequest { group: group.0, vote: Some(vote), last, leadership_transfer: true };
    let refused = |status: tonic::Status| status.message().to_owned();
    match ballot {
        Ballot::PreVote | Ballot::Vote => {
            let mut request = Request::new(vote_request);
            shared.identity.sign(&mut request, to, &view.member.incarnation);
            let reply = match ballot {
                Ballot::PreVote => client.pre_vote(request).await,
                _ => client.vote(request).await,
            };
            Ok(reply.map_err(refused)?.into_inner().granted)
        }
        Ballot::Transfer => {
            let mut request = Request::new(proto::TransferRequest { group: group.0, from: Some(vote), to: to.0, last });
            shared.identity.sign(&mut request, to, &view.member.incarnation);
            match client.transfer_leader(request).await.map_err(refused)?.into_inner().refused {
                refused if refused.is_empty() => Ok(true),
                refused => Err(refused),
            }
        }
    }
}
