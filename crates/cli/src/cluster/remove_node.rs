//! `duolog cluster remove-node`.

use anyhow::bail;
use clap::Args;

use super::NodeArgs;
use super::steps::{Steps, fewest_voters, is_member, worth};

/// With fewer voters no node can be lost.
const VOTERS_MIN: usize = 3;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog cluster remove-node --id 3

The node may run or be dead. What it leads is handed over first. Its process ends by itself; its id is never used again, so a machine
that comes back needs a new id and an empty data_dir (duolog cluster add-node).")]
pub struct RemoveNodeCommand {
    #[command(flatten)]
    node: NodeArgs,
    /// The node that goes.
    #[arg(long)]
    id: u64,
    /// Even if fewer than three voters remain, so that the loss of another one stops everything.
    #[arg(long)]
    force: bool,
}

pub async fn run(command: RemoveNodeCommand) -> anyhow::Result<()> {
    let RemoveNodeCommand { node, id, force } = command;
    let mut steps = Steps::new(node.nodes);
    let status = steps.status().await?;
    if !is_member(&status, id) {
        bail!("node {id} is no member of the cluster; see: duolog cluster status");
    }
    let remain = fewest_voters(&status, Some(id));
    if remain == 0 {
        bail!("node {id} is the only one; nothing would remain");
    }
    if remain < VOTERS_MIN && !force {
        bail!(
            "{} would remain. Let another node in first (duolog cluster add-node, or replace), or say --force",
            worth(remain)
        );
    }
    steps.retire(id).await?;
    steps.change(None, Some(id)).await?;
    let status = steps.status().await?;
    steps.say(&format!("done: node {id} is no member any more. {}", worth(fewest_voters(&status, None))))
}
