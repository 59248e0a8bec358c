//! `duolog message`: query by id or key, trace, resend. Over the Kafka protocol, so messages of every kind of client are found.
//!
//! The leaders know which batches may hold an id or key, so a search reads few of them. An id of a RocketMQ client says when it was made,
//! which makes its search short.

mod parts;
mod search;

use anyhow::{Context, anyhow, ensure};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use duolog_record::{BatchBuilder, Record, RecordHeader};
use duolog_types::limits::{self, TRACE_TOPIC};
use duolog_types::{partition_of_key, partition_of_message_group};
use kafka_protocol::ResponseError;
use serde::Serialize;
use serde_json::json;

use crate::arguments::{ConnectionArgs, OutputArgs};
use crate::client::Client;
use crate::exit::Exit;
use crate::output::{Out, OutputFormat, Table, count, or_dash};
use crate::run::block_on;
use crate::time::{format_ms, parse_ms};
use parts::{FIFO, Message, Wanted, header, made_ms};
use search::{Found, Range, record_at, search};

/// A message may be stored some time before and after its id was made: clocks differ, and delayed and half messages become visible
/// later, with the timestamp of that.
const BEFORE_ID_MS: i64 = 600_000;
/// Events of one message that are shown, at most.
const EVENTS_MAX: usize = 1_000;
const ORIGIN_PREFIX: &str = "DLQ_ORIGIN_";
const ORIGIN_TOPIC: &str = "DLQ_ORIGIN_TOPIC";

/// Commands about single messages.
#[derive(Debug, Subcommand)]
pub enum MessageCommand {
    /// Finds messages of a topic by id or key.
    Query(QueryCommand),
    /// Shows one message: who sent it, where it lies, which consumer groups are past it, and who got and acknowledged it.
    Trace(TraceCommand),
    /// Sends a message once more, to its topic or another one; a dead letter goes back to where it came from.
    Resend(ResendCommand),
}

#[derive(Debug, Args)]
struct SearchArgs {
    /// The topic.
    topic: String,
    /// The id that a RocketMQ client gave to the message.
    #[arg(long, required_unless_present = "key", value_parser = NonEmptyStringValueParser::new())]
    id: Option<String>,
    /// A key of the message, its message group, or the key of a Kafka record.
    #[arg(long, conflicts_with = "id", value_parser = NonEmptyStringValueParser::new())]
    key: Option<String>,
    /// Only what is stored from this time on: RFC 3339, or milliseconds since 1970. Default: ten minutes before the id was made; all that
    /// is kept when a key is looked for.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what has a timestamp up to this time.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog message query orders --id 01A1B2C3D4E5F60007055A3B0000000001
  duolog message query orders --key customer-7 --since 2026-11-23T10:00:00Z --max 100 --output json

Exit code 0: found. 1: there is no such message, or it could not be looked for.")]
pub struct QueryCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    search: SearchArgs,
    /// Messages at most.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    max: u32,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog message trace orders --id 01A1B2C3D4E5F60007055A3B0000000001")]
pub struct TraceCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    search: SearchArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  duolog message resend %DLQ%billing --partition 1 --offset 42
  duolog message resend orders --partition 0 --offset 7 --to orders-again")]
pub struct ResendCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// The topic in which the message lies.
    topic: String,
    /// Its partition.
    #[arg(long)]
    partition: i32,
    /// Its offset.
    #[arg(long)]
    offset: i64,
    /// Where it goes. Default: a dead letter to the topic that it came from, everything else to its own.
    #[arg(long)]
    to: Option<String>,
}

impl MessageCommand {
    /// Runs the command.
    ///
    /// # Errors
    /// The topic is unknown or cannot be read, or there is no such message.
    pub fn run(self) -> anyhow::Result<Exit> {
        match self {
            Self::Query(command) => block_on(query(command))?,
            Self::Trace(command) => block_on(trace(command))?,
            Self::Resend(command) => block_on(resend(command))?,
        }
        Ok(Exit::Success)
    }
}

impl SearchArgs {
    async fn search(&self, client: &Client, limit: usize) -> anyhow::Result<Found> {
        let parse = |option: &str, time: &Option<String>| {
            time.as_deref().map(parse_ms).transpose().with_context(|| option.to_owned())
        };
        let (since, until_ms) = (parse("--since", &self.since)?, parse("--until", &self.until)?);
        if let (Some(since), Some(until)) = (since, until_ms) {
            ensure!(
                since <= until,
                "--since {} is later than --until {}: expected the earlier time first",
                format_ms(since),
                format_ms(until)
            );
        }
        let wanted = match (&self.id, &self.key) {
            (Some(id), _) => Wanted::Id(id.clone()),
            (None, Some(key)) => Wanted::Key(key.clone()),
            (None, None) => anyhow::bail!("expected --id or --key"),
        };
        let default = match &wanted {
            Wanted::Id(id) => made_ms(id).map(|made| made - BEFORE_ID_MS),
            Wanted::Key(_) => None,
        };
        let range = Range { since_ms: since.or(default), until_ms };
        search(client, &self.topic, wanted, range, limit).await
    }

    /// Nothing was found: what was looked for and where, and what may be the reason.
    fn nothing(&self, searched: u64) -> anyhow::Error {
        let (what, wanted) = match (&self.id, &self.key) {
            (Some(id), _) => ("id", id.as_str()),
            (None, key) => ("key", key.as_deref().unwrap_or_default()),
        };
        let made = self.id.as_deref().and_then(made_ms);
        let reason = match (made, &self.id) {
            _ if self.since.is_some() || self.until.is_some() => {
                "nothing before --since or after --until was looked at".to_owned()
            }
            (Some(made), _) => {
                let from = format_ms(made - BEFORE_ID_MS);
                format!(
                    "nothing before {from} was looked at, as the id says when it was made: --since TIME begins earlier"
                )
            }
            (None, Some(_)) => {
                "is it whole? Ids of RocketMQ 5 clients have 34 hexadecimal digits, of which the first are 01"
                    .to_owned()
            }
            (None, None) => "keys are compared whole, and upper and lower case are told apart".to_owned(),
        };
        let searched = count(searched, "record");
        anyhow!(
            "topic {:?} has no message with the {what} {wanted:?} in {searched} that may have it; {reason}",
            self.topic
        )
    }
}

async fn query(command: QueryCommand) -> anyhow::Result<()> {
    let found = command.search.search(&command.connection.client()?, command.max as usize).await?;
    let mut out = Out::default();
    let is_json = command.output.output == OutputFormat::Json;
    if is_json {
        out.json(&found.messages)?;
    }
    if found.messages.is_empty() {
        return Err(command.search.nothing(found.searched));
    }
    if is_json {
        return Ok(());
    }
    let mut table = Table::new(&["PARTITION", ">OFFSET", "TIME", "KEY", "TAG", ">BYTES", "ID"]);
    for message in &found.messages {
        table.row(vec![
            message.partition.to_string(),
            message.offset.to_string(),
            format_ms(message.timestamp_ms),
            or_dash(message.key.as_ref()),
            or_dash(message.tag.as_ref()),
            message.body_bytes.to_string(),
            or_dash(message.message_id.as_ref()),
        ]);
    }
    out.table(&table)?;
    let (messages, searched) = (count(found.messages.len() as u64, "message"), count(found.searched, "record"));
    out.line(&format!("{messages} in {searched} of topic {}", command.search.topic))
}

/// A consumer group and the message.
#[derive(Debug, Serialize)]
struct GroupRow {
    group: String,
    committed: i64,
    /// Whether the group has consumed everything up to and with the message.
    is_past: bool,
}

async fn trace(command: TraceCommand) -> anyhow::Result<()> {
    let client = command.connection.client()?;
    let found = command.search.search(&client, 1).await?;
    let message = found.messages.into_iter().next().ok_or_else(|| command.search.nothing(found.searched))?;
    let leader = client.leaders(&message.topic).await?.get(&message.partition).copied();
    let groups = groups(&client, &message).await?;
    let events = events(&client, &message).await?;
    let mut out = Out::default();
    if command.output.output == OutputFormat::Json {
        return out.json(&json!({ "message": message, "leader": leader, "groups": groups, "events": events }));
    }
    let mut table = Table::new(&["WHAT", "VALUE"]);
    let mut line = |what: &str, value: String| table.row(vec![what.to_owned(), value]);
    let at = |time: Option<i64>| time.map(format_ms);
    line("message id", or_dash(message.message_id.as_ref()));
    line("lies in", format!("topic {}, partition {}, offset {}", message.topic, message.partition, message.offset));
    line("led by node", or_dash(leader));
    line("timestamp", format_ms(message.timestamp_ms));
    line("sent by", or_dash(message.born_host.as_ref()));
    line("taken by", format!("{} at {}", or_dash(message.store_host.as_ref()), or_dash(at(message.store_ms))));
    line("key, keys, tag", {
        let (key, tag) = (or_dash(message.key.as_ref()), or_dash(message.tag.as_ref()));
        format!("{key}; {}; {tag}", message.keys.join(" "))
    });
    for (name, value) in &message.properties {
        line(&format!("property {name}"), format!("{value:?}"));
    }
    for (what, value) in events.iter().map(Event::line) {
        line(&what, value);
    }
    for row in &groups {
        let how = if row.is_past { "has consumed it" } else { "has not settled everything up to it" };
        line(&format!("group {}", row.group), format!("{how}, is at offset {}", row.committed));
    }
    line("body", format!("{} bytes", message.body_bytes));
    out.table(&table)?;
    message.body.map_or(Ok(()), |body| out.line(&body))
}

/// What became of a message, as its leaders noted it.
#[derive(Debug, Serialize)]
struct Event {
    time_ms: i64,
    /// `delivered`, `acknowledged` or `dead-letter`.
    event: String,
    group: Option<String>,
    client: Option<String>,
    /// How many times the message was delivered then.
    attempt: Option<String>,
}

impl Event {
    fn of(mut noted: Message) -> Option<Self> {
        let mut take = |name: &str| noted.properties.remove(name);
        Some(Self {
            time_ms: noted.timestamp_ms,
            event: take("event")?,
            group: take("group"),
            client: take("client"),
            attempt: take("attempt"),
        })
    }

    fn line(&self) -> (String, String) {
        let by = match &self.client {
            Some(client) => format!("group {}, client {client}", or_dash(self.group.as_ref())),
            None => format!("group {}", or_dash(self.group.as_ref())),
        };
        let attempt = self.attempt.as_ref().map(|attempt| format!(", attempt {attempt}")).unwrap_or_default();
        (self.event.clone(), format!("{}, {by}{attempt}", format_ms(self.time_ms)))
    }
}

/// What was noted about the message, by time; nothing, when its topic has no `duolog.trace`.
async fn events(client: &Client, message: &Message) -> anyhow::Result<Vec<Event>> {
    match client.topic(TRACE_TOPIC).await {
        Ok(_) => {}
        Err(error) if error.code() == Some(ResponseError::UnknownTopicOrPartition) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    }
    let key = format!("{}/{}/{}", message.topic, message.partition, message.offset);
    let range = Range { since_ms: Some(message.timestamp_ms - BEFORE_ID_MS), until_ms: None };
    let found = search(client, TRACE_TOPIC, Wanted::Key(key), range, EVENTS_MAX).await?;
    let mut events: Vec<Event> = found.messages.into_iter().filter_map(Event::of).collect();
    events.sort_by_key(|event| event.time_ms);
    Ok(events)
}

/// All groups that have committed something for the message's partition.
async fn groups(client: &Client, message: &Message) -> anyhow::Result<Vec<GroupRow>> {
    let (listed, silent) = client.list_groups().await?;
    if let Some(error) = silent.first() {
        eprintln!("duolog: groups may be missing: {error}");
    }
    let mut rows = Vec::new();
    for listing in listed {
        let committed = client.committed(&listing.group).await?;
        if let Some(committed) = committed.get(&(message.topic.clone(), message.partition)).copied() {
            rows.push(GroupRow { group: listing.group, committed, is_past: committed > message.offset });
        }
    }
    Ok(rows)
}

async fn resend(command: ResendCommand) -> anyhow::Result<()> {
    let client = command.connection.client()?;
    let ResendCommand { topic, partition, offset, .. } = &command;
    let record = record_at(&client, topic, *partition, *offset).await?;
    let origin = header(&record, ORIGIN_TOPIC).filter(|_| topic.starts_with(limits::DEAD_LETTER_TOPIC_PREFIX));
    let to = command.to.clone().or(origin).unwrap_or_else(|| topic.clone());
    let target =
        client.topic(&to).await.with_context(|| format!("it would go to topic {to:?}; --to names another one"))?;
    let partitions = u32::try_from(target.partitions.len()).unwrap_or(u32::MAX);
    ensure!(partitions > 0, "topic {to:?} has no partitions");
    let target = partition_for(&record, partition.unsigned_abs(), partitions).cast_signed();
    let appended = client.append(&to, target, &again(&record)?).await?;
    let mut out = Out::default();
    match command.output.output {
        OutputFormat::Json => {
            out.json(&json!({ "topic": to, "partition": target, "offset": appended.base_offset }))
        }
        OutputFormat::Table => out.line(&format!(
            "sent to topic {to}, partition {target}, offset {}; the message at offset {offset} of {topic} stays where it is",
            appended.base_offset
        )),
    }
}

/// Where a producer of the record's kind would put it; a record without a key keeps its partition's number, as far as there is one.
fn partition_for(record: &Record, partition: u32, partitions: u32) -> u32 {
    let group = record.key.as_deref().filter(|_| header(record, FIFO).is_some());
    match (group.and_then(|group| std::str::from_utf8(group).ok()), &record.key) {
        (Some(group), _) => partition_of_message_group(group, partitions),
        (None, Some(key)) => partition_of_key(key, partitions),
        (None, None) => partition % partitions,
    }
}

/// The same message, without what says where a dead letter came from.
fn again(record: &Record) -> anyhow::Result<duolog_record::RecordBatch> {
    let is_kept = |header: &&RecordHeader| !header.key.starts_with(ORIGIN_PREFIX.as_bytes());
    let headers: Vec<RecordHeader> = record.headers.iter().filter(is_kept).cloned().collect();
    let mut builder = BatchBuilder::new();
    builder.push_with_headers(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers)?;
    Ok(builder.build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_nothing_hears_what_was_looked_for_and_why_it_may_be_missing() {
        let id = format!("01{}{}{:08X}{}", "A1B2C3D4E5F6", "0007", 186_000_000, "00000001");
        let search = |id: Option<&str>, key: Option<&str>, since: Option<&str>| SearchArgs {
            topic: "orders".to_owned(),
            id: id.map(str::to_owned),
            key: key.map(str::to_owned),
            since: since.map(str::to_owned),
            until: None,
        };
        for (search, expected) in [
            (search(Some(&id), None, None), "--since TIME begins earlier"),
            (search(Some(&id), None, Some("1")), "nothing before --since"),
            (search(Some("01A"), None, None), "34 hexadecimal digits"),
            (
                search(None, Some("k"), None),
                "with the key \"k\" in 7 records that may have it; keys are compared whole",
            ),
        ] {
            let said = search.nothing(7).to_string();
            assert!(said.contains("topic \"orders\" has no message") && said.contains(expected), "{said}");
        }
    }
}
