//! `duolog cluster status`.

use clap::Args;
use duolog_replication::DiskState;
use duolog_replication::admin::{GroupStatus, ReplicaStatus};

use super::{NodeArgs, fetch_status};
use crate::arguments::OutputArgs;
use crate::output::{Out, OutputFormat, Table, or_dash};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog cluster status
  duolog cluster status --node 10.0.0.1:7070,10.0.0.2:7070 --output json")]
pub struct StatusCommand {
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// The same as --output json.
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

pub async fn run(command: StatusCommand) -> anyhow::Result<()> {
    let status = fetch_status(&command.node.nodes).await?;
    let mut out = Out::default();
    if command.json || command.output.output == OutputFormat::Json {
        return out.json(&status);
    }
    let id = status.cluster_id.as_deref().unwrap_or("not initialized yet");
    out.line(&format!("cluster {} ({id}), as node {} sees it", status.cluster_name, status.node_id))?;
    let mut table = Table::new(&["GROUP", "TERM", "NODE", "ADDRESS", "ROLE", ">LAST", ">FLUSHED", ">APPLIED"]);
    for group in &status.groups {
        for replica in &group.replicas {
            table.row(vec![
                group.id.to_string(),
                group.term.to_string(),
                replica.node_id.to_string(),
                replica.address.clone(),
                role(group, replica),
                or_dash(replica.last_index),
                or_dash(replica.flushed_index),
                or_dash(replica.applied_next.checked_sub(1)),
            ]);
        }
    }
    out.table(&table)
}

/// What a replica is in its broker group, whether the power-loss guard holds, and whether its node is drained or short of disk.
fn role(group: &GroupStatus, replica: &ReplicaStatus) -> String {
    let role = match (replica.reachable, group.leader == Some(replica.node_id), replica.voter) {
        (false, ..) => return "silent".to_owned(),
        (_, true, _) => "leader",
        (_, _, true) => "follower",
        (_, _, false) => "learner",
    };
    let guarded = if replica.guarded { ", guarded" } else { "" };
    let drained = if replica.drained { ", drained" } else { "" };
    let disk = match replica.disk {
        DiskState::Writable => "",
        DiskState::ReadOnly => ", disk nearly full",
        DiskState::Exhausted => ", disk full",
    };
    format!("{role}{guarded}{drained}{disk}")
}

#[cfg(test)]
mod tests {
    use super::super::health::tests::{group, replica};
    use super::*;

    #[test]
    fn a_guarded_leader_is_both() {
        let group = group(0, Some(1), vec![]);
        for (replica, expected) in [
            (replica(1), "leader"),
            (ReplicaStatus { guarded: true, ..replica(1) }, "leader, guarded"),
            (ReplicaStatus { guarded: true, ..replica(2) }, "follower, guarded"),
            (replica(2), "follower"),
            (ReplicaStatus { drained: true, ..replica(2) }, "follower, drained"),
            (ReplicaStatus { disk: DiskState::ReadOnly, ..replica(2) }, "follower, disk nearly full"),
            (ReplicaStatus { voter: false, ..replica(3) }, "learner"),
            (ReplicaStatus { reachable: false, ..replica(1) }, "silent"),
        ] {
            assert_eq!(role(&group, &replica), expected);
        }
    }
}
