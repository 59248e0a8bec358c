//! A member of a topic's consumer group, with manual commits, and the question for what is committed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{ClientContext, Offset, TopicPartitionList, config::FromClientConfigAndContext};

use super::{Shared, Stop};
use crate::client;
use crate::history::{Event, Place, Value};

const POLL: Duration = Duration::from_millis(100);
const COMMIT_EVERY: Duration = Duration::from_millis(500);
const ASK_EVERY: Duration = Duration::from_secs(1);
/// So long a commit may take in the end.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);

pub fn group_name(shared: &Shared, topic: u16) -> String {
    format!("{}-group", shared.name(topic))
}

pub fn run_member(shared: &Arc<Shared>, topic: u16, reader: u32, stop: &Stop) -> Result<()> {
    let context = Assignments { shared: Arc::clone(shared), topic, reader, commit: Mutex::default() };
    let config = client::member(&shared.bootstrap, &group_name(shared, topic));
    let consumer: BaseConsumer<Assignments> = BaseConsumer::from_config_and_context(&config, context)?;
    consumer.subscribe(&[shared.name(topic)])?;
    let mut positions = BTreeMap::new();
    let mut commit_at = Instant::now() + COMMIT_EVERY;
    while !stop.is_wanted() {
        // Errors (a coordinator is away, time-outs) are repeated by the client itself.
        if let Some(Ok(message)) = consumer.poll(POLL) {
            let place = Place { topic, partition: message.partition() };
            let value = Value::of_payload(message.payload().unwrap_or_default());
            let (time_ms, offset) = (shared.recorder.now_ms(), message.offset());
            shared.recorder.record(Event::Seen { time_ms, reader, place, offset, value });
            positions.insert(place, offset + 1);
        }
        if Instant::now() >= commit_at {
            commit(&consumer, shared, &mut positions)?;
            commit_at = Instant::now() + COMMIT_EVERY;
        }
    }
    finish_commit(&consumer);
    commit(&consumer, shared, &mut positions)?;
    finish_commit(&consumer);
    consumer.context().give_up();
    consumer.unsubscribe();
    Ok(())
}

/// Commits what was read since the last commit, of the partitions that are still this member's. One commit at a time is under way: the
/// client may hold it for as long as there is no coordinator.
fn commit(consumer: &BaseConsumer<Assignments>, shared: &Shared, positions: &mut BTreeMap<Place, i64>) -> Result<()> {
    let mine: Vec<i32> = consumer.assignment()?.elements().iter().map(|element| element.partition()).collect();
    positions.retain(|place, _| mine.contains(&place.partition));
    if positions.is_empty() || consumer.context().is_committing() {
        return Ok(());
    }
    let mut wanted = TopicPartitionList::new();
    for (place, offset) in &*positions {
        wanted.add_partition_offset(shared.name(place.topic), place.partition, Offset::Offset(*offset))?;
    }
    consumer.context().begin(std::mem::take(positions));
    if let Err(error) = consumer.commit(&wanted, CommitMode::Async) {
        consumer.context().end(Err(error));
    }
    Ok(())
}

/// Waits for the answer to the commit that is under way, but not for ever.
fn finish_commit(consumer: &BaseConsumer<Assignments>) {
    let end = Instant::now() + COMMIT_LIMIT;
    while consumer.context().is_committing() && Instant::now() < end {
        // Records that come meanwhile are given to nobody: they were not committed either.
        let _ = consumer.poll(POLL);
    }
}

/// Asks for the committed offsets of a topic's group until told to stop, and once more then.
pub fn run_asker(shared: &Shared, topic: u16, stop: &Stop) -> Result<()> {
    let consumer: BaseConsumer =
        client::reader(&shared.bootstrap).set("group.id", group_name(shared, topic)).create()?;
    while !stop.is_wanted() {
        let _ = ask(&consumer, shared, topic);
        let next_at = Instant::now() + ASK_EVERY;
        while !stop.is_wanted() && Instant::now() < next_at {
            sleep(POLL);
        }
    }
    Ok(())
}

/// One question; also asked at the very end of a run.
pub fn ask_once(shared: &Shared, topic: u16) -> Result<()> {
    let consumer: BaseConsumer =
        client::reader(&shared.bootstrap).set("group.id", group_name(shared, topic)).create()?;
    Ok(ask(&consumer, shared, topic)?)
}

fn ask(consumer: &BaseConsumer, shared: &Shared, topic: u16) -> KafkaResult<()> {
    let mut wanted = TopicPartitionList::new();
    for place in shared.places_of(topic) {
        wanted.add_partition(shared.name(topic), place.partition);
    }
    let asked_ms = shared.recorder.now_ms();
    let answer = consumer.committed_offsets(wanted, client::ASK_LIMIT)?;
    let time_ms = shared.recorder.now_ms();
    for element in answer.elements() {
        if element.error().is_ok() {
            let place = Place { topic, partition: element.partition() };
            let offset = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            shared.recorder.record(Event::CommittedRead { asked_ms, time_ms, place, offset });
        }
    }
    Ok(())
}

/// Records when a member is given partitions, and what became of its commits.
struct Assignments {
    shared: Arc<Shared>,
    topic: u16,
    reader: u32,
    /// The commit under way: when it was asked for, and its offsets.
    commit: Mutex<Option<(u64, BTreeMap<Place, i64>)>>,
}

impl Assignments {
    fn begin(&self, offsets: BTreeMap<Place, i64>) {
        *self.lock() = Some((self.shared.recorder.now_ms(), offsets));
    }

    fn is_committing(&self) -> bool {
        self.lock().is_some()
    }

    fn end(&self, result: KafkaResult<()>) {
        let Some((asked_ms, offsets)) = self.lock().take() else { return };
        let time_ms = self.shared.recorder.now_ms();
        for (place, offset) in offsets {
            self.shared.recorder.record(match &result {
                Ok(()) => Event::CommitAcked { asked_ms, time_ms, place, offset },
                Err(error) => Event::CommitUnknown { asked_ms, time_ms, place, offset, error: error.to_string() },
            });
        }
    }

    /// Nobody waits for the answer any more.
    fn give_up(&self) {
        self.end(Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::OperationTimedOut)));
    }

    // A thread that panics between two steps leaves a whole value.
    fn lock(&self) -> MutexGuard<'_, Option<(u64, BTreeMap<Place, i64>)>> {
        self.commit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Assignments {}

impl ConsumerContext for Assignments {
    /// Before: the client asks for the committed offsets only after this.
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(partitions) = rebalance else { return };
        let time_ms = self.shared.recorder.now_ms();
        for element in partitions.elements() {
            let place = Place { topic: self.topic, partition: element.partition() };
            self.shared.recorder.record(Event::Assigned { time_ms, reader: self.reader, place });
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        self.end(result);
    }
}
