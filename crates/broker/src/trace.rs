//! What becomes of the messages of topics with `duolog.trace`: a record for each delivery, acknowledgement and dead letter.
//!
//! ```text
//!  receive, acknowledge, bury ── after the answer is known ─▶ [queue, bounded] ─▶ task ─▶ topic RMQ_SYS_TRACE_TOPIC,
//!                                                              full: dropped               a partition in the same broker group
//! ```
//!
//! Deliberately absent: a promise. A trace is written beside what it tells of, and nobody waits for it: what finds no room, or
//! cannot be written, is missing, and the log says how much.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use duolog_record::group::GroupId;
use duolog_record::{BatchBuilder, BuildError, RecordHeader};
use duolog_types::limits::TRACE_TOPIC;
use duolog_types::{BrokerGroupId, Offset, TimestampMs, TopicPartition};
use tokio::sync::mpsc;

use crate::api::{BrokerApi, ItemResult, ProducePartition, TopicRef};
use crate::beside::{TIMEOUT_MS, partition_beside};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::produce::now;

/// RocketMQ keeps three days, too. A trace that a power loss of a quorum takes is missed by nobody.
const CONFIGS: &[(&str, &str)] = &[("retention.ms", "259200000"), ("duolog.flush", "async")];
/// Events that wait to be written.
const QUEUE_MAX: usize = 65_536;
/// Events that are written together.
const EVENTS_MAX: usize = 1_024;
/// Records of a batch: so few that the consume queue knows their keys.
const BATCH_RECORDS: usize = 8;

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A consumer got it.
    Delivered { client_id: String, attempt: u32 },
    /// A consumer has consumed it.
    Acknowledged { client_id: String },
    /// It lies in the dead-letter topic.
    DeadLetter,
}

#[derive(Debug)]
pub(crate) struct Event {
    partition: TopicPartition,
    offset: Offset,
    group: GroupId,
    fate: Fate,
    at: TimestampMs,
}

/// Where events are handed in.
#[derive(Debug)]
pub(crate) struct Traces {
    events: mpsc::Sender<Event>,
    dropped: AtomicU64,
}

impl Traces {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Event>) {
        let (events, queue) = mpsc::channel(QUEUE_MAX);
        (Self { events, dropped: AtomicU64::new(0) }, queue)
    }

    fn hand_in(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Broker {
    /// Notes what became of a message, if its topic wants that.
    pub(crate) fn trace(
        &self,
        group: &GroupId,
        (partition, offset): (TopicPartition, Offset),
        fate: impl FnOnce() -> Fate,
    ) {
        let is_wanted = self.catalog().by_id(partition.topic).is_some_and(|topic| topic.row.config.is_traced());
        if is_wanted {
            self.traces().hand_in(Event { partition, offset, group: group.clone(), fate: fate(), at: now() });
        }
    }
}

/// Writes what was handed in, for ever.
pub(crate) async fn run(broker: Broker, mut queue: mpsc::Receiver<Event>) {
    let mut events = Vec::new();
    while queue.recv_many(&mut events, EVENTS_MAX).await > 0 {
        let mut by_group: BTreeMap<BrokerGroupId, Vec<(String, Event)>> = BTreeMap::new();
        for event in events.drain(..) {
            let number = i32::try_from(event.partition.partition).unwrap_or(i32::MAX);
            // A topic that is gone meanwhile has no traces.
            if let Ok(place) = broker.locate(&TopicRef::Id(event.partition.topic), number) {
                by_group.entry(place.group).or_default().push((place.topic.row.name.clone(), event));
            }
        }
        for (group, events) in by_group {
            if let Err(error) = write(&broker, group, &events).await {
                tracing::warn!(events = events.len(), %error, "traces could not be written; they are missing");
            }
        }
        let dropped = broker.traces().dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(events = dropped, "traces came faster than they could be written; they are missing");
        }
    }
}

async fn write(broker: &Broker, group: BrokerGroupId, events: &[(String, Event)]) -> ItemResult<()> {
    let partition = partition_beside(broker, TRACE_TOPIC, CONFIGS, group).await?;
    let mut batches = Vec::new();
    for events in events.chunks(BATCH_RECORDS) {
        let records = batch(events).map_err(|error| BrokerError::InvalidRecord(error.to_string()))?;
        batches.push(ProducePartition { topic: TopicRef::Name(TRACE_TOPIC.to_owned()), partition, records });
    }
    broker.produce(batches, TIMEOUT_MS).await.into_iter().collect::<ItemResult<Vec<_>>>().map(drop)
}

/// The key says which message it is, the headers what became of it. See `docs/rocketmq.md`.
fn batch(events: &[(String, Event)]) -> Result<Bytes, BuildError> {
    let mut builder = BatchBuilder::new();
    for (topic, event) in events {
        let (name, client_id, attempt) = match &event.fate {
            Fate::Delivered { client_id, attempt } => ("delivered", Some(client_id), Some(attempt)),
            Fate::Acknowledged { client_id } => ("acknowledged", Some(client_id), None),
            Fate::DeadLetter => ("dead-letter", None, None),
        };
        let mut headers = vec![RecordHeader::text("event", name), RecordHeader::text("group", &*event.group.0)];
        headers.extend(client_id.map(|client_id| RecordHeader::text("client", client_id)));
        headers.extend(attempt.map(|attempt| RecordHeader::text("attempt", attempt.to_string())));
        let key = format!("{topic}/{}/{}", event.partition.partition, event.offset);
        builder.push_with_headers(event.at, Some(key.as_bytes()), None, &headers)?;
    }
    Ok(builder.build()?.into_bytes())
}
