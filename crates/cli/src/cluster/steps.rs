//! Changes of the cluster's members, step by step. Each step is asked of the leader of a broker group, wherever it is, and may be
//! asked for again: a command that was interrupted goes on where it stopped when it is run again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use duolog_replication::Member;
use duolog_replication::admin::{self, AdminReply, AdminRequest, GroupStatus, ReplicaStatus, StatusReply};

use super::{ask, fetch_status, unexpected};
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
    out: Out,
}

impl Steps {
    pub(super) fn new(nodes: Vec<String>) -> Self {
        Self { nodes, out: Out::default() }
    }

    pub(super) fn say(&mut self, line: &str) -> anyhow::Result<()> {
        self.out.line(line)
    }

    /// The cluster now: each broker group as its leader sees it, or, while no node says that it leads it, as the node that knows the
    /// newest term. A node that has left a group knows it as it was.
    pub(super) async fn status(&mut self) -> anyhow::Result<StatusReply> {
        let (mut known, mut failed): (Option<StatusReply>, _) = (None, None);
        let (mut weights, mut number) = (BTreeMap::new(), 0);
        // More nodes become known on the way.
        while let Some(address) = self.nodes.get(number).cloned() {
            number += 1;
            let status = match fetch_status(&[address]).await {
                Ok(status) => status,
                Err(error) => {
                    failed.get_or_insert(error);
                    continue;
                }
            };
            for replica in status.groups.iter().flat_map(|group| &group.replicas) {
                if !self.nodes.contains(&replica.address) {
                    self.nodes.push(replica.address.clone());
                }
            }
            let newest = known.get_or_insert_with(|| StatusReply { groups: Vec::new(), ..status.clone() });
            for group in status.groups {
                let weight = (group.term, group.leader == Some(status.node_id), group.leader.is_some());
                if weights.get(&group.id).is_none_or(|known| weight > *known) {
                    weights.insert(group.id, weight);
                    newest.groups.retain(|other| other.id != group.id);
                    newest.groups.push(group);
                }
            }
            if weights.values().all(|(_, is_told_by_leader, _)| *is_told_by_leader) {
                break;
            }
        }
        match (known, failed) {
            (Some(known), _) => Ok(known),
            (None, Some(error)) => Err(error),
            (None, None) => bail!("--node: expected HOST:PORT[,HOST:PORT…]"),
        }
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
            let status = self.status().await?;
            if let Some(address) = group_of(&status, group)?.leader.and_then(|leader| address_of(&status, leader)) {
                match admin::call(&address, request).await {
                    Ok(AdminReply::Done { lines }) => {
                        return lines.iter().try_for_each(|line| self.say(line));
                    }
                    Ok(AdminReply::Failed { reason }) => bail!("{address}: {reason}"),
                    Ok(AdminReply::NotLeader { .. }) => last = format!("{address} does not lead it any more"),
                    Ok(_) => return Err(unexpected(&address)),
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
            let status = self.status().await?;
            let group_status = group_of(&status, group)?;
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
                Ok(_) => return Err(unexpected(&address)),
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
    let mut replicas = status.groups.iter().flat_map(|group| &group.replicas);
    replicas.find(|replica| replica.node_id == node).map(|replica| replica.address.clone())
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
