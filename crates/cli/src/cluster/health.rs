//! `duolog cluster health`: one word, the reasons, and an exit code for scripts and probes.

use clap::Args;
use duolog_replication::DiskState;
use duolog_replication::admin::{GroupStatus, ReplicaStatus, StatusReply};
use serde_json::json;

use super::{NodeArgs, fetch_status};
use crate::arguments::OutputArgs;
use crate::exit::Exit;
use crate::output::{Out, OutputFormat};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog cluster health
  duolog cluster health --node 10.0.0.1:7070,10.0.0.2:7070 || page-somebody

Exit codes:
  0  healthy: every broker group has a leader, every voter answers and has room on its disk, no node is guarded
  1  degraded: everything is served, but a node is silent, guarded or short of disk; the loss of another one could stop something
  2  unavailable: a broker group has no leader, no quorum, or a leader without room for more records; or no node answers")]
pub struct HealthCommand {
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Healthy,
    Degraded,
    Unavailable,
}

impl Health {
    fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
        }
    }

    fn exit(self) -> Exit {
        match self {
            Self::Healthy => Exit::Success,
            Self::Degraded => Exit::Degraded,
            Self::Unavailable => Exit::Unavailable,
        }
    }
}

pub async fn run(command: HealthCommand) -> anyhow::Result<Exit> {
    let (health, reasons) = match fetch_status(&command.node.nodes).await {
        Ok(status) => judge(&status),
        Err(error) => (Health::Unavailable, vec![format!("{error:#}")]),
    };
    let mut out = Out::default();
    match command.output.output {
        OutputFormat::Json => out.json(&json!({"health": health.word(), "reasons": reasons}))?,
        OutputFormat::Table => {
            out.line(health.word())?;
            for reason in reasons {
                out.line(&format!("  {reason}"))?;
            }
        }
    }
    Ok(health.exit())
}

/// The worst of all broker groups, and what is not well.
fn judge(status: &StatusReply) -> (Health, Vec<String>) {
    let findings: Vec<(Health, String)> = status.groups.iter().flat_map(findings).collect();
    let worst = findings.iter().map(|(health, _)| *health).max().unwrap_or(Health::Healthy);
    (worst, findings.into_iter().map(|(_, reason)| reason).collect())
}

fn findings(group: &GroupStatus) -> Vec<(Health, String)> {
    let id = group.id;
    let voters: Vec<&ReplicaStatus> = group.replicas.iter().filter(|replica| replica.voter).collect();
    let answering = voters.iter().filter(|replica| replica.reachable).count();
    let quorum = voters.len() / 2 + 1;
    let mut findings = Vec::new();
    if answering < quorum {
        let reason = format!("broker group {id}: {answering} of {} voters answer, {quorum} are needed", voters.len());
        findings.push((Health::Unavailable, reason));
    }
    match group.leader {
        None => findings.push((Health::Unavailable, format!("broker group {id} has no leader"))),
        Some(leader) if voters.iter().any(|replica| replica.node_id == leader && !replica.reachable) => {
            let reason = format!("broker group {id} has no leader that answers: node {leader} was the last one");
            findings.push((Health::Unavailable, reason));
        }
        Some(_) => {}
    }
    for replica in voters {
        let (node, address) = (replica.node_id, &replica.address);
        if !replica.reachable {
            findings.push((Health::Degraded, format!("broker group {id}: node {node} ({address}) does not answer")));
        }
        if replica.guarded {
            let reason = format!(
                "broker group {id}: node {node} ({address}) is guarded: it lost power and does not vote until it has caught up"
            );
            findings.push((Health::Degraded, reason));
        }
        findings.extend(disk_finding(group, replica));
    }
    findings
}

/// Nobody can produce through a leader that is short of disk; a follower that is can still follow, or falls behind.
fn disk_finding(group: &GroupStatus, replica: &ReplicaStatus) -> Option<(Health, String)> {
    let (id, node, address) = (group.id, replica.node_id, &replica.address);
    let is_leader = group.leader == Some(node);
    let (health, what) = match (replica.disk, is_leader) {
        (DiskState::Writable, _) => return None,
        (DiskState::ReadOnly | DiskState::Exhausted, true) => {
            (Health::Unavailable, "leads it and takes no more records")
        }
        (DiskState::ReadOnly, false) => (Health::Degraded, "follows, and would take no records as its leader"),
        (DiskState::Exhausted, false) => (Health::Degraded, "takes no entries from its leader any more"),
    };
    let how = if replica.disk == DiskState::Exhausted { "full" } else { "nearly full" };
    Some((health, format!("broker group {id}: the disk of node {node} ({address}) is {how}: it {what}")))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn replica(node_id: u64) -> ReplicaStatus {
        ReplicaStatus {
            node_id,
            address: format!("host-{node_id}:7070"),
            voter: true,
            reachable: true,
            guarded: false,
            drained: false,
            disk: DiskState::Writable,
            last_index: Some(9),
            flushed_index: Some(9),
            applied_next: 10,
        }
    }

    pub(in super::super) fn group(id: u32, leader: Option<u64>, replicas: Vec<ReplicaStatus>) -> GroupStatus {
        GroupStatus { id, term: 3, leader, replicas }
    }

    fn check(groups: Vec<GroupStatus>, expected: Health, words: &[&str]) {
        let status = StatusReply { cluster_name: "c".into(), cluster_id: None, node_id: 0, groups };
        let (health, reasons) = judge(&status);
        assert_eq!(health, expected, "{reasons:?}");
        assert_eq!(reasons.len(), words.len(), "{reasons:?}");
        for (reason, word) in reasons.iter().zip(words) {
            assert!(reason.contains(word), "{reason}");
        }
    }

    fn silent(node_id: u64) -> ReplicaStatus {
        ReplicaStatus { reachable: false, ..replica(node_id) }
    }

    #[test]
    fn the_worst_finding_decides() {
        let all = || vec![replica(0), replica(1), replica(2)];
        check(vec![group(0, Some(1), all()), group(1, Some(0), all())], Health::Healthy, &[]);
        check(vec![group(0, Some(0), vec![replica(0)])], Health::Healthy, &[]);
        check(
            vec![group(0, Some(0), vec![replica(0), replica(1), silent(2)])],
            Health::Degraded,
            &["node 2 (host-2:7070) does not answer"],
        );
        let guarded = ReplicaStatus { guarded: true, ..replica(1) };
        check(vec![group(0, Some(0), vec![replica(0), guarded, replica(2)])], Health::Degraded, &["node 1"]);
        check(
            vec![group(0, Some(1), all()), group(1, None, all())],
            Health::Unavailable,
            &["broker group 1 has no leader"],
        );
        check(
            vec![group(0, Some(2), vec![replica(0), replica(1), silent(2)])],
            Health::Unavailable,
            &["node 2 was the last one", "does not answer"],
        );
        check(
            vec![group(0, Some(0), vec![replica(0), silent(1), silent(2)])],
            Health::Unavailable,
            &["1 of 3 voters answer, 2 are needed", "node 1", "node 2"],
        );
    }

    #[test]
    fn a_leader_without_room_stops_its_producers_and_a_follower_nobody_yet() {
        let with = |disk, leader| {
            let replicas = vec![replica(0), ReplicaStatus { disk, ..replica(1) }, replica(2)];
            vec![group(0, Some(leader), replicas)]
        };
        check(with(DiskState::ReadOnly, 0), Health::Degraded, &["node 1 (host-1:7070) is nearly full: it follows"]);
        check(with(DiskState::Exhausted, 0), Health::Degraded, &["is full: it takes no entries"]);
        check(
            with(DiskState::ReadOnly, 1),
            Health::Unavailable,
            &["is nearly full: it leads it and takes no more records"],
        );
        check(with(DiskState::Exhausted, 1), Health::Unavailable, &["is full: it leads it"]);
    }

    #[test]
    fn learners_do_not_count() {
        let learner = ReplicaStatus { voter: false, ..silent(3) };
        check(vec![group(0, Some(0), vec![replica(0), learner])], Health::Healthy, &[]);
    }
}
