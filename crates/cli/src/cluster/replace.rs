//! `duolog cluster replace`.

use anyhow::{Context, bail};
use clap::Args;
use duolog_replication::admin::{self, AdminReply, AdminRequest};

use super::{NodeArgs, fetch_status};
use crate::output::Out;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog start --config new-node.toml &      # node_id = 3, an empty data_dir, and the other nodes in [[nodes]]
  duolog cluster replace --old 2 --new 3")]
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

/// Every group is changed on its own leader, so every node is asked.
pub async fn run(command: ReplaceCommand) -> anyhow::Result<()> {
    let ReplaceCommand { node, old, new } = command;
    let mut out = Out::default();
    let status = fetch_status(&node.nodes).await?;
    let mut addresses: Vec<String> =
        status.groups.iter().flat_map(|group| group.replicas.iter().map(|replica| replica.address.clone())).collect();
    addresses.extend(node.nodes);
    addresses.sort_unstable();
    addresses.dedup();
    let mut member = None;
    for reply in admin::call_all(&addresses, &AdminRequest::Announced { node: new }).await.into_values() {
        if let Ok(AdminReply::Announced { member: Some(found) }) = reply {
            member = Some(found);
        }
    }
    let member = member.with_context(|| {
        format!(
            "no node knows node {new}: start it first, with a config that lists the other nodes, and an empty data_dir"
        )
    })?;
    out.line(&format!("replacing node {old} by node {new} at {member}"))?;
    let request = AdminRequest::ReplaceHere { old, new, member };
    let mut done = 0;
    for address in addresses {
        // A new replica copies what it lacks, so this may take long: each node's answer is shown when it comes.
        match admin::call(&address, &request).await {
            Ok(AdminReply::Done { lines }) => {
                done += lines.len();
                for line in lines {
                    out.line(&line)?;
                }
            }
            Ok(AdminReply::Failed { reason }) => bail!("{address}: {reason}"),
            Ok(other) => bail!("{address}: unexpected answer {other:?}"),
            Err(reason) => out.line(&format!("{reason} (if this is node {old}, that is expected)"))?,
        }
    }
    if done < status.groups.len() {
        bail!(
            "{done} of {} broker groups were changed; run the command again when every group has a leader",
            status.groups.len()
        );
    }
    out.line(&format!("done: node {old} is no member any more; its id is never used again"))
}
