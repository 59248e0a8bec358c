//! Changes of a broker group's members, each a step that its leader takes and that may be asked for again.
//!
//! ```text
//!  add-node:     add a learner ──▶ it catches up ──▶ make it a voter
//!  remove-node:  retire the id ──▶ (the leader hands over, if it is the one that goes) ──▶ take it out
//!  replace:      both: one change of voters puts the new one in the place of the old one
//! ```
//!
//! Invariant: the voters that a change leads to could elect a leader at once: a majority of them answers, has caught up and is not
//! guarded. Otherwise the change itself could not be committed, and the group would stand still.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use duolog_types::{BrokerGroupId, NodeId};
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;

use crate::admin::AdminReply;
use crate::balance;
use crate::calls;
use crate::cluster::Shared;
use crate::group::{BrokerGroup, MemberView, ProposeError, raft_error};
use crate::type_config::{Member, RaftLogId};

fn done(line: String) -> AdminReply {
    AdminReply::Done { lines: vec![line] }
}

/// The group, if this node leads it; otherwise who should be asked.
fn led(shared: &Shared, id: BrokerGroupId) -> Result<Arc<BrokerGroup>, AdminReply> {
    let failed = |reason| AdminReply::Failed { reason };
    let group = shared.group(id).ok_or_else(|| failed(format!("there is no broker group {id}")))?;
    let leadership = *group.leadership().borrow();
    if leadership.is_self {
        Ok(group)
    } else {
        Err(AdminReply::NotLeader { leader: leadership.leader.map(|node| node.0) })
    }
}

/// How long a change that was made already may take until it is committed.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);

/// "It is so already" holds once the effective membership is committed: until then the next leader may know nothing of it.
struct Effective(Option<RaftLogId>);

impl Effective {
    /// To be called before the members are looked at.
    fn of(group: &BrokerGroup) -> Self {
        Self(*group.raft.server_metrics().borrow_watched().membership_config.log_id())
    }

    /// Gives the line once the membership is committed.
    async fn confirm(self, group: &BrokerGroup, line: String) -> AdminReply {
        let wait = group.raft.wait(Some(COMMIT_PATIENCE));
        let committed = wait.committed_index_at_least(self.0.map(|id| id.index), "the membership is committed").await;
        match committed {
            Ok(_) if Self::of(group).0 == self.0 => done(line),
            _ => AdminReply::Failed {
                reason: format!(
                    "broker group {}: another change of its members is not committed yet; ask again",
                    group.id()
                ),
            },
        }
    }
}

fn refused(id: BrokerGroupId, what: &str, error: &ProposeError) -> AdminReply {
    match error {
        ProposeError::NotLeader { leader } => AdminReply::NotLeader { leader: leader.map(|node| node.0) },
        ProposeError::Unknown(reason) => AdminReply::Failed { reason: format!("broker group {id}: {what}: {reason}") },
    }
}

/// Lets a node copy the group; it does not vote yet.
pub(crate) async fn add_learner(shared: &Shared, id: BrokerGroupId, node: NodeId, member: Member) -> AdminReply {
    let group = match led(shared, id) {
        Ok(group) => group,
        Err(reply) => return reply,
    };
    if shared.retired_nodes().contains(&node) {
        let reason =
            format!("node {node} was removed from the cluster, and an id is never used again: choose a new one");
        return AdminReply::Failed { reason };
    }
    let effective = Effective::of(&group);
    match group.members().into_iter().find(|view| view.node_id == node) {
        Some(view) if view.member.incarnation != member.incarnation => {
            let reason = format!("node {node} is a member already, with another data directory; choose a new id");
            AdminReply::Failed { reason }
        }
        Some(_) => effective.confirm(&group, format!("broker group {id}: node {node} is a member already")).await,
        None => match is_still(shared, node, &member).await {
            Ok(()) => match group.raft.add_learner(node.0, member, false).await {
                Ok(_) => done(format!("broker group {id}: node {node} copies what it lacks")),
                Err(error) => refused(id, &format!("adding node {node}"), &raft_error(&error)),
            },
            Err(reason) => AdminReply::Failed { reason: format!("broker group {id}: {reason}: nothing was changed") },
        },
    }
}

/// Asks a node whether it is what it announced: once it is let in, it may never have another data directory.
async fn is_still(shared: &Shared, node: NodeId, announced: &Member) -> Result<(), String> {
    let silent =
        |reason: &str| format!("node {node} does not answer at {announced} ({reason}); it must run to be let in");
    let client = shared.hooks.connect(node, announced).map_err(|reason| silent(&reason))?;
    let reply = calls::probe(client, None).await.map_err(|status| silent(status.message()))?;
    if reply.node_id != node.0 {
        return Err(format!("at {announced} is node {}, and not node {node}: check [[nodes]]", reply.node_id));
    }
    let own = shared.identity.get();
    let is_of_other = !reply.cluster_id.is_empty() && Some(&reply.cluster_id) != own.cluster_id.as_ref();
    if reply.cluster_name != own.cluster_name || is_of_other {
        return Err(format!(
            "node {node} belongs to another cluster ({:?}): check cluster_name and data_dir",
            reply.cluster_name
        ));
    }
    if reply.incarnation != announced.incarnation {
        return Err(format!(
            "node {node} has another data directory by now (incarnation {}, it had announced {}); run the command again",
            reply.incarnation, announced.incarnation
        ));
    }
    Ok(())
}

/// Makes a learner a voter, takes a member out, or both at once.
pub(crate) async fn change(
    shared: &Shared,
    id: BrokerGroupId,
    add: Option<NodeId>,
    remove: Option<NodeId>,
) -> AdminReply {
    match try_change(shared, id, add, remove).await {
        Ok(reply) | Err(reply) => reply,
    }
}

async fn try_change(
    shared: &Shared,
    id: BrokerGroupId,
    add: Option<NodeId>,
    remove: Option<NodeId>,
) -> Result<AdminReply, AdminReply> {
    let failed = |reason: String| AdminReply::Failed { reason: format!("broker group {id}: {reason}") };
    let group = led(shared, id)?;
    let effective = Effective::of(&group);
    let members = group.members();
    let view = |node: NodeId| members.iter().find(|view| view.node_id == node);
    if let Some(node) = add
        && view(node).is_none()
    {
        return Err(failed(format!("node {node} is no member yet: it must be a learner first")));
    }
    let voters: BTreeSet<NodeId> = members.iter().filter(|view| view.voter).map(|view| view.node_id).collect();
    let wanted: BTreeSet<NodeId> = voters.iter().copied().chain(add).filter(|node| Some(*node) != remove).collect();
    if wanted == voters && remove.is_none_or(|node| view(node).is_none()) {
        let line = format!("broker group {id}: its voters are {} already", list(&voters));
        return Ok(effective.confirm(&group, line).await);
    }
    let ready = ready(shared, &group, &members, &wanted).await;
    let quorum = wanted.len() / 2 + 1;
    if ready.len() < quorum || add.is_some_and(|node| !ready.contains(&node)) {
        return Err(failed(format!(
            "with the voters {} a quorum is {quorum}, but only {} answer and have caught up: nothing was changed",
            list(&wanted),
            list(&ready)
        )));
    }
    if remove == Some(group.node_id()) {
        return Err(hand_over(&group, &ready).await);
    }
    let change = if wanted == voters {
        ChangeMembers::RemoveNodes(remove.into_iter().map(|node| node.0).collect())
    } else {
        ChangeMembers::ReplaceAllVoters(wanted.iter().map(|node| node.0).collect())
    };
    let is_early = group.early().changes;
    let changing = tokio::spawn(async move { group.raft.change_membership(change, false).await });
    if !is_early {
        let changed = changing.await.map_err(|error| failed(error.to_string()))?;
        changed.map_err(|error| refused(id, "changing its members", &raft_error(&error)))?;
    }
    Ok(done(format!("broker group {id}: its voters are {}", list(&wanted))))
}

/// Those that answer, have caught up and may vote.
async fn ready(
    shared: &Shared,
    group: &BrokerGroup,
    members: &[MemberView],
    wanted: &BTreeSet<NodeId>,
) -> BTreeSet<NodeId> {
    let asked = wanted.iter().map(|node| async move {
        let is_ready = balance::status_if_ready(shared, group, members, *node).await.is_some();
        is_ready.then_some(*node)
    });
    futures_util::future::join_all(asked).await.into_iter().flatten().collect()
}

/// A leader does not take itself out: another one leads first, and is asked then.
async fn hand_over(group: &BrokerGroup, ready: &BTreeSet<NodeId>) -> AdminReply {
    let own = group.node_id();
    let Some(to) = ready.iter().copied().find(|node| *node != own) else {
        return AdminReply::Failed {
            reason: format!("nobody can lead broker group {} instead of node {own}", group.id()),
        };
    };
    match group.transfer_leadership(to).await {
        Ok(()) => AdminReply::NotLeader { leader: Some(to.0) },
        Err(error) => AdminReply::Failed { reason: error.to_string() },
    }
}

fn list(nodes: &BTreeSet<NodeId>) -> String {
    let ids: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
}
