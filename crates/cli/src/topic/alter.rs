//! `duolog topic alter`.

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::json;

use super::{Mode, with_durability};
use crate::arguments::{ConnectionArgs, OutputArgs, pairs};
use crate::client::{Client, ConfigChange, Resource};
use crate::output::{Out, OutputFormat};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog topic alter payments --durability sync/sync
  duolog topic alter payments --config retention.ms=3600000 --delete-config flush.ms
  duolog topic alter payments --partitions 24")]
pub struct AlterCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Name of the topic.
    name: String,
    /// Replication and flush. Holds for later records; takes nothing back from earlier ones.
    #[arg(long, value_enum, value_name = "REPLICATION/FLUSH")]
    durability: Option<Mode>,
    /// A topic config to set, as KEY=VALUE; may be repeated.
    #[arg(long = "config", value_name = "KEY=VALUE", num_args = 1)]
    configs: Vec<String>,
    /// A topic config to set back to its default; may be repeated.
    #[arg(long = "delete-config", value_name = "KEY", num_args = 1)]
    delete_configs: Vec<String>,
    /// The new number of partitions; never fewer than now.
    #[arg(long)]
    partitions: Option<i32>,
}

pub async fn run(command: AlterCommand) -> anyhow::Result<()> {
    let configs = with_durability(pairs("--config", &command.configs)?, command.durability)?;
    let set = configs.into_iter().map(|(key, value)| ConfigChange::Set(key, value));
    let changes: Vec<ConfigChange> =
        set.chain(command.delete_configs.iter().cloned().map(ConfigChange::Delete)).collect();
    ensure!(
        !changes.is_empty() || command.partitions.is_some(),
        "nothing to change: expected --durability, --config, --delete-config or --partitions"
    );
    let client = command.connection.client()?;
    let name = &command.name;
    let mut done = Vec::new();
    if let Some(partitions) = command.partitions {
        add_partitions(&client, name, partitions).await?;
        done.push(format!("{partitions} partitions"));
    }
    if !changes.is_empty() {
        let so_far = if done.is_empty() { String::new() } else { format!("; {} were made", done.join(", ")) };
        client
            .alter_configs(Resource::Topic, name, &changes)
            .await
            .with_context(|| format!("configs are as before{so_far}"))?;
        done.extend(changes.iter().map(ToString::to_string));
    }
    let mut out = Out::default();
    match command.output.output {
        OutputFormat::Json => out.json(&json!({"topic": name, "changed": done})),
        OutputFormat::Table => out.line(&format!("changed topic {name}: {}", done.join(", "))),
    }
}

async fn add_partitions(client: &Client, name: &str, partitions: i32) -> anyhow::Result<()> {
    let now = client.topic(name).await?.partitions.len();
    ensure!(
        usize::try_from(partitions).is_ok_and(|wanted| wanted > now),
        "--partitions {partitions}: topic {name:?} has {now} partitions, expected more; partitions cannot be taken away"
    );
    Ok(client.create_partitions(name, partitions).await?)
}
