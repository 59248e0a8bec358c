//! `duolog cluster`: status, replace, recover.

use std::io::Write;

use anyhow::{Context, bail};
use clap::Subcommand;
use duolog_replication::admin::{self, AdminReply, AdminRequest, StatusReply};

#[derive(Subcommand)]
pub enum ClusterCommand {
    /// Shows every broker group: its leader, its replicas, how far they are.
    Status {
        /// A node's address for calls between nodes.
        #[arg(long, default_value = "127.0.0.1:7070")]
        node: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Puts a new node in the place of one whose disk was lost. Start the new node first, under a new id.
    Replace {
        /// A node's address for calls between nodes.
        #[arg(long, default_value = "127.0.0.1:7070")]
        node: String,
        /// The node that goes.
        #[arg(long)]
        old: u64,
        /// The node that comes.
        #[arg(long)]
        new: u64,
    },
    /// Lets a node vote again that lost power and cannot catch up, because the others are gone for good.
    Recover {
        /// The guarded node's address for calls between nodes.
        #[arg(long, default_value = "127.0.0.1:7070")]
        node: String,
        /// Accept the loss that is printed.
        #[arg(long)]
        accept_loss: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

pub fn run(command: ClusterCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        match command {
            ClusterCommand::Status { node, json } => status(&node, json).await,
            ClusterCommand::Replace { node, old, new } => replace(&node, old, new).await,
            ClusterCommand::Recover { node, accept_loss, yes } => recover(&node, accept_loss, yes).await,
        }
    })
}

async fn ask(node: &str, request: &AdminRequest) -> anyhow::Result<AdminReply> {
    match admin::call(node, request).await.map_err(anyhow::Error::msg)? {
        AdminReply::Failed { reason } => bail!("{node}: {reason}"),
        reply => Ok(reply),
    }
}

async fn fetch_status(node: &str) -> anyhow::Result<StatusReply> {
    match ask(node, &AdminRequest::Status).await? {
        AdminReply::Status(status) => Ok(status),
        other => bail!("{node}: unexpected answer {other:?}"),
    }
}

async fn status(node: &str, json: bool) -> anyhow::Result<()> {
    let status = fetch_status(node).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&status)?);
        return Ok(());
    }
    let id = status.cluster_id.as_deref().unwrap_or("not initialized yet");
    println!("cluster {} ({id}), as node {} sees it", status.cluster_name, status.node_id);
    println!(
        "{:<6} {:<6} {:<7} {:<22} {:<9} {:>12} {:>12} {:>12}",
        "group", "term", "node", "address", "role", "last", "flushed", "applied"
    );
    for group in &status.groups {
        for replica in &group.replicas {
            let role = match (group.leader == Some(replica.node_id), replica.reachable, replica.guarded, replica.voter)
            {
                (_, false, ..) => "silent",
                (true, ..) => "leader",
                (_, _, true, _) => "guarded",
                (_, _, _, true) => "follower",
                (_, _, _, false) => "learner",
            };
            let shown = |index: Option<u64>| index.map_or("-".to_owned(), |index| index.to_string());
            println!(
                "{:<6} {:<6} {:<7} {:<22} {:<9} {:>12} {:>12} {:>12}",
                group.id,
                group.term,
                replica.node_id,
                replica.address,
                role,
                shown(replica.last_index),
                shown(replica.flushed_index),
                shown(replica.applied_next.checked_sub(1)),
            );
        }
    }
    Ok(())
}

/// Every group is changed on its own leader, so every node is asked.
async fn replace(node: &str, old: u64, new: u64) -> anyhow::Result<()> {
    let status = fetch_status(node).await?;
    let mut addresses: Vec<String> =
        status.groups.iter().flat_map(|group| group.replicas.iter().map(|replica| replica.address.clone())).collect();
    addresses.push(node.to_owned());
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
    println!("replacing node {old} by node {new} at {member}");
    let request = AdminRequest::ReplaceHere { old, new, member };
    let mut done = 0;
    for (address, reply) in admin::call_all(&addresses, &request).await {
        match reply {
            Ok(AdminReply::Done { lines }) => {
                done += lines.len();
                for line in lines {
                    println!("{line}");
                }
            }
            Ok(AdminReply::Failed { reason }) => bail!("{address}: {reason}"),
            Ok(other) => bail!("{address}: unexpected answer {other:?}"),
            Err(reason) => println!("{reason} (if this is node {old}, that is expected)"),
        }
    }
    if done < status.groups.len() {
        bail!(
            "{done} of {} broker groups were changed; run the command again when every group has a leader",
            status.groups.len()
        );
    }
    println!("done: node {old} is no member any more; its id is never used again");
    Ok(())
}

async fn recover(node: &str, accept_loss: bool, yes: bool) -> anyhow::Result<()> {
    let AdminReply::Done { lines } = ask(node, &AdminRequest::RecoverPreview).await? else {
        bail!("{node}: unexpected answer");
    };
    for line in &lines {
        println!("{line}");
    }
    if !accept_loss {
        println!("nothing was changed; with --accept-loss the node votes again and this loss is accepted");
        return Ok(());
    }
    if !yes {
        print!("type 'accept' to go on: ");
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if answer.trim() != "accept" {
            bail!("nothing was changed");
        }
    }
    ask(node, &AdminRequest::RecoverAcceptLoss).await?;
    println!("the node votes again");
    Ok(())
}
