//! `duolog cluster backup`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use duolog_replication::admin::{AdminReply, AdminRequest};

use super::{NodeArgs, ask, first_that_answers, unexpected};
use crate::output::Out;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog cluster backup --to /backups/2026-11-27
  duolog cluster backup --node 10.0.0.1:7070,10.0.0.2:7070 --to /backups/2026-11-27
  duolog cluster backup --node 10.0.0.2:7070 --to /backups/last --with-uncommitted    # the other nodes are gone for good

The first node of the list that answers writes all that it has applied into a directory of its own machine: records, topics, committed
offsets, half and delayed messages, users. Service goes on. `duolog restore` makes a new cluster of it.")]
pub struct BackupCommand {
    #[command(flatten)]
    node: NodeArgs,
    /// A directory of the node's machine, new or empty; an absolute path.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Also what the node's logs hold without its knowing that a majority has it: all of it, acknowledged or not. For a node whose
    /// majority is gone for good.
    #[arg(long)]
    with_uncommitted: bool,
}

pub async fn run(command: BackupCommand) -> anyhow::Result<()> {
    let BackupCommand { node, to, with_uncommitted } = command;
    if !to.is_absolute() {
        bail!("--to {}: expected an absolute path, since another process writes there", to.display());
    }
    // Only who is silent is passed over: a node that has begun leaves a directory that is not empty, and may be on the same machine.
    let (address, _) = first_that_answers(&node.nodes).await?;
    let request = AdminRequest::Backup { path: to.clone(), with_uncommitted };
    let AdminReply::Done { lines } = ask(address, &request).await? else {
        return Err(unexpected(address));
    };
    let mut out = Out::default();
    lines.iter().try_for_each(|line| out.line(line))?;
    out.line(&format!("done: {} on the machine of {address}", to.display()))
}
