//! How a guarded node becomes free again: it catches up with a leader, or every member has been heard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use duolog_types::{BrokerGroupId, NodeId};

use crate::cluster::Shared;
use crate::group::{BrokerGroup, MemberView};
use crate::type_config::{RaftLogId, term_of};
use crate::watermarks::Mark;
use crate::wire::proto;

const ASK_INTERVAL: Duration = Duration::from_millis(100);
/// What was heard longer ago does not count.
const HEARD_VALID: Duration = Duration::from_secs(2);

/// Last log ids of the members, heard in this boot.
#[derive(Debug, Default)]
pub(crate) struct Heard(BTreeMap<(BrokerGroupId, NodeId), (Option<Mark>, Instant)>);

impl Heard {
    fn note(&mut self, group: BrokerGroupId, node: NodeId, last: Option<Mark>) {
        self.0.insert((group, node), (last, Instant::now()));
    }

    /// Whether the candidate's log is at least that of every member, each heard lately.
    pub(crate) fn candidate_has_everything(
        &self,
        group: BrokerGroupId,
        members: &[MemberView],
        candidate_last: Option<&RaftLogId>,
    ) -> bool {
        let candidate = candidate_last.map(|id| Mark { term: term_of(id), index: id.index });
        !members.is_empty()
            && members.iter().filter(|member| member.voter).all(|member| {
                self.0
                    .get(&(group, member.node_id))
                    .is_some_and(|(last, at)| at.elapsed() < HEARD_VALID && candidate >= *last)
            })
    }
}

/// What a guarded replica must have flushed: the last entry of the latest leader as it was when this node heard that it
/// leads. It stays while that leader does: under load a leader is always a little ahead.
#[derive(Debug, Clone, Copy)]
struct Goal {
    leader_term: u64,
    last: Option<Mark>,
}

/// Lets a replica stand for election that is not guarded, or that has everything the others have.
///
/// The guard is asked once more at the end: whoever releases it meanwhile and then calls this is not undone.
pub(crate) fn let_stand(group: &BrokerGroup, has_everything: bool) {
    let is_guarded = || group.guard.is_guarded(group.id());
    let stands = has_everything || !is_guarded();
    group.raft.runtime_config().elect(stands);
    if !stands && !is_guarded() {
        group.raft.runtime_config().elect(true);
    }
}

/// Runs until no group is guarded.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut goals = BTreeMap::new();
    let mut tick = tokio::time::interval(ASK_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let guarded = shared.guard.guarded();
        if guarded.is_empty() {
            return;
        }
        tick.tick().await;
        for id in guarded {
            let Some(group) = shared.group(id) else { continue };
            if let Err(error) = step(&shared, &group, &mut goals).await {
                tracing::error!(broker_group = %id, %error, "cannot record that the guard is released");
            }
        }
    }
}

async fn step(
    shared: &Arc<Shared>,
    group: &Arc<BrokerGroup>,
    goals: &mut BTreeMap<BrokerGroupId, Goal>,
) -> std::io::Result<()> {
    let members = group.members();
    let mut leader: Option<proto::ReplicaStatusReply> = None;
    for view in &members {
        let Some(status) = shared.ask_status(group.id(), view.node_id, &view.member).await else { continue };
        let last = status.last.map(|id| Mark { term: id.term, index: id.index });
        shared.heard().lock().note(group.id(), view.node_id, last);
        let term = |status: &proto::ReplicaStatusReply| status.vote.map_or(0, |vote| vote.term);
        if status.is_leader && leader.as_ref().is_none_or(|known| term(known) < term(&status)) {
            leader = Some(status);
        }
    }
    match leader {
        Some(status) => {
            let leader_term = status.vote.map_or(0, |vote| vote.term);
            let last = status.last.map(|id| Mark { term: id.term, index: id.index });
            let goal = goals.entry(group.id()).or_insert(Goal { leader_term, last });
            if goal.leader_term < leader_term {
                *goal = Goal { leader_term, last };
            }
            release_when_flushed(shared, group, *goal)
        }
        None => {
            // Nobody leads. This node may stand only if no member has more: then nothing that it lost was kept elsewhere.
            let own = group.log().last().map(|(term, index)| crate::type_config::raft_log_id(term.0, index.0));
            let complete = shared.heard().lock().candidate_has_everything(group.id(), &members, own.as_ref());
            let_stand(group, complete);
            Ok(())
        }
    }
}

/// Free once everything up to the leader's last entry, as it answered, is on this node's disk.
fn release_when_flushed(shared: &Shared, group: &BrokerGroup, goal: Goal) -> std::io::Result<()> {
    let follows = group.leadership().borrow().term.0 == goal.leader_term;
    let flushed = *group.progress.flushed.borrow();
    // A log that has flushed an entry of the leader's term has the leader's log up to there (log matching).
    let caught_up = flushed.is_some_and(|mark| mark.term == goal.leader_term) && flushed >= goal.last;
    if follows && caught_up {
        shared.guard.release(group.id())?;
        let_stand(group, true);
        tracing::info!(broker_group = %group.id(), "caught up with the leader; this node votes again");
    }
    Ok(())
}
