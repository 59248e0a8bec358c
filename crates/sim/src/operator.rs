//! Whoever changes the members of the cluster: the steps of `duolog cluster add-node`, `remove-node` and `replace`, with the same calls.
//! A command may be interrupted at any moment, and is then run again.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use duolog_replication::Member;
use duolog_replication::admin::{AdminReply, AdminRequest, GroupStatus};
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::SimCluster;
use crate::node::BROKER_GROUPS;
use crate::random::Random;

/// How long a node may take to answer a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a broker group may be without a leader, or a node silent, before a command gives up.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A node this many entries behind has caught up: the leader checks it again.
const LAG_ENTRIES_MAX: u64 = 1_000;
/// Between two runs of a command.
const AGAIN: Duration = Duration::from_millis(300);
/// So many runs of a command may be interrupted, each after this time.
const INTERRUPTIONS_MAX: u64 = 3;
const INTERRUPTED_AFTER_MS: std::ops::Range<u64> = 50..3_000;

/// A change of the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Join { new: u32 },
    Leave { old: u32 },
    Replace { old: u32, new: u32 },
}

/// Runs a command until it has succeeded, which it says.
pub async fn run(cluster: SimCluster, change: Change, mut random: Random, is_done: Rc<Cell<bool>>) -> turmoil::Result {
    let operator = Operator { cluster };
    let interruptions = random.below(INTERRUPTIONS_MAX + 1);
    for turn in 0.. {
        let limit = if turn < interruptions { random.ms(INTERRUPTED_AFTER_MS) } else { Duration::MAX };
        match timeout(limit, operator.command(change)).await {
            Ok(Ok(())) => break,
            Ok(Err(reason)) => tracing::info!(target: "faults", ?change, reason, "a change of the members failed"),
            Err(_) => tracing::info!(target: "faults", ?change, "a change of the members was interrupted"),
        }
        sleep(AGAIN).await;
    }
    is_done.set(true);
    Ok(())
}

struct Operator {
    cluster: SimCluster,
}

impl Operator {
    async fn command(&self, change: Change) -> Result<(), String> {
        match change {
            Change::Join { new } => {
                self.join(new).await?;
                self.change(Some(new), None).await
            }
            Change::Leave { old } => {
                self.retire(old).await?;
                self.change(None, Some(old)).await
            }
            Change::Replace { old, new } => {
                self.join(new).await?;
                self.retire(old).await?;
                self.change(Some(new), Some(old)).await
            }
        }
    }

    async fn ask(&self, node: usize, request: AdminRequest) -> Result<AdminReply, String> {
        let call = self.cluster.nodes[node].call(|broker| async move { broker.admin(request).await });
        match timeout(CALL_TIMEOUT, call).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err("the node is down".to_owned()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    /// What the first node answers that answers what is wanted.
    async fn ask_any<T>(&self, request: &AdminRequest, wanted: impl Fn(AdminReply) -> Option<T>) -> Result<T, String> {
        let mut last = "nobody was asked".to_owned();
        for node in 0..self.cluster.nodes.len() {
            match self.ask(node, request.clone()).await.map(|reply| (wanted(reply.clone()), reply)) {
                Ok((Some(answer), _)) => return Ok(answer),
                Ok((None, reply)) => last = format!("{reply:?}"),
                Err(reason) => last = reason,
            }
        }
        Err(format!("{request:?}: {last}"))
    }

    /// A broker group now, as the node sees it that knows the newest term: one that has left it knows no leader, or an old one.
    async fn group(&self, id: u32) -> Result<GroupStatus, String> {
        let mut known = Vec::new();
        for node in 0..self.cluster.nodes.len() {
            if let Ok(AdminReply::Status(status)) = self.ask(node, AdminRequest::Status).await {
                known.extend(status.groups.into_iter().filter(|group| group.id == id && !group.replicas.is_empty()));
            }
        }
        let newest = known.into_iter().max_by_key(|group| (group.term, group.leader.is_some()));
        newest.ok_or_else(|| format!("no node knows broker group {id}"))
    }

    async fn announced(&self, node: u32) -> Result<Member, String> {
        let member = |reply| match reply {
            AdminReply::Announced { member } => member,
            _ => None,
        };
        self.ask_any(&AdminRequest::Announced { node: u64::from(node) }, member).await
    }

    /// Asks the leader of a broker group until it has done it or says why not.
    async fn at_leader(&self, group: u32, request: &AdminRequest) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        let mut last = "it has no leader".to_owned();
        while Instant::now() < end {
            let leader = self.group(group).await.map(|group| group.leader);
            match leader {
                Ok(Some(leader)) => match self.ask(leader as usize, request.clone()).await {
                    Ok(AdminReply::Done { .. }) => return Ok(()),
                    Ok(AdminReply::Failed { reason }) => return Err(reason),
                    Ok(other) => last = format!("{other:?}"),
                    Err(reason) => last = reason,
                },
                Ok(None) => {}
                Err(reason) => last = reason,
            }
            sleep(LOOK_INTERVAL).await;
        }
        Err(format!("broker group {group} was not changed: {last}"))
    }

    async fn catch_up(&self, group: u32, node: u32) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if let Ok(group) = self.group(group).await {
                let entries = |index: Option<u64>| index.map_or(0, |index| index + 1);
                let of = |id: Option<u64>| group.replicas.iter().find(|replica| Some(replica.node_id) == id);
                let leader = of(group.leader).filter(|leader| leader.reachable);
                let replica = of(Some(u64::from(node))).filter(|replica| replica.reachable);
                if let (Some(leader), Some(replica)) = (leader, replica)
                    && entries(replica.flushed_index) + LAG_ENTRIES_MAX >= entries(leader.last_index)
                {
                    return Ok(());
                }
            }
            sleep(LOOK_INTERVAL).await;
        }
        Err(format!("node {node} does not catch up in broker group {group}"))
    }

    async fn retire(&self, node: u32) -> Result<(), String> {
        let is_done = |reply| matches!(reply, AdminReply::Done { .. }).then_some(());
        self.ask_any(&AdminRequest::Retire { node: u64::from(node) }, is_done).await
    }

    async fn join(&self, node: u32) -> Result<(), String> {
        let member = self.announced(node).await?;
        for broker_group in 0..BROKER_GROUPS {
            let request = AdminRequest::AddLearner { broker_group, node: u64::from(node), member: member.clone() };
            self.at_leader(broker_group, &request).await?;
        }
        for broker_group in 0..BROKER_GROUPS {
            self.catch_up(broker_group, node).await?;
        }
        Ok(())
    }

    /// The system group comes last: a node that is still in it is still a member.
    async fn change(&self, add: Option<u32>, remove: Option<u32>) -> Result<(), String> {
        for broker_group in (1..BROKER_GROUPS).chain([0]) {
            let (add, remove) = (add.map(u64::from), remove.map(u64::from));
            self.at_leader(broker_group, &AdminRequest::ChangeVoters { broker_group, add, remove }).await?;
        }
        Ok(())
    }
}

/// The voters of each broker group as its leader knows them; `None` where nobody leads for a long time.
pub async fn voters(cluster: &SimCluster) -> Vec<Option<Vec<u32>>> {
    let operator = Operator { cluster: cluster.clone() };
    let mut voters = Vec::new();
    for id in 0..BROKER_GROUPS {
        let end = Instant::now() + PATIENCE;
        let mut known = None;
        while known.is_none() && Instant::now() < end {
            if let Ok(Some(leader)) = operator.group(id).await.map(|group| group.leader) {
                known =
                    operator.ask(leader as usize, AdminRequest::Status).await.ok().and_then(|of| voters_of(&of, id));
            }
            sleep(LOOK_INTERVAL).await;
        }
        voters.push(known);
    }
    voters
}

/// Only the leader's own word counts.
fn voters_of(reply: &AdminReply, id: u32) -> Option<Vec<u32>> {
    let AdminReply::Status(status) = reply else { return None };
    let group = status.groups.iter().find(|group| group.id == id && group.leader == Some(status.node_id))?;
    let mut voters: Vec<u32> =
        group.replicas.iter().filter(|replica| replica.voter).map(|replica| replica.node_id as u32).collect();
    voters.sort_unstable();
    Some(voters)
}
