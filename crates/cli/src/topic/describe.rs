//! `duolog topic describe`.

use clap::Args;
use serde::Serialize;

use super::durability_of;
use crate::arguments::{ConnectionArgs, OutputArgs};
use crate::client::{Asked, Client, ConfigOrigin, Resource};
use crate::output::{Out, OutputFormat, Table, list, or_dash};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog topic describe payments
  duolog topic describe payments --all-configs
  duolog topic describe payments --output json | jq '.partitions[].leader'")]
pub struct DescribeCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Name of the topic.
    name: String,
    /// Show the configs that have their default too; JSON always has all.
    #[arg(long)]
    all_configs: bool,
}

#[derive(Debug, Serialize)]
struct Description {
    topic: String,
    id: String,
    durability: Option<String>,
    partitions: Vec<PartitionRow>,
    configs: Vec<ConfigRow>,
}

#[derive(Debug, Serialize)]
struct PartitionRow {
    partition: i32,
    leader: Option<i32>,
    leader_epoch: i32,
    replicas: Vec<i32>,
    in_sync_replicas: Vec<i32>,
    log_start_offset: Option<i64>,
    high_watermark: Option<i64>,
}

#[derive(Debug, Serialize)]
struct ConfigRow {
    name: String,
    value: String,
    source: &'static str,
}

pub async fn run(command: DescribeCommand) -> anyhow::Result<()> {
    let description = describe(&command.connection.client()?, &command.name).await?;
    let mut out = Out::default();
    if command.output.output == OutputFormat::Json {
        return out.json(&description);
    }
    let durability = or_dash(description.durability.as_ref());
    out.line(&format!("topic {}, id {}, durability {durability}", description.topic, description.id))?;
    out.line("")?;
    out.table(&partitions(&description.partitions))?;
    let is_shown = |row: &&ConfigRow| command.all_configs || row.source != DEFAULT;
    let mut configs = Table::new(&["CONFIG", "VALUE", "SOURCE"]);
    let shown: Vec<&ConfigRow> = description.configs.iter().filter(is_shown).collect();
    for row in &shown {
        configs.row(vec![row.name.clone(), row.value.clone(), row.source.to_owned()]);
    }
    out.line("")?;
    if shown.is_empty() {
        return out.line("every config has its default; --all-configs shows them");
    }
    out.table(&configs)
}

const DEFAULT: &str = "default";

fn partitions(rows: &[PartitionRow]) -> Table {
    let mut table =
        Table::new(&[">PARTITION", ">LEADER", ">EPOCH", "REPLICAS", "IN SYNC", ">START OFFSET", ">HIGH WATERMARK"]);
    for row in rows {
        table.row(vec![
            row.partition.to_string(),
            or_dash(row.leader),
            row.leader_epoch.to_string(),
            list(&row.replicas),
            list(&row.in_sync_replicas),
            or_dash(row.log_start_offset),
            or_dash(row.high_watermark),
        ]);
    }
    table
}

async fn describe(client: &Client, name: &str) -> anyhow::Result<Description> {
    let topic = client.topic(name).await?;
    let configs = client.configs(Resource::Topic, &[name], None).await?.remove(name).unwrap_or_default();
    let topics = std::slice::from_ref(&topic);
    let earliest = client.try_offsets(topics, Asked::Earliest).await;
    let latest = client.try_offsets(topics, Asked::Latest).await;
    let partitions = topic.partitions.iter().map(|partition| {
        let key = (name.to_owned(), partition.partition);
        PartitionRow {
            partition: partition.partition,
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            replicas: partition.replicas.clone(),
            in_sync_replicas: partition.in_sync_replicas.clone(),
            log_start_offset: earliest.get(&key).and_then(|found| *found.as_ref().ok()?),
            high_watermark: latest.get(&key).and_then(|found| *found.as_ref().ok()?),
        }
    });
    let source = |origin| match origin {
        ConfigOrigin::Explicit => "topic",
        ConfigOrigin::Default => DEFAULT,
    };
    Ok(Description {
        topic: name.to_owned(),
        id: topic.id.clone(),
        durability: durability_of(&configs),
        partitions: partitions.collect(),
        configs: configs
            .into_iter()
            .map(|config| ConfigRow { name: config.name, value: config.value, source: source(config.origin) })
            .collect(),
    })
}
