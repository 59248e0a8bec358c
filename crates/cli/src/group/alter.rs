//! `duolog group alter`.

use anyhow::ensure;
use clap::Args;
use serde_json::json;

use crate::arguments::{ConnectionArgs, OutputArgs, pairs};
use crate::client::{ConfigChange, Resource};
use crate::output::{Out, OutputFormat};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog group alter billing --config consumption.mode=broadcasting
  duolog group alter billing --config retry.max.times=3 --config consumption.start=last
  duolog group alter billing --delete-config retry.max.times")]
pub struct AlterCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Id of the group; it need not exist yet.
    group: String,
    /// A config of the group to set, as KEY=VALUE; may be repeated.
    #[arg(long = "config", value_name = "KEY=VALUE", num_args = 1)]
    configs: Vec<String>,
    /// A config of the group to set back to its default; may be repeated.
    #[arg(long = "delete-config", value_name = "KEY", num_args = 1)]
    delete_configs: Vec<String>,
}

pub async fn run(command: AlterCommand) -> anyhow::Result<()> {
    let set = pairs("--config", &command.configs)?.into_iter().map(|(key, value)| ConfigChange::Set(key, value));
    let changes: Vec<ConfigChange> =
        set.chain(command.delete_configs.iter().cloned().map(ConfigChange::Delete)).collect();
    ensure!(!changes.is_empty(), "nothing to change: expected --config or --delete-config");
    command.connection.client()?.alter_configs(Resource::Group, &command.group, &changes).await?;
    let done: Vec<String> = changes.iter().map(ToString::to_string).collect();
    let mut out = Out::default();
    match command.output.output {
        OutputFormat::Json => out.json(&json!({"group": command.group, "changed": done})),
        OutputFormat::Table => out.line(&format!("changed consumer group {}: {}", command.group, done.join(", "))),
    }
}
