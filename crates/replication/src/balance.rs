//! Leaders spread over the nodes: each group prefers one voter, and goes back to it when it has caught up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use duolog_types::{BrokerGroupId, NodeId};

use crate::admin::{self, AdminReply, AdminRequest};
use crate::cluster::{Cluster, Shared};
use crate::group::{BrokerGroup, MemberView};
use crate::wire::proto;

const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// A voter this many entries behind does not take over.
const LAG_ENTRIES_MAX: u64 = 1_000;
/// Looks in a row that must find the preferred voter ready: a node that comes and goes takes no leadership.
const STEADY_LOOKS: u32 = 3;

/// Runs as long as the node does.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(LOOK_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut steady = std::collections::BTreeMap::new();
    loop {
        tick.tick().await;
        for group in shared.groups() {
            let looks = steady.entry(group.id()).or_insert(0);
            match overdue(&shared, group).await {
                Some(preferred) => {
                    *looks += 1;
                    if *looks >= STEADY_LOOKS {
                        *looks = 0;
                        tracing::info!(broker_group = %group.id(), to = %preferred, "handing leadership to the preferred node");
                        if let Err(error) = group.transfer_leadership(preferred).await {
                            tracing::warn!(broker_group = %group.id(), %error, "cannot hand over leadership");
                        }
                    }
                }
                None => *looks = 0,
            }
        }
    }
}

/// Voters in the order in which a group prefers them: groups go round the voters by id.
pub(crate) fn by_preference(group: BrokerGroupId, members: &[MemberView]) -> Vec<NodeId> {
    let mut voters: Vec<NodeId> = members.iter().filter(|view| view.voter).map(|view| view.node_id).collect();
    voters.sort_unstable();
    let turn = group.0 as usize % voters.len().max(1);
    voters.rotate_left(turn);
    voters
}

impl Cluster {
    /// Hands a broker group to the voter that it prefers: asked of the leader, wherever it is. Returns once it is gone, or after a while.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn hand_to_preferred(&self, group: BrokerGroupId, deadline: Instant) -> Result<(), String> {
        let replica = self.group(group).ok_or_else(|| format!("no broker group {group}"))?;
        let leader = replica.leadership().borrow().leader;
        let leader = leader.ok_or_else(|| format!("broker group {group} has no leader at the moment"))?;
        if leader == self.shared().node_id() {
            return hand_to_preferred(self.shared(), replica).await;
        }
        let members = replica.members();
        let member = members.iter().find(|view| view.node_id == leader).map(|view| &view.member);
        let member = member.ok_or_else(|| format!("node {leader} is no member of broker group {group}"))?;
        let request = AdminRequest::HandToPreferred { broker_group: group.0 };
        let call = admin::call_within(&member.host, member.grpc_port, &request, deadline);
        match call.await? {
            AdminReply::Failed { reason } => Err(reason),
            AdminReply::NotLeader { .. } => Err(format!("node {leader} does not lead broker group {group} any more")),
            AdminReply::Done { .. } | AdminReply::Status(_) | AdminReply::Announced { .. } => Ok(()),
        }
    }
}

/// Hands a group that this node leads to the voter that it prefers; returns once it is gone, or after a while.
///
/// # Errors
/// Why not, in words.
pub(crate) async fn hand_to_preferred(shared: &Shared, group: &BrokerGroup) -> Result<(), String> {
    let members = group.members();
    let preferred = by_preference(group.id(), &members).first().copied();
    let preferred = preferred.ok_or_else(|| format!("broker group {} has no voters yet", group.id()))?;
    if !group.leadership().borrow().is_self {
        return Err(format!("node {} does not lead broker group {} any more", shared.node_id(), group.id()));
    }
    if preferred == shared.node_id() {
        return Ok(());
    }
    if !is_ready(shared, group, &members, preferred).await {
        return Err(format!(
            "node {preferred} does not answer, is drained, or is too far behind in broker group {}",
            group.id()
        ));
    }
    group.transfer_leadership(preferred).await.map_err(|error| error.to_string())
}

/// The preferred voter, if this node leads in its place and it is ready to take over.
async fn overdue(shared: &Shared, group: &BrokerGroup) -> Option<NodeId> {
    if !group.leadership().borrow().is_self {
        return None;
    }
    let members = group.members();
    let own_drained = shared.drain.is_on();
    for preferred in by_preference(group.id(), &members) {
        if preferred == shared.node_id() {
            if own_drained {
                continue;
            }
            return None;
        }
        match status_if_ready(shared, group, &members, preferred).await {
            Some(status) if !status.drained => return Some(preferred),
            Some(_) => {}
            // It comes back; until then this node goes on, unless it should lead nothing.
            None if !own_drained => return None,
            None => {}
        }
    }
    None
}

/// Whether a voter could lead now, and wants to.
async fn is_ready(shared: &Shared, group: &BrokerGroup, members: &[MemberView], node: NodeId) -> bool {
    status_if_ready(shared, group, members, node).await.is_some_and(|status| !status.drained)
}

/// A member's state, if it answers, has caught up and may vote.
pub(crate) async fn status_if_ready(
    shared: &Shared,
    group: &BrokerGroup,
    members: &[MemberView],
    node: NodeId,
) -> Option<proto::ReplicaStatusReply> {
    let view = members.iter().find(|view| view.node_id == node)?;
    let status = shared.ask_status(group.id(), node, &view.member).await?;
    let own_last = group.log().last().map_or(0, |(_, index)| index.0);
    let its_last = status.flushed.map_or(0, |id| id.index);
    (!status.guarded && its_last + LAG_ENTRIES_MAX >= own_last).then_some(status)
}

/// Before a planned stop: every group that this node leads goes to the voter that has most of the log.
pub(crate) async fn hand_over_everything(shared: &Arc<Shared>) {
    for group in shared.groups() {
        if !group.leadership().borrow().is_self {
            continue;
        }
        let members = group.members();
        let mut ready = None;
        for view in members.iter().filter(|view| view.voter && view.node_id != shared.node_id()) {
            if is_ready(shared, group, &members, view.node_id).await {
                ready = Some(view.node_id);
                break;
            }
        }
        let Some(to) = ready else { continue };
        // Without success the others elect a leader after the lease.
        if let Err(error) = group.transfer_leadership(to).await {
            tracing::warn!(broker_group = %group.id(), %error, "cannot hand over leadership");
        }
    }
}
