//! `duolog produce`: lines of standard input as records.
//!
//! Lines are read by a thread of their own and sent in rounds: what has arrived by the time the last round was acknowledged goes
//! out together, a batch per partition, so that a typed line is sent at once and a file in large batches. One round at a time and
//! a producer id: a batch that is sent again is not stored again.

use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use duolog_record::{BatchBuilder, Compression, RecordBatch, RecordHeader};
use duolog_types::{ProducerEpoch, ProducerId, TimestampMs, partition_of_key};
use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::mpsc;

use crate::arguments::{ConnectionArgs, OutputArgs, pairs};
use crate::client::{Client, Resource};
use crate::exit::Exit;
use crate::output::{Out, OutputFormat, count};
use crate::run;

/// Lines that are read ahead.
const LINES_AHEAD_MAX: usize = 4096;
/// Most bytes of keys and values of a round.
const ROUND_BYTES_MAX: usize = 256 << 10;
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
const MAX_MESSAGE_BYTES_KEY: &str = "max.message.bytes";
/// What a batch may have beside keys, values and headers, per record.
const RECORD_OVERHEAD_BYTES: usize = 96;

/// Produces the lines of standard input.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  seq 1 1000 | duolog produce payments
  printf 'k1:v1\\nk2:v2\\n' | duolog produce payments --key-separator :
  duolog produce payments --partition 0 --header source=import --compression zstd < lines.txt

A record is acknowledged at the ack point of the topic's durability; `duolog durability` says what that means.
The command fails when a record was not acknowledged, and says how many were.")]
pub struct ProduceCommand {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Name of the topic; it must exist.
    topic: String,
    /// What parts the key from the value in a line; without it records have no key.
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// A header of every record, as KEY=VALUE; may be repeated.
    #[arg(long = "header", value_name = "KEY=VALUE", num_args = 1)]
    headers: Vec<String>,
    /// The partition; otherwise by the key as Java clients do, or in turns where there is no key.
    #[arg(long)]
    partition: Option<i32>,
    /// How batches are compressed.
    #[arg(long, value_enum, default_value_t)]
    compression: Codec,
}

/// The codecs of record batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Codec {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Gzip => Self::Gzip,
            Codec::Snappy => Self::Snappy,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}

impl ProduceCommand {
    /// Runs the command until standard input ends.
    ///
    /// # Errors
    /// Some record was not acknowledged; the error says how many were.
    pub fn run(self) -> anyhow::Result<Exit> {
        run::block_on(produce(self))
    }
}

async fn produce(command: ProduceCommand) -> anyhow::Result<Exit> {
    let mut producer = Producer::start(&command).await?;
    let separator = command.key_separator.clone().map(String::into_bytes);
    let lines = read_lines(separator);
    let ended = tokio::select! {
        result = producer.run(lines) => result,
        () = run::interrupted() => Ok(()),
    };
    let (sent, acknowledged) = (producer.sent, producer.acknowledged);
    let topic = &command.topic;
    ended.with_context(|| format!("records acknowledged by topic {topic:?}: {acknowledged} of {sent} sent"))?;
    let mut out = Out::default();
    match command.output.output {
        OutputFormat::Json => out.json(&json!({"topic": topic, "sent": sent, "acknowledged": acknowledged}))?,
        OutputFormat::Table => out.line(&format!("{} acknowledged by topic {topic}", count(acknowledged, "record")))?,
    }
    if acknowledged < sent {
        bail!(
            "interrupted: {} of {} have no answer and may be stored or not",
            sent - acknowledged,
            count(sent, "record")
        );
    }
    Ok(Exit::Success)
}

/// A line as a record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    key: Option<Vec<u8>>,
    value: Vec<u8>,
}

impl Line {
    fn size_bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.len() + RECORD_OVERHEAD_BYTES
    }
}

/// Lines of standard input as they come; ends with it, or with an error.
fn read_lines(separator: Option<Vec<u8>>) -> mpsc::Receiver<anyhow::Result<Line>> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD_MAX);
    // A thread and no task: reading a terminal cannot be cancelled, and must not hold up the end of the process.
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        for number in 1_u64.. {
            let mut text = Vec::new();
            let line = match input.read_until(b'\n', &mut text) {
                Ok(0) => return,
                Ok(_) => parse_line(&text, separator.as_deref()).with_context(|| format!("line {number}")),
                Err(error) => Err(error).context("cannot read standard input"),
            };
            let is_last = line.is_err();
            // Nobody receives any more: the command has ended.
            if sender.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

fn parse_line(text: &[u8], separator: Option<&[u8]>) -> anyhow::Result<Line> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let Some(separator) = separator.filter(|separator| !separator.is_empty()) else {
        return Ok(Line { key: None, value: text.to_vec() });
    };
    let position = text.windows(separator.len()).position(|window| window == separator);
    let position = position.with_context(|| {
        let shown = String::from_utf8_lossy(separator);
        format!("expected KEY{shown}VALUE (--key-separator {shown:?}), found no separator")
    })?;
    Ok(Line { key: Some(text[..position].to_vec()), value: text[position + separator.len()..].to_vec() })
}

struct Producer {
    client: Client,
    topic: String,
    partition: Option<i32>,
    partition_count: i32,
    headers: Vec<RecordHeader>,
    compression: Compression,
    id: (ProducerId, ProducerEpoch),
    round_bytes_max: usize,
    /// Next sequence number, by partition.
    sequences: BTreeMap<i32, i32>,
    /// The partition of records without a key; another one each round.
    turn: i32,
    sent: u64,
    acknowledged: u64,
    progress: Progress,
}

impl Producer {
    async fn start(command: &ProduceCommand) -> anyhow::Result<Self> {
        let headers = pairs("--header", &command.headers)?;
        let client = command.connection.client()?;
        let topic = client.topic(&command.topic).await?;
        let partition_count = i32::try_from(topic.partitions.len())?;
        if let Some(partition) = command.partition
            && !(0..partition_count).contains(&partition)
        {
            bail!(
                "--partition {partition}: topic {:?} has partitions 0 to {}",
                command.topic,
                partition_count.saturating_sub(1)
            );
        }
        let id = client.init_producer_id().await?;
        let limit = batch_bytes_max(&client, &command.topic).await?;
        Ok(Self {
            client,
            topic: command.topic.clone(),
            partition: command.partition,
            partition_count,
            headers: headers
                .into_iter()
                .map(|(key, value)| RecordHeader { key: key.into(), value: Some(Bytes::from(value)) })
                .collect(),
            compression: command.compression.into(),
            id,
            round_bytes_max: ROUND_BYTES_MAX.min(limit),
            sequences: BTreeMap::new(),
            turn: 0,
            sent: 0,
            acknowledged: 0,
            progress: Progress::new(),
        })
    }

    async fn run(&mut self, mut lines: mpsc::Receiver<anyhow::Result<Line>>) -> anyhow::Result<()> {
        let mut left_over = None;
        loop {
            let first = match left_over.take() {
                Some(line) => line,
                None => match lines.recv().await {
                    Some(line) => line,
                    None => break,
                },
            };
            let mut round = vec![first?];
            let mut failed = None;
            let mut size_bytes = self.size_bytes(&round[0]);
            while let Ok(next) = lines.try_recv() {
                match next {
                    Ok(line) if size_bytes + self.size_bytes(&line) <= self.round_bytes_max => {
                        size_bytes += self.size_bytes(&line);
                        round.push(line);
                    }
                    Ok(line) => {
                        left_over = Some(Ok(line));
                        break;
                    }
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            self.send(round).await?;
            if let Some(error) = failed {
                return Err(error);
            }
        }
        self.progress.end();
        Ok(())
    }

    fn size_bytes(&self, line: &Line) -> usize {
        let headers = self.headers.iter().map(|h| h.key.len() + h.value.as_ref().map_or(0, Bytes::len) + 10);
        line.size_bytes() + headers.sum::<usize>()
    }

    /// Sends a round and waits for all its answers.
    async fn send(&mut self, round: Vec<Line>) -> anyhow::Result<()> {
        let timestamp = TimestampMs(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?);
        self.turn = (self.turn + 1) % self.partition_count;
        let mut builders: BTreeMap<i32, BatchBuilder> = BTreeMap::new();
        for line in &round {
            let partition = self.partition_of(line);
            let builder = builders.entry(partition).or_insert_with(|| {
                let sequence = self.sequences.get(&partition).copied().unwrap_or(0);
                BatchBuilder::new().compression(self.compression).producer(self.id.0, self.id.1, sequence)
            });
            builder.push_with_headers(timestamp, line.key.as_deref(), Some(&line.value), &self.headers)?;
        }
        let mut batches: Vec<(i32, i32, RecordBatch)> = Vec::new();
        for (partition, builder) in builders {
            batches.push((partition, builder.record_count(), builder.build()?));
        }
        self.sent += round.len() as u64;
        let sends = batches.iter().map(|(partition, _, batch)| self.client.append(&self.topic, *partition, batch));
        let results = join_all(sends).await;
        let mut first_error = None;
        for ((partition, records, _), result) in batches.iter().zip(results) {
            match result {
                Ok(_) => {
                    self.acknowledged += u64::try_from(*records)?;
                    let sequence = self.sequences.entry(*partition).or_insert(0);
                    *sequence = next_sequence(*sequence, *records);
                }
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        self.progress.show(self.acknowledged);
        first_error.map_or(Ok(()), |error| Err(error.into()))
    }

    fn partition_of(&self, line: &Line) -> i32 {
        match (self.partition, &line.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of_key(key, self.partition_count.unsigned_abs()).cast_signed(),
            (None, None) => self.turn,
        }
    }
}

/// The topic's own limit, less what the header of a batch takes.
async fn batch_bytes_max(client: &Client, topic: &str) -> anyhow::Result<usize> {
    let configs = client.configs(Resource::Topic, &[topic], Some(&[MAX_MESSAGE_BYTES_KEY])).await?;
    let value = configs.get(topic).and_then(|configs| configs.first()).and_then(|config| config.value.parse().ok());
    Ok(value.unwrap_or(ROUND_BYTES_MAX).saturating_sub(duolog_record::BATCH_HEADER_BYTES))
}

/// Sequence numbers begin again at 0 after `i32::MAX`.
fn next_sequence(sequence: i32, records: i32) -> i32 {
    sequence.wrapping_add(records) & i32::MAX
}

/// A count on the terminal, now and then.
struct Progress {
    is_shown: bool,
    last: Instant,
    has_shown: bool,
}

impl Progress {
    fn new() -> Self {
        // Typed lines need no count.
        let is_shown = std::io::stderr().is_terminal() && !std::io::stdin().is_terminal();
        Self { is_shown, last: Instant::now(), has_shown: false }
    }

    fn show(&mut self, acknowledged: u64) {
        if self.is_shown && self.last.elapsed() >= PROGRESS_INTERVAL {
            eprint!("\r{} acknowledged", count(acknowledged, "record"));
            (self.last, self.has_shown) = (Instant::now(), true);
        }
    }

    fn end(&self) {
        if self.has_shown {
            eprintln!();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(key: Option<&str>, value: &str) -> Line {
        Line { key: key.map(|key| key.as_bytes().to_vec()), value: value.as_bytes().to_vec() }
    }

    #[test]
    fn lines_become_keys_and_values() {
        for (text, separator, expected) in [
            ("v\n", None, line(None, "v")),
            ("v", None, line(None, "v")),
            ("\n", None, line(None, "")),
            ("k:v:w\n", Some(":"), line(Some("k"), "v:w")),
            (":v\n", Some(":"), line(Some(""), "v")),
            ("k => v\n", Some(" => "), line(Some("k"), "v")),
            ("k:v\n", Some(""), line(None, "k:v")),
        ] {
            assert_eq!(parse_line(text.as_bytes(), separator.map(str::as_bytes)).unwrap(), expected, "{text:?}");
        }
        let error = parse_line(b"no key\n", Some(b"::")).unwrap_err().to_string();
        assert!(error.contains("expected KEY::VALUE"), "{error}");
    }

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!((next_sequence(0, 3), next_sequence(i32::MAX, 1), next_sequence(i32::MAX - 1, 3)), (3, 0, 1));
    }
}
