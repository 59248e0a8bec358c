//! `duolog cluster backup`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;
use duolog_replication::admin::{AdminReply, AdminRequest};

use super::{NodeArgs, ask};
use crate::output::Out;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog cluster backup --to /backups/2026-11-27
  duolog cluster backup --node 10.0.0.2:7070 --to /backups/2026-11-27

One node writes all that it has applied into a directory of its own machine: records, topics, committed offsets, half and delayed
messages, users. Service goes on. `duolog restore` makes a new cluster of it.")]
pub struct BackupCommand {
    #[command(flatten)]
    node: NodeArgs,
    /// A directory of the node's machine, new or empty; an absolute path.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

pub async fn run(command: BackupCommand) -> anyhow::Result<()> {
    let BackupCommand { node, to } = command;
    if !to.is_absolute() {
        bail!("--to {}: expected an absolute path, since another process writes there", to.display());
    }
    let address = node.nodes.first().context("--node: expected HOST:PORT")?;
    let AdminReply::Done { lines } = ask(address, &AdminRequest::Backup { path: to.clone() }).await? else {
        bail!("{address}: unexpected answer");
    };
    let mut out = Out::default();
    lines.iter().try_for_each(|line| out.line(line))?;
    out.line(&format!("done: {} on the machine of {address}", to.display()))
}
