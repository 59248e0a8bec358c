//! `duolog cluster drain`.

use anyhow::Context;
use clap::Args;
use duolog_replication::admin::{AdminReply, AdminRequest};

use super::steps::address_of;
use super::{NodeArgs, ask, fetch_status, unexpected};
use crate::output::Out;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog cluster drain --id 2            # before maintenance: clients go elsewhere, nothing waits for an election
  duolog cluster drain --id 2 --undo     # afterwards

A drained node copies and votes as before, and still takes calls; it leads nothing for as long as another node can. A restart keeps it
drained.")]
pub struct DrainCommand {
    #[command(flatten)]
    node: NodeArgs,
    /// The node that gives its leaderships away.
    #[arg(long)]
    id: u64,
    /// It leads again what it should.
    #[arg(long)]
    undo: bool,
}

pub async fn run(command: DrainCommand) -> anyhow::Result<()> {
    let DrainCommand { node, id, undo } = command;
    let status = fetch_status(&node.nodes).await?;
    let address = address_of(&status, id)
        .with_context(|| format!("node {id} is no member of the cluster; see: duolog cluster status"))?;
    let AdminReply::Done { lines } = ask(&address, &AdminRequest::Drain { on: !undo }).await? else {
        return Err(unexpected(&address));
    };
    let mut out = Out::default();
    lines.iter().try_for_each(|line| out.line(line))
}
