//! The admin calls: status of the cluster, changes of its members, recovery after an accepted loss.
//!
//! Requests and replies are JSON inside one gRPC call, so that scripts can use them and a newer CLI may ask an older node.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use duolog_state::Command;
use duolog_state::command::CatalogCommand;
use duolog_types::{BrokerGroupId, FlushWish, NodeId};
use serde::{Deserialize, Serialize};
use tonic::{Code, Request, Status};

use crate::balance;
use crate::cluster::{Cluster, Shared};
use crate::disk_space::DiskState;
use crate::group::{BrokerGroup, MemberView};
use crate::type_config::Member;
use crate::wire::{self, proto};
use crate::{backup, guarding, membership, network};

/// Longest wait for the catalog.
const RETIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// What can be asked of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub enum AdminRequest {
    /// The cluster as this node sees it.
    Status,
    /// Let a node copy a broker group that this node leads; it does not vote yet.
    AddLearner {
        /// The broker group.
        broker_group: u32,
        /// The node; it must be running and waiting.
        node: u64,
        /// Its addresses and incarnation, as it announced them.
        member: Member,
    },
    /// Change the voters of a broker group that this node leads; refused when a quorum of the new ones is not ready.
    ChangeVoters {
        /// The broker group.
        broker_group: u32,
        /// A learner that has caught up.
        add: Option<u64>,
        /// A member that goes.
        remove: Option<u64>,
    },
    /// Never use the id of a node again.
    Retire {
        /// The node.
        node: u64,
    },
    /// Write a backup of everything that this node has applied.
    Backup {
        /// A directory of the node's machine, new or empty.
        path: PathBuf,
        /// Whether entries behind what was applied count, too, as if they were committed.
        #[serde(default)]
        with_uncommitted: bool,
    },
    /// Lead nothing for as long as another node can, or do so again.
    Drain {
        /// Whether this node is drained from now on.
        on: bool,
    },
    /// Whether this node knows a node that waits to be let in.
    Announced {
        /// The waiting node.
        node: u64,
    },
    /// What would be lost if this node voted again although it is guarded.
    RecoverPreview,
    /// Let this node vote again although it is guarded.
    RecoverAcceptLoss,
    /// Hand a broker group to the voter that it prefers, if this node leads it.
    HandToPreferred {
        /// The broker group.
        broker_group: u32,
    },
}

/// A node's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum AdminReply {
    /// To `Status`.
    Status(StatusReply),
    /// What was done.
    Done {
        /// One line per step.
        lines: Vec<String>,
    },
    /// To `Announced`.
    Announced {
        /// The node, if it is known.
        member: Option<Member>,
    },
    /// Ask the leader of the broker group.
    NotLeader {
        /// Who leads it, if known.
        leader: Option<u64>,
    },
    /// Something went wrong.
    Failed {
        /// What, and what to do.
        reason: String,
    },
}

/// The cluster as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReply {
    /// Its name.
    pub cluster_name: String,
    /// Its id.
    pub cluster_id: Option<String>,
    /// The node that answered.
    pub node_id: u64,
    /// Every broker group.
    pub groups: Vec<GroupStatus>,
}

/// A broker group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Its id.
    pub id: u32,
    /// Its term.
    pub term: u64,
    /// Its leader, if known.
    pub leader: Option<u64>,
    /// Its replicas.
    pub replicas: Vec<ReplicaStatus>,
}

/// A replica of a broker group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Its node.
    pub node_id: u64,
    /// Address for calls between nodes.
    pub address: String,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it answered.
    pub reachable: bool,
    /// Whether the power-loss guard holds.
    pub guarded: bool,
    /// Whether the node gives its leaderships away.
    #[serde(default)]
    pub drained: bool,
    /// What its disk still allows.
    #[serde(default)]
    pub disk: DiskState,
    /// Its last log index, if it answered.
    pub last_index: Option<u64>,
    /// Its last flushed log index.
    pub flushed_index: Option<u64>,
    /// Next log index that it will apply.
    pub applied_next: u64,
}

/// Asks a node.
///
/// # Errors
/// It does not answer, or its answer is not understood.
pub async fn call(address: &str, request: &AdminRequest) -> Result<AdminReply, String> {
    let (host, port) = address.rsplit_once(':').ok_or_else(|| format!("{address:?}: expected HOST:PORT"))?;
    let port = port.parse().map_err(|_| format!("{address:?}: expected HOST:PORT, {port:?} is no port"))?;
    let timeout = match request {
        // It copies everything.
        AdminRequest::Backup { .. } => Duration::from_secs(86_400),
        _ => Duration::from_secs(600),
    };
    call_within(host, port, request, Instant::now() + timeout).await
}

/// Asks a node, for no longer than until `deadline`.
pub(crate) async fn call_within(
    host: &str,
    grpc_port: u16,
    request: &AdminRequest,
    deadline: Instant,
) -> Result<AdminReply, String> {
    let address = format!("{host}:{grpc_port}");
    let mut client = network::connect(host, grpc_port, None)?;
    let json = serde_json::to_string(request).map_err(|error| error.to_string())?;
    let mut message = Request::new(proto::AdminRequest { json });
    message.set_timeout(deadline.saturating_duration_since(Instant::now()));
    let reply = client.admin(message).await.map_err(|status| format!("{address} {}", fault(&status)))?;
    serde_json::from_str(&reply.into_inner().json).map_err(|error| {
        format!("the answer of {address} is not understood ({error}): it runs another version of Duolog than who asks")
    })
}

/// Why a call has no reply. What the other side says itself has no cause here. Of the rest tonic says little more than "tcp connect error", so
/// the cause at the bottom is told as well.
fn fault(status: &Status) -> String {
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    let mut root = None;
    while let Some(error) = cause {
        root = Some(error.to_string());
        cause = error.source();
    }
    match root {
        None if status.code() == Code::Unimplemented => {
            "does not know the call: is this the port for calls between nodes (listen.grpc)?".to_owned()
        }
        None => format!("refuses the call: {}", status.message()),
        Some(root) if root == status.message() => format!("does not answer: {root}"),
        Some(root) => format!("does not answer: {}: {root}", status.message()),
    }
}

/// Answers a call.
pub(crate) async fn handle(shared: &Arc<Shared>, json: &str) -> String {
    let reply = match serde_json::from_str::<AdminRequest>(json) {
        Ok(request) => answer(shared, request).await.unwrap_or_else(|reason| AdminReply::Failed { reason }),
        Err(error) => AdminReply::Failed {
            reason: format!(
                "the request is not understood ({error}): the node runs another version of Duolog than who asks"
            ),
        },
    };
    serde_json::to_string(&reply).expect("a reply is plain data")
}

async fn answer(shared: &Arc<Shared>, request: AdminRequest) -> Result<AdminReply, String> {
    match request {
        AdminRequest::Status => Ok(AdminReply::Status(status(shared).await)),
        AdminRequest::AddLearner { broker_group, node, member } => {
            Ok(membership::add_learner(shared, BrokerGroupId(broker_group), NodeId(node), member).await)
        }
        AdminRequest::ChangeVoters { broker_group, add, remove } => {
            Ok(membership::change(shared, BrokerGroupId(broker_group), add.map(NodeId), remove.map(NodeId)).await)
        }
        AdminRequest::Retire { node } => retire(shared, NodeId(node)).await,
        AdminRequest::Backup { path, with_uncommitted } => {
            let lines = backup::write(shared, &path, with_uncommitted).await;
            let lines = lines.map_err(|error| format!("no backup was made: {error}"))?;
            Ok(AdminReply::Done { lines })
        }
        AdminRequest::Drain { on } => drain(shared, on).await,
        AdminRequest::Announced { node } => {
            let known = shared.known_member(NodeId(node)).or_else(|| shared.announced_member(NodeId(node)));
            Ok(AdminReply::Announced { member: known })
        }
        AdminRequest::RecoverPreview => Ok(AdminReply::Done { lines: at_stake(shared).await }),
        AdminRequest::RecoverAcceptLoss => {
            let lines = at_stake(shared).await;
            let guarded = shared.guard.guarded();
            shared.guard.release_all().map_err(|error| error.to_string())?;
            for group in guarded.into_iter().filter_map(|id| shared.group(id)) {
                guarding::let_stand(&group, true);
            }
            Ok(AdminReply::Done { lines })
        }
        AdminRequest::HandToPreferred { broker_group } => {
            let group = shared.group(BrokerGroupId(broker_group));
            let group = group.ok_or_else(|| format!("this node has no replica of broker group {broker_group}"))?;
            balance::hand_to_preferred(shared, &group).await?;
            Ok(AdminReply::Done { lines: Vec::new() })
        }
    }
}

impl Cluster {
    /// A broker group as this node sees it, each replica asked for its state; `None` when there is no such group here.
    pub async fn group_status(&self, group: BrokerGroupId) -> Option<GroupStatus> {
        Some(group_status(self.shared(), self.group(group)?).await)
    }
}

async fn status(shared: &Arc<Shared>) -> StatusReply {
    let file = shared.identity.get();
    let mut groups = Vec::new();
    for group in shared.groups() {
        groups.push(group_status(shared, group).await);
    }
    StatusReply { cluster_name: file.cluster_name, cluster_id: file.cluster_id, node_id: file.node_id.0, groups }
}

/// A broker group; its members are asked side by side.
pub(crate) async fn group_status(shared: &Shared, group: &BrokerGroup) -> GroupStatus {
    let leadership = *group.leadership().borrow();
    let members = group.members();
    let asked = members.iter().map(|view| replica_status(shared, group, view));
    GroupStatus {
        id: group.id().0,
        term: leadership.term.0,
        leader: leadership.leader.map(|id| id.0),
        replicas: futures_util::future::join_all(asked).await,
    }
}

async fn replica_status(shared: &Shared, group: &BrokerGroup, view: &MemberView) -> ReplicaStatus {
    let status = shared.ask_status(group.id(), view.node_id, &view.member).await;
    ReplicaStatus {
        node_id: view.node_id.0,
        address: view.member.to_string(),
        voter: view.voter,
        reachable: status.is_some(),
        guarded: status.as_ref().is_some_and(|status| status.guarded),
        drained: status.as_ref().is_some_and(|status| status.drained),
        disk: status.as_ref().map_or(DiskState::Writable, |status| wire::disk_from_wire(status.disk())),
        last_index: status.as_ref().and_then(|status| status.last).map(|id| id.index),
        flushed_index: status.as_ref().and_then(|status| status.flushed).map(|id| id.index),
        applied_next: status.as_ref().map_or(0, |status| status.applied_next),
    }
}

/// One line per guarded group: what this node has, what the others have, what may be missing.
async fn at_stake(shared: &Arc<Shared>) -> Vec<String> {
    let mut lines = Vec::new();
    for group in shared.guard.guarded().into_iter().filter_map(|id| shared.group(id)) {
        let own = group.log().last().map_or(0, |(_, index)| index.0 + 1);
        let mut silent = BTreeSet::new();
        let mut best = own;
        for view in group.members().into_iter().filter(|view| view.voter && view.node_id != shared.node_id()) {
            match shared.ask_status(group.id(), view.node_id, &view.member).await {
                Some(status) => best = best.max(status.last.map_or(0, |id| id.index + 1)),
                None => {
                    silent.insert(view.node_id.0);
                }
            }
        }
        lines.push(format!(
            "broker group {}: this node lost power and has {own} entries; the members that answer have up to {best}. Members \
             that do not answer: {silent:?}. Lost for good would be every record of a topic with flush=async that was \
             acknowledged in the last flush interval before the loss of power and is held by none of those that answer; with \
             replication=async also what only a silent member holds",
            group.id()
        ));
    }
    if lines.is_empty() {
        lines.push("this node is not guarded: nothing to recover".to_owned());
    }
    lines
}

/// Proposed to the system group, wherever it is led.
async fn retire(shared: &Shared, node: NodeId) -> Result<AdminReply, String> {
    let command = Command::Catalog(CatalogCommand::RetireNode { node }).encode();
    let deadline = Instant::now() + RETIRE_TIMEOUT;
    let retired = shared.propose(BrokerGroupId::SYSTEM, command, FlushWish::Now, deadline).await;
    retired.map_err(|error| format!("the id of node {node} cannot be retired: {error}"))?;
    Ok(AdminReply::Done { lines: vec![format!("the id of node {node} is never used again")] })
}

async fn drain(shared: &Arc<Shared>, on: bool) -> Result<AdminReply, String> {
    shared.drain.set(on).map_err(|error| format!("the marker of a drained node: {error}"))?;
    if on {
        balance::hand_over_everything(shared).await;
    }
    let led: Vec<String> = shared
        .groups()
        .filter(|group| group.leadership().borrow().is_self)
        .map(|group| group.id().to_string())
        .collect();
    let node = shared.node_id();
    let line = match (on, led.is_empty()) {
        (true, true) => format!("node {node} is drained: it leads nothing"),
        (true, false) => {
            format!("node {node} still leads the broker groups {}: no other node is ready", led.join(", "))
        }
        (false, _) => format!("node {node} leads again what it should, as soon as it has caught up"),
    };
    Ok(AdminReply::Done { lines: vec![line] })
}
