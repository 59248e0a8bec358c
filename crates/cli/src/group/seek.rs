//! `duolog group seek`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail, ensure};
use clap::{ArgGroup, Args};
use serde::Serialize;
use serde_json::json;

use super::DEAD;
use crate::arguments::{ConnectionArgs, OutputArgs};
use crate::client::{Asked, Client, OffsetToCommit};
use crate::output::{Out, OutputFormat, Table, count, or_dash};
use crate::time;

#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("target").required(true).args(["to_earliest", "to_latest", "to_offset", "to_time", "by"])),
    after_help = "Examples:
  duolog group seek billing --to-earliest
  duolog group seek billing --topic payments --to-time 2026-11-23T10:00:00Z --execute
  duolog group seek billing --topic payments --partition 0 --by -100 --execute

Without --execute nothing is changed. Offsets beyond either end of a partition are moved to that end. The group must not have
members: they would go on where they are, and commit over it."
)]
pub struct SeekCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Id of the group.
    group: String,
    /// Only this topic; otherwise all for which the group has committed offsets. May be repeated.
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// Only these partitions: N[,N…]; needs one --topic.
    #[arg(long = "partition", value_name = "PARTITIONS", value_delimiter = ',')]
    partitions: Vec<i32>,
    /// To the first record that is kept.
    #[arg(long)]
    to_earliest: bool,
    /// To the end: only later records are consumed.
    #[arg(long)]
    to_latest: bool,
    /// To this offset.
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<i64>,
    /// To the first record of this time or later: RFC 3339, or milliseconds since 1970. To the end when there is none.
    #[arg(long, value_name = "TIME")]
    to_time: Option<String>,
    /// From the committed offset this many records on, or back when it is negative.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    by: Option<i64>,
    /// Commit the new offsets.
    #[arg(long)]
    execute: bool,
}

/// Where to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Earliest,
    Latest,
    Offset(i64),
    Time(i64),
    By(i64),
}

impl SeekCommand {
    fn target(&self) -> anyhow::Result<Target> {
        Ok(match (self.to_earliest, self.to_latest, self.to_offset, &self.to_time, self.by) {
            (true, ..) => Target::Earliest,
            (_, true, ..) => Target::Latest,
            (_, _, Some(offset), ..) => {
                ensure!(offset >= 0, "--to-offset {offset}: expected 0 or more");
                Target::Offset(offset)
            }
            (_, _, _, Some(time), _) => Target::Time(time::parse_ms(time).context("--to-time")?),
            (_, _, _, _, Some(by)) => Target::By(by),
            _ => bail!("expected one of --to-earliest, --to-latest, --to-offset, --to-time and --by"),
        })
    }
}

/// What is known of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    committed: Option<i64>,
    earliest: i64,
    latest: i64,
    /// The first offset at the wanted time, if that is asked for and there is one.
    at_time: Option<i64>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    topic: String,
    partition: i32,
    old: Option<i64>,
    new: i64,
}

pub async fn run(command: SeekCommand) -> anyhow::Result<()> {
    let target = command.target()?;
    ensure!(
        command.partitions.is_empty() || command.topics.len() == 1,
        "--partition needs exactly one --topic, found {}",
        command.topics.len()
    );
    let client = command.connection.client()?;
    refuse_members(&client, &command.group).await?;
    let rows = rows(&client, &command, target).await?;
    if command.execute {
        let offset = |row: &Row| OffsetToCommit { topic: row.topic.clone(), partition: row.partition, offset: row.new };
        let offsets: Vec<OffsetToCommit> = rows.iter().map(offset).collect();
        client.commit(&command.group, None, &offsets).await.context("no offset was changed")?;
    }
    let mut out = Out::default();
    if command.output.output == OutputFormat::Json {
        return out.json(&json!({"group": command.group, "executed": command.execute, "offsets": rows}));
    }
    let mut table = Table::new(&["TOPIC", ">PARTITION", ">OLD", ">NEW"]);
    for row in &rows {
        table.row(vec![row.topic.clone(), row.partition.to_string(), or_dash(row.old), row.new.to_string()]);
    }
    out.table(&table)?;
    let number = count(rows.len() as u64, "offset");
    out.line("")?;
    match command.execute {
        true => out.line(&format!("committed {number} for consumer group {}", command.group)),
        false => out.line(&format!("nothing was changed; with --execute {number} would be committed")),
    }
}

async fn refuse_members(client: &Client, group: &str) -> anyhow::Result<()> {
    let described = client.describe_group(group).await?;
    ensure!(
        described.members.is_empty(),
        "consumer group {group:?} has {} (state {}): stop them first, since they would commit over the new offsets",
        count(described.members.len() as u64, "member"),
        described.state
    );
    // A group that only has offsets is "Empty"; one that never was may be given offsets before its first member comes.
    if described.state == DEAD {
        eprintln!("duolog: consumer group {group:?} does not exist yet");
    }
    Ok(())
}

async fn rows(client: &Client, command: &SeekCommand, target: Target) -> anyhow::Result<Vec<Row>> {
    let committed = client.committed(&command.group).await?;
    let topics: BTreeSet<String> = match command.topics.is_empty() {
        true => committed.keys().map(|(topic, _)| topic.clone()).collect(),
        false => command.topics.iter().cloned().collect(),
    };
    ensure!(
        !topics.is_empty(),
        "consumer group {:?} has no committed offsets: say with --topic for which topic it shall get some",
        command.group
    );
    let mut rows = Vec::new();
    for topic in topics {
        let known = known(client, &topic, target, &committed).await?;
        for wanted in &command.partitions {
            ensure!(known.contains_key(wanted), "--partition {wanted}: topic {topic:?} has {} partitions", known.len());
        }
        let is_wanted = |partition: &i32| match command.partitions.is_empty() {
            // Without --topic only what the group has consumed is moved.
            true => !command.topics.is_empty() || committed.contains_key(&(topic.clone(), *partition)),
            false => command.partitions.contains(partition),
        };
        for (partition, known) in known.into_iter().filter(|(partition, _)| is_wanted(partition)) {
            let new = new_offset(target, known).with_context(|| format!("partition {partition} of topic {topic:?}"))?;
            rows.push(Row { topic: topic.clone(), partition, old: known.committed, new });
        }
    }
    Ok(rows)
}

async fn known(
    client: &Client,
    topic: &str,
    target: Target,
    committed: &BTreeMap<(String, i32), i64>,
) -> anyhow::Result<BTreeMap<i32, Known>> {
    let earliest = client.offsets(topic, Asked::Earliest).await?;
    let latest = client.offsets(topic, Asked::Latest).await?;
    let at_time = match target {
        Target::Time(ms) => client.offsets(topic, Asked::AtOrAfter(ms)).await?,
        _ => BTreeMap::new(),
    };
    let of = |offsets: &BTreeMap<i32, Option<i64>>, partition| offsets.get(&partition).copied().flatten();
    let partition = |partition: i32| {
        let known = Known {
            committed: committed.get(&(topic.to_owned(), partition)).copied(),
            earliest: of(&earliest, partition).unwrap_or(0),
            latest: of(&latest, partition).unwrap_or(0),
            at_time: of(&at_time, partition),
        };
        (partition, known)
    };
    Ok(latest.keys().copied().map(partition).collect())
}

/// The offset to commit: never before what is kept, never beyond the end.
fn new_offset(target: Target, known: Known) -> anyhow::Result<i64> {
    let wanted = match target {
        Target::Earliest => known.earliest,
        Target::Latest => known.latest,
        Target::Offset(offset) => offset,
        Target::Time(_) => known.at_time.unwrap_or(known.latest),
        Target::By(by) => known
            .committed
            .context("--by moves committed offsets, and nothing is committed here; use --to-earliest or --to-latest")?
            .saturating_add(by),
    };
    Ok(wanted.max(known.earliest).min(known.latest.max(known.earliest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known { committed: Some(50), earliest: 10, latest: 100, at_time: Some(70) };

    #[test]
    fn every_target_and_both_ends() {
        for (target, known, expected) in [
            (Target::Earliest, KNOWN, 10),
            (Target::Latest, KNOWN, 100),
            (Target::Offset(42), KNOWN, 42),
            (Target::Offset(0), KNOWN, 10),
            (Target::Offset(i64::MAX), KNOWN, 100),
            (Target::Time(1), KNOWN, 70),
            (Target::Time(1), Known { at_time: None, ..KNOWN }, 100),
            (Target::By(7), KNOWN, 57),
            (Target::By(-7), KNOWN, 43),
            (Target::By(-1000), KNOWN, 10),
            (Target::By(i64::MAX), KNOWN, 100),
            (Target::By(i64::MIN), KNOWN, 10),
            (Target::Latest, Known { committed: None, earliest: 0, latest: 0, at_time: None }, 0),
        ] {
            assert_eq!(new_offset(target, known).unwrap(), expected, "{target:?} {known:?}");
        }
    }

    #[test]
    fn a_shift_needs_something_to_shift() {
        let error = new_offset(Target::By(1), Known { committed: None, ..KNOWN }).unwrap_err().to_string();
        assert!(error.contains("nothing is committed") && error.contains("--to-earliest"), "{error}");
    }
}
