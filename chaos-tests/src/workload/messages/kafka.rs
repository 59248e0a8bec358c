//! What Kafka clients see of the topics of RocketMQ clients: a reader during the run, and a read of all at its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::codec;
use crate::client;
use crate::history::messages::{MessageEvent, Spot};
use crate::history::{Event, Value};
use crate::recorder::wait_until;
use crate::workload::{Shared, Stop};

const POLL: Duration = Duration::from_millis(100);
/// Without a record for so long, a topic counts as unreadable.
const SILENCE_LIMIT: Duration = Duration::from_secs(20);

/// Follows a topic from the start until told to stop.
pub fn follow(shared: &Shared, topic: u16, stop: &Stop) -> Result<()> {
    let of_topic = &shared.message_topics[usize::from(topic)];
    let consumer: BaseConsumer = client::reader(&shared.bootstrap).create()?;
    let starts: BTreeMap<i32, i64> = (0..of_topic.partition_count).map(|partition| (partition, 0)).collect();
    assign(&consumer, &of_topic.name, &starts)?;
    while !stop.is_wanted() {
        // Errors (a broker is away, time-outs) are repeated by the client itself.
        if let Some(Ok(message)) = consumer.poll(POLL) {
            let spot = Spot { topic, partition: message.partition(), offset: message.offset() };
            let (time_ms, value) = (shared.recorder.now_ms(), value(&message));
            shared.recorder.record(Event::Message(MessageEvent::Read { time_ms, spot, value }));
        }
    }
    Ok(())
}

/// Reads a topic from the start to the end.
pub fn read_back(shared: &Shared, topic: u16) -> Result<()> {
    let record = |event| shared.recorder.record(Event::Message(event));
    let of_topic = &shared.message_topics[usize::from(topic)];
    let ends = read_all(shared, &of_topic.name, of_topic.partition_count, |message| {
        let spot = Spot { topic, partition: message.partition(), offset: message.offset() };
        record(MessageEvent::FinalRecord { spot, value: value(message) });
    })?;
    for (partition, high_watermark, read_all) in ends {
        record(MessageEvent::FinalEnd { topic, partition, high_watermark, read_all });
    }
    Ok(())
}

/// (partition, high watermark, whether it was reached) of each partition.
fn read_all(
    shared: &Shared,
    topic: &str,
    partition_count: i32,
    mut each: impl FnMut(&BorrowedMessage<'_>),
) -> Result<Vec<(i32, i64, bool)>> {
    let consumer: BaseConsumer = client::reader(&shared.bootstrap).create()?;
    let (mut next, mut ends) = (BTreeMap::new(), BTreeMap::new());
    for partition in 0..partition_count {
        let mut answer = None;
        wait_until(SILENCE_LIMIT, || {
            answer = consumer.fetch_watermarks(topic, partition, client::ASK_LIMIT).ok();
            answer.is_some()
        });
        let (start, end) =
            answer.with_context(|| format!("nobody tells the offsets of {topic} partition {partition}"))?;
        next.insert(partition, start);
        ends.insert(partition, end);
    }
    assign(&consumer, topic, &next)?;
    let mut heard_at = Instant::now();
    while next.iter().any(|(partition, next)| *next < ends[partition]) && heard_at.elapsed() < SILENCE_LIMIT {
        let Some(Ok(message)) = consumer.poll(POLL) else { continue };
        if message.offset() < ends[&message.partition()] {
            each(&message);
            next.insert(message.partition(), message.offset() + 1);
            heard_at = Instant::now();
        }
    }
    Ok(ends.into_iter().map(|(partition, end)| (partition, end, next[&partition] >= end)).collect())
}

fn assign(consumer: &BaseConsumer, topic: &str, next: &BTreeMap<i32, i64>) -> Result<()> {
    let mut wanted = TopicPartitionList::new();
    for (partition, offset) in next {
        wanted.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    Ok(consumer.assign(&wanted)?)
}

fn value(message: &BorrowedMessage<'_>) -> Value {
    codec::value_of_record(message.payload().unwrap_or_default(), |name| header(message, name))
}

fn header<'a>(message: &'a BorrowedMessage<'_>, name: &str) -> Option<&'a [u8]> {
    let headers = message.headers()?;
    headers.iter().find(|header| header.key == name).and_then(|header| header.value)
}
