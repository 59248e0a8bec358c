//! `duolog consume`: records of a topic, as text or JSON, alone or as a member of a consumer group.
//!
//! - `format.rs`: what a record looks like; `printer.rs`: how many are printed, and how far;
//! - `reader.rs`: fetching from all leaders;
//! - `member.rs`: membership of a consumer group; `protocol.rs` and `assignor.rs`: its messages and the range strategy.

mod assignor;
mod format;
mod member;
mod printer;
mod protocol;
mod reader;

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};

use crate::arguments::ConnectionArgs;
use crate::client::{Asked, Client};
use crate::exit::Exit;
use crate::run;
use format::Format;
use printer::Printer;

pub(crate) use printer::RECORDS_BYTES_MAX;
pub(crate) use protocol::{STRATEGY, assigned_partitions};
pub(crate) use reader::{Reader, Sink};

/// Consumes a topic's records.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog consume payments --from-beginning
  duolog consume payments --from-beginning --until-end --format '%p %o %k=%v\\n'
  duolog consume payments --partition 0,2 --offset 1000 --max-records 10 --output json
  duolog consume payments --group billing

In --format: %t topic, %p partition, %o offset, %T timestamp in ms, %k key, %K its length (-1: none), %v or %s value,
%S its length, %h headers as k=v,k=v, %% a percent sign, and \\n \\r \\t \\0 \\\\ as usual.

Without --group it starts at the end of the topic and commits nothing. With --group it takes its share of the partitions,
goes on at the committed offsets, and commits what it has printed. Ctrl-C ends it.")]
pub struct ConsumeCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Name of the topic.
    topic: String,
    /// Start at the first record; with --group only where nothing is committed.
    #[arg(long, conflicts_with = "offset")]
    from_beginning: bool,
    /// Start at this offset of each partition.
    #[arg(long, conflicts_with = "group")]
    offset: Option<i64>,
    /// Only these partitions: N[,N…].
    #[arg(long = "partition", value_name = "PARTITIONS", value_delimiter = ',', conflicts_with = "group")]
    partitions: Vec<i32>,
    /// End after this many records.
    #[arg(long, value_name = "N")]
    max_records: Option<u64>,
    /// End where the topic ended when the command began.
    #[arg(long, conflicts_with = "group")]
    until_end: bool,
    /// Be a member of this consumer group.
    #[arg(long)]
    group: Option<String>,
    /// What is printed of each record; see below.
    #[arg(long, default_value = "%v\\n", conflicts_with = "output")]
    format: String,
    /// Text by --format, or one line of JSON per record.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: RecordOutput,
}

/// The form of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum RecordOutput {
    /// By `--format`.
    #[default]
    Text,
    /// A line of JSON per record.
    Json,
}

impl ConsumeCommand {
    /// Runs the command until it has its records, or is interrupted.
    ///
    /// # Errors
    /// The topic is unknown or cannot be read any more.
    pub fn run(self) -> anyhow::Result<Exit> {
        run::block_on(consume(self))
    }
}

async fn consume(command: ConsumeCommand) -> anyhow::Result<Exit> {
    let format = match command.output {
        RecordOutput::Text => {
            Format::parse(&command.format).with_context(|| format!("--format {:?}", command.format))?
        }
        RecordOutput::Json => Format::Json,
    };
    let client = command.connection.client()?;
    let mut printer = Printer::new(&command.topic, format, command.max_records);
    match &command.group {
        Some(group) => member::consume(&client, &command.topic, group, command.from_beginning, &mut printer).await?,
        None => {
            tokio::select! {
                result = alone(&client, &command, &mut printer) => result?,
                () = run::interrupted() => {}
            }
        }
    }
    printer.flush()?;
    Ok(Exit::Success)
}

/// Without a group.
async fn alone(client: &Client, command: &ConsumeCommand, printer: &mut Printer) -> anyhow::Result<()> {
    let latest = known(client.offsets(&command.topic, Asked::Latest).await?);
    let wanted = wanted_partitions(&command.topic, &latest, &command.partitions)?;
    let mut positions = match (command.from_beginning, command.offset) {
        (true, _) => known(client.offsets(&command.topic, Asked::Earliest).await?),
        (false, None) => latest.clone(),
        (false, Some(offset)) => {
            let earliest = known(client.offsets(&command.topic, Asked::Earliest).await?);
            check_offset(offset, &wanted, &earliest, &latest)?
        }
    };
    positions.retain(|partition, _| wanted.contains(partition));
    let ends = if command.until_end { Some(latest) } else { None };
    let mut reader = Reader::new(client, &command.topic, positions);
    loop {
        let at_end = ends.as_ref().is_some_and(|ends| {
            reader.positions().iter().all(|(partition, next)| ends.get(partition).is_none_or(|end| next >= end))
        });
        if printer.is_done() || at_end {
            return Ok(());
        }
        reader.poll(printer).await?;
    }
}

fn known(found: BTreeMap<i32, Option<i64>>) -> BTreeMap<i32, i64> {
    found.into_iter().map(|(partition, offset)| (partition, offset.unwrap_or(0))).collect()
}

fn wanted_partitions(topic: &str, known: &BTreeMap<i32, i64>, asked: &[i32]) -> anyhow::Result<Vec<i32>> {
    if asked.is_empty() {
        return Ok(known.keys().copied().collect());
    }
    for partition in asked {
        if !known.contains_key(partition) {
            bail!("--partition {partition}: topic {topic:?} has partitions 0 to {}", known.len().saturating_sub(1));
        }
    }
    Ok(asked.to_vec())
}

/// The same offset in each partition, where it lies in all of them.
fn check_offset(
    offset: i64,
    wanted: &[i32],
    earliest: &BTreeMap<i32, i64>,
    latest: &BTreeMap<i32, i64>,
) -> anyhow::Result<BTreeMap<i32, i64>> {
    let checked = |partition: &i32| {
        let (start, end) = (earliest.get(partition).copied().unwrap_or(0), latest.get(partition).copied().unwrap_or(0));
        ensure!(
            (start..=end).contains(&offset),
            "--offset {offset}: partition {partition} has offsets {start} to {end} (the last is the next to be written)"
        );
        Ok((*partition, offset))
    };
    wanted.iter().map(checked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_must_lie_in_every_wanted_partition() {
        let (earliest, latest) = (BTreeMap::from([(0, 5), (1, 0)]), BTreeMap::from([(0, 9), (1, 7)]));
        assert_eq!(check_offset(6, &[0, 1], &earliest, &latest).unwrap(), BTreeMap::from([(0, 6), (1, 6)]));
        assert_eq!(check_offset(9, &[0], &earliest, &latest).unwrap(), BTreeMap::from([(0, 9)]));
        let error = check_offset(8, &[0, 1], &earliest, &latest).unwrap_err().to_string();
        assert!(error.contains("partition 1 has offsets 0 to 7"), "{error}");
        assert!(check_offset(4, &[0], &earliest, &latest).is_err());
    }

    #[test]
    fn partitions_must_exist() {
        let known = BTreeMap::from([(0, 0), (1, 0)]);
        assert_eq!(wanted_partitions("t", &known, &[]).unwrap(), [0, 1]);
        assert_eq!(wanted_partitions("t", &known, &[1]).unwrap(), [1]);
        let error = wanted_partitions("t", &known, &[2]).unwrap_err().to_string();
        assert!(error.contains("partitions 0 to 1"), "{error}");
    }
}
