//! `duolog topic create`.

use clap::Args;
use kafka_protocol::ResponseError;
use serde_json::json;

use super::{Mode, with_durability};
use crate::arguments::{ConnectionArgs, OutputArgs, pairs};
use crate::output::{Out, OutputFormat};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog topic create payments
  duolog topic create payments --partitions 12 --durability sync/async
  duolog topic create orders --config retention.ms=86400000 --config flush.ms=20 --if-not-exists")]
pub struct CreateCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Name of the topic: 1 to 249 of letters, digits, '.', '_' and '-'.
    name: String,
    /// Number of partitions; the cluster's default otherwise.
    #[arg(long, allow_negative_numbers = true)]
    partitions: Option<i32>,
    /// Replication and flush: when a producer is answered, and what its records survive; sync/sync otherwise.
    #[arg(long, value_enum, value_name = "REPLICATION/FLUSH")]
    durability: Option<Mode>,
    /// A topic config as KEY=VALUE; may be repeated. docs/config.md lists all keys.
    #[arg(long = "config", value_name = "KEY=VALUE", num_args = 1)]
    configs: Vec<String>,
    /// Do not complain when the topic is there already.
    #[arg(long)]
    if_not_exists: bool,
}

pub async fn run(command: CreateCommand) -> anyhow::Result<()> {
    let configs = with_durability(pairs("--config", &command.configs)?, command.durability)?;
    let client = command.connection.client()?;
    let name = &command.name;
    let (partitions, created) = match client.create_topic(name, command.partitions, &configs).await {
        Ok(partitions) => (i64::from(partitions), true),
        Err(error) if command.if_not_exists && error.code() == Some(ResponseError::TopicAlreadyExists) => {
            (i64::try_from(client.topic(name).await?.partitions.len())?, false)
        }
        Err(error) => return Err(error.into()),
    };
    let mut out = Out::default();
    match (command.output.output, created) {
        (OutputFormat::Json, _) => out.json(&json!({"topic": name, "partitions": partitions, "created": created})),
        (OutputFormat::Table, true) => out.line(&format!("created topic {name} with {partitions} partitions")),
        (OutputFormat::Table, false) => out.line(&format!("topic {name} is there already")),
    }
}
