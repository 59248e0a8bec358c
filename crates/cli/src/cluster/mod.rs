//! `duolog cluster`: status, health, members, recovery, over the calls between nodes.

mod add_node;
mod backup;
mod drain;
mod health;
mod recover;
mod remove_node;
mod replace;
mod status;
mod steps;

use anyhow::bail;
use clap::{Args, Subcommand};
use duolog_replication::admin::{self, AdminReply, AdminRequest, StatusReply};

use crate::client::Address;
use crate::exit::Exit;
use crate::run;

/// Commands about the cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Shows every broker group: its leader, its replicas, how far they are.
    Status(status::StatusCommand),
    /// Says whether the cluster is well. Exit code 0: healthy, 1: degraded, 2: unavailable.
    Health(health::HealthCommand),
    /// Lets a new node in. Start it first, under a new id.
    AddNode(add_node::AddNodeCommand),
    /// Takes a node out for good, running or dead.
    RemoveNode(remove_node::RemoveNodeCommand),
    /// Moves all leaderships off a node and keeps them off, for maintenance.
    Drain(drain::DrainCommand),
    /// Puts a new node in the place of one whose disk was lost. Start the new node first, under a new id.
    Replace(replace::ReplaceCommand),
    /// Writes all that the cluster holds into a directory of one node's machine.
    Backup(backup::BackupCommand),
    /// Lets a node vote again that lost power and cannot catch up, because the others are gone for good.
    Recover(recover::RecoverCommand),
}

impl ClusterCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// It was not done; the error says what was wrong, what was expected and what to do.
    pub fn run(self) -> anyhow::Result<Exit> {
        match self {
            Self::Status(command) => run::block_on(status::run(command))?,
            Self::Health(command) => return run::block_on(health::run(command)),
            Self::AddNode(command) => run::block_on(add_node::run(command))?,
            Self::RemoveNode(command) => run::block_on(remove_node::run(command))?,
            Self::Drain(command) => run::block_on(drain::run(command))?,
            Self::Replace(command) => run::block_on(replace::run(command))?,
            Self::Backup(command) => run::block_on(backup::run(command))?,
            Self::Recover(command) => run::block_on(recover::run(command))?,
        }
        Ok(Exit::Success)
    }
}

/// Whom to ask.
#[derive(Debug, Args)]
struct NodeArgs {
    /// Addresses for calls between nodes (gRPC) of one or more nodes: HOST:PORT[,HOST:PORT…]; the first that answers is asked.
    #[arg(
        long = "node",
        value_name = "ADDRESSES",
        default_value = "127.0.0.1:7070",
        value_delimiter = ',',
        value_parser = node_address
    )]
    nodes: Vec<String>,
}

/// HOST:PORT. What is none is wrong usage: `cluster health` must not take it for a cluster that is down.
fn node_address(text: &str) -> anyhow::Result<String> {
    Ok(text.trim().parse::<Address>()?.to_string())
}

async fn ask(node: &str, request: &AdminRequest) -> anyhow::Result<AdminReply> {
    match admin::call(node, request).await.map_err(anyhow::Error::msg)? {
        AdminReply::Failed { reason } => bail!("{node}: {reason}"),
        reply => Ok(reply),
    }
}

/// A reply to another question than was asked.
fn unexpected(node: &str) -> anyhow::Error {
    anyhow::anyhow!("{node} answers something else than was asked: it runs another version of Duolog than this command")
}

/// The first node that answers, and the cluster as it sees it.
async fn first_that_answers(nodes: &[String]) -> anyhow::Result<(&str, StatusReply)> {
    let mut silent = Vec::new();
    for node in nodes {
        match ask(node, &AdminRequest::Status).await {
            Ok(AdminReply::Status(status)) => return Ok((node.as_str(), status)),
            Ok(_) => return Err(unexpected(node)),
            Err(error) => silent.push(format!("{error:#}")),
        }
    }
    bail!("no node answers; is one running there, and is this its gRPC port (listen.grpc)? {}", silent.join("; "))
}

/// The cluster as the first node sees it that answers.
async fn fetch_status(nodes: &[String]) -> anyhow::Result<StatusReply> {
    Ok(first_that_answers(nodes).await?.1)
}
