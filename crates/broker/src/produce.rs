//! Produce: checks a partition's batch, hands it to the sequencer, waits for the topic's ack point.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use duolog_coordinator::sequencer::{Item, ProduceItem};
use duolog_record::entry::{Hidden, HiddenReason};
use duolog_record::patch::set_max_timestamp;
use duolog_record::{BatchError, BatchErrorKind, RecordBatch, split_batches, validate_records};
use duolog_replication::DiskState;
use duolog_state::reader;
use duolog_types::{FlushWish, Offset, TimestampMs, TimestampType, TopicConfig};
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::api::{ItemResult, ProducePartition, Produced};
use crate::broker::Broker;
use crate::catalog::Located;
use crate::error::BrokerError;
use crate::runtime::{GroupRuntime, Sequenced, outcome_unknown, storage};
use crate::sequencer_task::SequenceRequest;
use crate::unpack::{self, Part, unpack};

/// Half messages of topics with asynchronous flush gather for so long.
const HALF_FLUSH_MS: u32 = 2;

/// What the sequencer will say of an item.
pub(crate) type Answer = oneshot::Receiver<ItemResult<Sequenced>>;

/// The leader's wall clock.
pub(crate) fn now() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimestampMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Produces to several partitions; every batch is handed to its sequencer before anything is waited for, in order.
pub(crate) async fn produce(
    broker: &Broker,
    partitions: Vec<ProducePartition>,
    timeout_ms: i32,
) -> Vec<ItemResult<Produced>> {
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0).max(1));
    let deadline = Instant::now() + timeout;
    // In the first poll, so that a producer's pipelined batches keep their order, also those that wait for a leader to begin its run.
    // `join_all` gives way before it has polled each of many futures once.
    let begun: Vec<_> = partitions.into_iter().map(|partition| begin(broker, partition, Origin::Producer)).collect();
    join_all(begun.into_iter().map(|begun| finish(begun, deadline))).await
}

/// Produces a batch of the broker's own, visible at once. It is not held against the topic's limits: what one topic has taken, another
/// one must not refuse.
///
/// # Errors
/// As [`crate::api::BrokerApi::produce`].
pub(crate) async fn produce_own(broker: &Broker, wanted: ProducePartition, timeout_ms: i32) -> ItemResult<Produced> {
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0).max(1));
    let deadline = Instant::now() + timeout;
    finish(begin(broker, wanted, Origin::Broker), deadline).await
}

/// Who made a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A client. The topic's limits of size and time count, and its records may be delayed.
    Producer,
    /// The broker itself.
    Broker,
}

/// What the sequencer will say of a partition's batch.
struct Begun {
    runtime: Arc<GroupRuntime>,
    /// One, or one for each record.
    answers: Vec<Answer>,
    is_unpacked: bool,
    log_start: Offset,
}

fn begin(broker: &Broker, wanted: ProducePartition, origin: Origin) -> ItemResult<Begun> {
    let place = broker.locate(&wanted.topic, wanted.partition)?;
    let runtime = broker.runtime(place.group)?;
    let batch = checked_from(broker, &place, &runtime, wanted.records, origin)?;
    let log_start = reader::log_start(&*runtime.tables(), place.partition).map_err(storage)?;
    let unpacked = match origin {
        Origin::Producer => unpack(&batch, &place.topic.row.config, now())?,
        Origin::Broker => None,
    };
    let is_unpacked = unpacked.is_some();
    let parts = unpacked.unwrap_or_else(|| vec![Part { batch, hidden: None }]);
    let answers = parts.into_iter().map(|part| hand_over(&place, &runtime, part)).collect::<ItemResult<_>>()?;
    Ok(Begun { runtime, answers, is_unpacked, log_start })
}

async fn finish(begun: ItemResult<Begun>, deadline: Instant) -> ItemResult<Produced> {
    let Begun { runtime, answers, is_unpacked, log_start } = begun?;
    // There is no one offset for records that are delivered at different times. Clients count up from the first one (Java's alone knows
    // −1), so it is so low that none of them becomes that of a record.
    let no_offset = Offset(-i64::try_from(answers.len()).unwrap_or(i64::MAX));
    let mut kept: Option<Produced> = None;
    for answer in answers {
        match wait(&runtime, answer, deadline).await {
            Ok(Sequenced { base_offset, log_append_time, lease, .. }) => {
                let base_offset = if is_unpacked { no_offset } else { base_offset };
                let lease = lease.or(kept.and_then(|produced| produced.lease));
                kept = Some(Produced { base_offset, log_append_time, log_start_offset: log_start, lease });
            }
            // An earlier attempt has brought this record: with the others the batch is whole.
            Err(BrokerError::DuplicateSequence) if is_unpacked => {}
            Err(error) => return Err(error),
        }
    }
    kept.ok_or(BrokerError::DuplicateSequence)
}

/// The one batch of a request for a partition, if this node may take it now.
pub(crate) fn checked(
    broker: &Broker,
    place: &Located,
    runtime: &GroupRuntime,
    records: Bytes,
) -> ItemResult<RecordBatch> {
    checked_from(broker, place, runtime, records, Origin::Producer)
}

fn checked_from(
    broker: &Broker,
    place: &Located,
    runtime: &GroupRuntime,
    records: Bytes,
    origin: Origin,
) -> ItemResult<RecordBatch> {
    if !runtime.leadership().is_self {
        return Err(runtime.not_leader());
    }
    let disk = broker.cluster_handle().disk_space();
    if disk.state != DiskState::Writable {
        let free_bytes = disk.usage.free_bytes;
        return Err(BrokerError::Storage(format!(
            "the disk of node {} is nearly full ({free_bytes} bytes are free): it takes no more records until there is room",
            broker.own_id()
        )));
    }
    let config = &place.topic.row.config;
    let batch = only_batch(records)?;
    if origin == Origin::Producer {
        check_size(&batch, config)?;
        check_timestamp(&batch, config, now())?;
    }
    Ok(batch)
}

/// Hands a batch that was checked to the sequencer.
pub(crate) fn hand_over(place: &Located, runtime: &GroupRuntime, Part { batch, hidden }: Part) -> ItemResult<Answer> {
    let config = &place.topic.row.config;
    let size_bytes = batch.size_bytes();
    let item = ProduceItem {
        waiter: runtime.sequencer().waiter(),
        partition: place.partition,
        batch,
        hidden,
        durability: config.durability(),
        flush: flush_wish(config, hidden),
        flush_records: config.flush_messages(),
        log_append_time: (config.timestamp_type() == TimestampType::LogAppendTime).then(now),
    };
    submit(runtime, item.into(), size_bytes)
}

/// A half message can be ended only once it is committed, and its producer is about to end it: its flush does not wait as long as the
/// topic would let it.
fn flush_wish(config: &TopicConfig, hidden: Option<Hidden>) -> FlushWish {
    let is_half = hidden.is_some_and(|hidden| hidden.reason == HiddenReason::Half);
    let longest = if is_half { FlushWish::WithinMs(HALF_FLUSH_MS) } else { FlushWish::WithinMs(u32::MAX) };
    config.flush_wish().strictest(longest)
}

/// Hands an item to the sequencer.
pub(crate) fn submit(runtime: &GroupRuntime, item: Item, size_bytes: usize) -> ItemResult<Answer> {
    // A group that is stuck keeps what its producers gave up waiting for; it takes no more than this.
    let room = runtime.sequencer().room_for(size_bytes).ok_or_else(|| runtime.not_leader())?;
    let (reply, answer) = oneshot::channel();
    let request = SequenceRequest { item, reply, room };
    runtime.sequencer().requests.send(request).map_err(|_| runtime.not_leader())?;
    Ok(answer)
}

/// Waits for what [`submit`] promised.
pub(crate) async fn wait(runtime: &GroupRuntime, answer: Answer, deadline: Instant) -> ItemResult<Sequenced> {
    match tokio::time::timeout_at(deadline, answer).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(runtime.not_leader()),
        Err(_) => Err(BrokerError::RequestTimedOut("the ack point was not reached in time".to_owned())),
    }
}

/// See [`crate::api::BrokerApi::confirm`].
pub(crate) fn confirm(broker: &Broker, produced: Produced) -> ItemResult<Produced> {
    match produced.lease {
        Some(lease) if !broker.runtime(lease.broker_group)?.group().lease_is_valid(lease.term) => {
            Err(outcome_unknown())
        }
        Some(_) | None => Ok(produced),
    }
}

/// The one batch of a partition.
fn only_batch(records: Bytes) -> ItemResult<RecordBatch> {
    let mut batches = split_batches(records).map_err(|error| batch_error(&error))?;
    let batch = match (batches.pop(), batches.len()) {
        (Some(batch), 0) => batch,
        (None, _) => return Err(BrokerError::InvalidRecord("a produce request without records".to_owned())),
        (Some(_), more) => {
            let found = more + 1;
            return Err(BrokerError::InvalidRecord(format!(
                "one record batch per partition is expected, found {found}"
            )));
        }
    };
    if batch.view().is_transactional() {
        return Err(BrokerError::Unsupported("transactions are not supported yet".to_owned()));
    }
    with_max_timestamp(batch)
}

/// Some producers leave the greatest timestamp out of the header (Sarama did until 2025). Retention and look-ups by time go by it, so it is
/// taken from the records then.
fn with_max_timestamp(batch: RecordBatch) -> ItemResult<RecordBatch> {
    if batch.view().max_timestamp().0 >= 0 {
        return Ok(batch);
    }
    match validate_records(&batch, unpack::BYTES_MAX) {
        Ok(summary) if summary.max_timestamp.0 >= 0 => Ok(set_max_timestamp(batch, summary.max_timestamp)),
        Ok(_) => Ok(batch),
        Err(error) if error.kind() == BatchErrorKind::TooLarge => Ok(batch),
        Err(error) => Err(batch_error(&error)),
    }
}

pub(crate) fn batch_error(error: &BatchError) -> BrokerError {
    match error.kind() {
        BatchErrorKind::Corrupt => BrokerError::CorruptMessage(error.to_string()),
        BatchErrorKind::Invalid | BatchErrorKind::UnsupportedCompression | BatchErrorKind::TooLarge => {
            BrokerError::InvalidRecord(error.to_string())
        }
        BatchErrorKind::UnsupportedMagic => match error {
            BatchError::UnsupportedMagic { found } => BrokerError::UnsupportedFormat(*found),
            other => BrokerError::InvalidRecord(other.to_string()),
        },
        BatchErrorKind::InvalidTimestamp => BrokerError::InvalidRecord(error.to_string()),
    }
}

fn check_size(batch: &RecordBatch, config: &TopicConfig) -> ItemResult<()> {
    let (found, limit) = (batch.size_bytes(), config.max_message_bytes());
    if found > limit { Err(BrokerError::MessageTooLarge { found, limit }) } else { Ok(()) }
}

/// A producer's own timestamps must lie within the topic's window around the leader's clock.
fn check_timestamp(batch: &RecordBatch, config: &TopicConfig, now: TimestampMs) -> ItemResult<()> {
    if config.timestamp_type() == TimestampType::LogAppendTime {
        return Ok(());
    }
    let stamp = batch.view().max_timestamp();
    let (before, after) = config.timestamp_window_ms();
    let too_old = stamp.0 >= 0 && now.0.saturating_sub(stamp.0) > before;
    let too_new = stamp.0.saturating_sub(now.0) > after;
    if too_old || too_new { Err(BrokerError::InvalidTimestamp(stamp.0)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use duolog_record::BatchBuilder;

    use super::*;

    fn config(pairs: &[(&str, &str)]) -> TopicConfig {
        TopicConfig::new(pairs.iter().copied()).unwrap()
    }

    fn batch(timestamp: i64) -> RecordBatch {
        let mut builder = BatchBuilder::new();
        builder.push(TimestampMs(timestamp), None, Some(b"value")).unwrap();
        builder.build().unwrap()
    }

    #[test]
    fn a_batch_that_is_not_allowed_is_refused_with_its_own_error() {
        let good = batch(1).into_bytes();
        let whole = only_batch(good.clone()).unwrap();
        assert!(matches!(only_batch(Bytes::new()), Err(BrokerError::InvalidRecord(_))));
        let twice: Bytes = [good.as_ref(), good.as_ref()].concat().into();
        assert!(matches!(only_batch(twice), Err(BrokerError::InvalidRecord(_))));
        let mut damaged = good.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(matches!(only_batch(damaged.into()), Err(BrokerError::CorruptMessage(_))));
        let mut old = good.to_vec();
        old[16] = 1;
        assert_eq!(only_batch(old.into()), Err(BrokerError::UnsupportedFormat(1)));
        let small = config(&[("max.message.bytes", "10")]);
        check_size(&whole, &config(&[])).unwrap();
        assert!(matches!(check_size(&whole, &small), Err(BrokerError::MessageTooLarge { limit: 10, .. })));
    }

    #[test]
    fn a_greatest_timestamp_that_the_header_does_not_tell_is_taken_from_the_records() {
        let lying = set_max_timestamp(batch(77), TimestampMs(-1));
        let mended = only_batch(lying.into_bytes()).unwrap();
        assert_eq!(mended.view().max_timestamp(), TimestampMs(77));
        assert_eq!(only_batch(mended.clone().into_bytes()).unwrap(), mended);
        let none = only_batch(batch(-1).into_bytes()).unwrap();
        assert_eq!(none.view().max_timestamp(), TimestampMs(-1));
    }

    #[test]
    fn a_half_message_is_flushed_soon_and_no_other() {
        let hidden = |reason| Some(Hidden { reason, time: TimestampMs(1) });
        let relaxed = config(&[("duolog.flush", "async"), ("flush.ms", "50")]);
        assert_eq!(flush_wish(&relaxed, hidden(HiddenReason::Half)), FlushWish::WithinMs(HALF_FLUSH_MS));
        for other in [None, hidden(HiddenReason::Delayed)] {
            assert_eq!(flush_wish(&relaxed, other), FlushWish::WithinMs(50));
        }
        let sooner = config(&[("duolog.flush", "async"), ("flush.ms", "0")]);
        assert_eq!(flush_wish(&sooner, hidden(HiddenReason::Half)), FlushWish::WithinMs(0));
        assert_eq!(flush_wish(&config(&[]), hidden(HiddenReason::Half)), FlushWish::Now);
    }

    #[test]
    fn timestamps_must_lie_within_the_window() {
        let now = TimestampMs(10_000_000);
        check_timestamp(&batch(1), &config(&[]), now).unwrap();
        check_timestamp(&batch(-1), &config(&[]), now).unwrap();
        let late = config(&[("message.timestamp.before.max.ms", "5")]);
        assert_eq!(check_timestamp(&batch(1), &late, now), Err(BrokerError::InvalidTimestamp(1)));
        let far = batch(now.0 + 3_600_001);
        assert!(check_timestamp(&far, &config(&[]), now).is_err());
        check_timestamp(&far, &config(&[("message.timestamp.type", "LogAppendTime")]), now).unwrap();
    }
}
