//! `duolog topic list`.

use clap::Args;
use serde::Serialize;

use super::{FLUSH_KEY, REPLICATION_KEY, durability_of};
use crate::arguments::{ConnectionArgs, OutputArgs};
use crate::client::{Asked, Client, Resource, TopicInfo};
use crate::output::{Out, OutputFormat, Table, or_dash};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog topic list
  duolog topic list --bootstrap 10.0.0.1:9092,10.0.0.2:9092 --output json")]
pub struct ListCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Serialize)]
struct Row {
    topic: String,
    partitions: usize,
    replicas: usize,
    durability: Option<String>,
    /// Records that are kept; none when a partition has no leader at the moment.
    records: Option<i64>,
}

pub async fn run(command: ListCommand) -> anyhow::Result<()> {
    let client = command.connection.client()?;
    let rows = rows(&client).await?;
    let mut out = Out::default();
    if command.output.output == OutputFormat::Json {
        return out.json(&rows);
    }
    let mut table = Table::new(&["TOPIC", ">PARTITIONS", ">REPLICAS", "DURABILITY", ">RECORDS"]);
    for row in &rows {
        table.row(vec![
            row.topic.clone(),
            row.partitions.to_string(),
            row.replicas.to_string(),
            or_dash(row.durability.as_ref()),
            or_dash(row.records),
        ]);
    }
    out.table(&table)
}

async fn rows(client: &Client) -> anyhow::Result<Vec<Row>> {
    let topics = client.all_topics().await?;
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    let configs = client.configs(Resource::Topic, &names, Some(&[REPLICATION_KEY, FLUSH_KEY])).await?;
    let earliest = client.try_offsets(&topics, Asked::Earliest).await;
    let latest = client.try_offsets(&topics, Asked::Latest).await;
    let records = |topic: &TopicInfo| -> Option<i64> {
        let of_partition = |partition: i32| {
            let key = (topic.name.clone(), partition);
            let end = (*latest.get(&key)?.as_ref().ok()?)?;
            let start = (*earliest.get(&key)?.as_ref().ok()?)?;
            Some((end - start).max(0))
        };
        topic.partitions.iter().map(|p| of_partition(p.partition)).sum()
    };
    let row = |topic: &TopicInfo| Row {
        topic: topic.name.clone(),
        partitions: topic.partitions.len(),
        replicas: topic.partitions.iter().map(|partition| partition.replicas.len()).max().unwrap_or(0),
        durability: configs.get(&topic.name).and_then(|configs| durability_of(configs)),
        records: records(topic),
    };
    Ok(topics.iter().map(row).collect())
}
