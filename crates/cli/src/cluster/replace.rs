//! `duolog cluster replace`.

use anyhow::bail;
use clap::Args;

use super::NodeArgs;
use super::steps::{Steps, is_member};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog start --config new-node.toml &      # node_id = 3, an empty data_dir, itself and the other nodes in [[nodes]]
  duolog cluster replace --old 2 --new 3

The new node copies every broker group beside the load, then takes the place of the old one, which may be dead. Interrupted, the
command goes on where it stopped when it is run again.")]
pub struct ReplaceCommand {
    #[command(flatten)]
    node: NodeArgs,
    /// The node that goes.
    #[arg(long)]
    old: u64,
    /// The node that comes.
    #[arg(long)]
    new: u64,
}

pub async fn run(command: ReplaceCommand) -> anyhow::Result<()> {
    let ReplaceCommand { node, old, new } = command;
    if old == new {
        bail!(
            "--old {old} and --new {new}: expected two ids; a node whose disk was emptied comes back under a new one"
        );
    }
    let mut steps = Steps::new(node.nodes);
    let status = steps.status().await?;
    if !is_member(&status, old) {
        let hint = if is_member(&status, new) { format!(", and node {new} is one") } else { String::new() };
        bail!("node {old} is no member of the cluster{hint}; see: duolog cluster status");
    }
    steps.join(new).await?;
    steps.retire(old).await?;
    steps.change(Some(new), Some(old)).await?;
    steps.say(&format!("done: node {new} is in the place of node {old}"))
}
