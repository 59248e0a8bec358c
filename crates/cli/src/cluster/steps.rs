//! Changes of the cluster's members, step by step. Each step is asked of the leader of a broker group, wherever it is, and may be
//! asked for again: a command that was interrupted goes on where it stopped when it is run again.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use duolog_replication::Member;
use duolog_replication::admin::{self, AdminReply, AdminRequest, GroupStatus, ReplicaStatus, StatusReply};

use super::{ask, fetch_status};
use crate::output::Out;

/// How long a broker group may be without a leader, or a node silent, before the command gives up.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(300);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// A node this many entries behind has caught up: the leader checks it again.
const LAG_ENTRIES_MAX: u64 = 1_000;

/// The cluster, as it is being changed.
pub(super) struct Steps {
    /// Whom to ask; grows as members become known.
    nodes: Vec<String>,
    /// The node that is being taken out.
    leaving: Option<u64>,
    out: Out,
}

impl Steps {
    pub(super) fn new(nodes: Vec<String>) -> Self {
        Self { nodes, leaving: None, out: Out::default() }
    }

    pub(super) fn say(&mut self, line: &str) -> anyhow::Result<()> {
        self.out.line(line)
    }

    /// The cluster now, as the first node sees it that answers and does not leave: one that has left a group knows it as it was.
    pub(super) async fn status(&mut self) -> anyhow::Result<StatusReply> {
        let (mut last, mut number) = (None, 0);
        // More become known on the way.
        while let Some(address) = self.nodes.get(number).cloned() {
            number += 1;
            let answer = fetch_status(&[address]).await;
            let Ok(status) = &answer else {
                last = last.or(Some(answer));
                continue;
            };
            for replica in status.groups.iter().flat_map(|group| &group.replicas) {
                if !self.nodes.contains(&replica.address) {
                    self.nodes.push(replica.address.clone());
                }
            }
            if Some(status.node_id) != self.leaving {
                return answer;
            }
            last = Some(answer);
        }
        last.context("--node: expected HOST:PORT[,HOST:PORT…]")?
    }

    /// From now on the word of this node counts only where no other one answers.
    pub(super) fn leaves(&mut self, node: u64) {
        self.leaving = Some(node);
    }

    /// A broker group now, as the node sees it that knows the newest term. A node that has left the group knows no leader any more, or
    /// an old one.
    async fn group(&mut self, id: u32) -> anyhow::Result<GroupStatus> {
        // Also says which node does not answer when none does.
        let status = self.status().await?;
        let mut newest = group_of(&status, id)?.clone();
        for address in self.nodes.clone() {
            let Ok(AdminReply::Status(status)) = admin::call(&address, &AdminRequest::Status).await else { continue };
            let Ok(group) = group_of(&status, id) else { continue };
            if is_newer(group, &newest) {
                newest = group.clone();
            }
            if group.leader == Some(status.node_id) {
                break;
            }
        }
        Ok(newest)
    }

    /// A node that was started and waits to be let in.
    pub(super) async fn announced(&mut self, node: u64) -> anyhow::Result<Member> {
        for address in self.nodes.clone() {
            let reply = admin::call(&address, &AdminRequest::Announced { node }).await;
            if let Ok(AdminReply::Announced { member: Some(member) }) = reply {
                return Ok(member);
            }
        }
        bail!(
            "no node knows node {node}: start it first, with node_id = {node}, an empty data_dir, and itself and the other nodes in \
             [[nodes]]"
        )
    }

    /// Asks the leader of a broker group, and says what it did.
    pub(super) async fn at_leader(&mut self, group: u32, request: &AdminRequest) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut last = "it has no leader".to_owned();
        while Instant::now() < end {
            let status = self.group(group).await?;
            if let Some(address) = status.leader.and_then(|leader| address_in(&status, leader)) {
                match admin::call(&address, request).await {
                    Ok(AdminReply::Done { lines }) => {
                        return lines.iter().try_for_each(|line| self.say(line));
                    }
                    Ok(AdminReply::Failed { reason }) => bail!("{address}: {reason}"),
                    Ok(AdminReply::NotLeader { .. }) => last = format!("{address} does not lead it any more"),
                    Ok(other) => bail!("{address}: unexpected answer {other:?}"),
                    Err(reason) => last = reason,
                }
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        bail!("broker group {group} was not changed within {} s: {last}. Run the command again", PATIENCE.as_secs())
    }

    /// Waits until a learner has what the leader has, and says how far it is.
    pub(super) async fn catch_up(&mut self, group: u32, node: u64) -> anyhow::Result<()> {
        let (mut told, mut heard) = (Instant::now(), Instant::now());
        loop {
            let group_status = self.group(group).await?;
            let entries = |index: Option<u64>| index.map_or(0, |index| index + 1);
            let of = |id: Option<u64>| group_status.replicas.iter().find(|replica| Some(replica.node_id) == id);
            let goal =
                of(group_status.leader).filter(|leader| leader.reachable).map(|leader| entries(leader.last_index));
            let replica = of(Some(node)).filter(|replica| replica.reachable);
            if let (Some(goal), Some(replica)) = (goal, replica) {
                heard = Instant::now();
                let has = entries(replica.flushed_index);
                if has + LAG_ENTRIES_MAX >= goal {
                    return Ok(());
                }
                if told.elapsed() >= PROGRESS_INTERVAL {
                    told = Instant::now();
                    self.say(&format!("broker group {group}: node {node} has {has} of {goal} entries"))?;
                }
            }
            if heard.elapsed() >= PATIENCE {
                bail!(
                    "node {node}, or the leader of broker group {group}, has been silent for {} s. Run the command again when both are \
                     there: it goes on where it stopped",
                    PATIENCE.as_secs()
                );
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// An id is never used again.
    pub(super) async fn retire(&mut self, node: u64) -> anyhow::Result<()> {
        let mut first_error = None;
        for address in self.nodes.clone() {
            match ask(&address, &AdminRequest::Retire { node }).await {
                Ok(AdminReply::Done { lines }) => return lines.iter().try_for_each(|line| self.say(line)),
                Ok(other) => bail!("{address}: unexpected answer {other:?}"),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.context("no node was asked")?)
    }

    /// Lets a node copy every broker group, and waits until it has.
    pub(super) async fn join(&mut self, node: u64) -> anyhow::Result<()> {
        let member = self.announced(node).await?;
        self.say(&format!("node {node} waits at {member}"))?;
        let groups = group_ids(&self.status().await?);
        // All at once: they are copied side by side.
        for group in &groups {
            let request = AdminRequest::AddLearner { broker_group: *group, node, member: member.clone() };
            self.at_leader(*group, &request).await?;
        }
        for group in &groups {
            self.catch_up(*group, node).await?;
        }
        Ok(())
    }

    /// Changes the voters of every broker group. The system group comes last: a node that is still in it is still a member.
    pub(super) async fn change(&mut self, add: Option<u64>, remove: Option<u64>) -> anyhow::Result<()> {
        let mut groups = group_ids(&self.status().await?);
        groups.sort_unstable_by_key(|group| (*group == 0, *group));
        for group in groups {
            self.at_leader(group, &AdminRequest::ChangeVoters { broker_group: group, add, remove }).await?;
        }
        Ok(())
    }
}

fn group_ids(status: &StatusReply) -> Vec<u32> {
    status.groups.iter().map(|group| group.id).collect()
}

fn group_of(status: &StatusReply, id: u32) -> anyhow::Result<&GroupStatus> {
    let group = status.groups.iter().find(|group| group.id == id);
    group.with_context(|| format!("node {} has no broker group {id}; check broker_groups in node.toml", status.node_id))
}

/// Where a member takes calls of other nodes and of this command.
pub(super) fn address_of(status: &StatusReply, node: u64) -> Option<String> {
    status.groups.iter().find_map(|group| address_in(group, node))
}

fn address_in(group: &GroupStatus, node: u64) -> Option<String> {
    group.replicas.iter().find(|replica| replica.node_id == node).map(|replica| replica.address.clone())
}

fn is_newer(one: &GroupStatus, other: &GroupStatus) -> bool {
    (one.term, one.leader.is_some()) > (other.term, other.leader.is_some())
}

/// What a number of voters is worth.
pub(super) fn worth(voters: usize) -> String {
    if voters < 2 {
        return "one voter: its loss stops everything".to_owned();
    }
    let quorum = voters / 2 + 1;
    let spare = voters - quorum;
    format!("{voters} voters: a quorum is {quorum}, so the loss of {spare} at a time is survived")
}

/// Voters of the broker group that has the fewest, a node that is about to leave not counted.
pub(super) fn fewest_voters(status: &StatusReply, leaving: Option<u64>) -> usize {
    let counts = |replica: &&ReplicaStatus| replica.voter && Some(replica.node_id) != leaving;
    let voters = |group: &GroupStatus| group.replicas.iter().filter(counts).count();
    status.groups.iter().map(voters).min().unwrap_or(0)
}

/// Whether a node is a member of any broker group.
pub(super) fn is_member(status: &StatusReply, node: u64) -> bool {
    status.groups.iter().flat_map(|group| &group.replicas).any(|replica| replica.node_id == node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voters_are_worth_what_raft_says() {
        assert_eq!(worth(3), "3 voters: a quorum is 2, so the loss of 1 at a time is survived");
        assert_eq!(worth(4), "4 voters: a quorum is 3, so the loss of 1 at a time is survived");
        assert_eq!(worth(5), "5 voters: a quorum is 3, so the loss of 2 at a time is survived");
        assert_eq!(worth(1), "one voter: its loss stops everything");
    }
}
