//! Fetch: from the leader's tail first, then from the consume queue and the segments. Batches go out as they lie in the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use duolog_state::reader;
use duolog_types::{BrokerGroupId, LeaderEpoch, Offset, Term, TimestampMs, TopicPartition};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::api::{EpochCheck, EpochEnd, Fetch, FetchPartition, Fetched, ItemResult};
use crate::broker::Broker;
use crate::catalog::Located;
use crate::error::BrokerError;
use crate::leader_log::TailBatch;
use crate::runtime::{GroupRuntime, storage};
use crate::stored::{self, StoredBatch};
use crate::wakeups::Registration;

/// Longest time that a request waits for a leader that is about to serve.
pub(crate) const PARK_MAX: Duration = Duration::from_millis(1_500);
/// Rows of the consume queue that are read at a time.
const ROWS_MAX: usize = 64;

/// Answers a fetch request.
pub(crate) async fn fetch(broker: &Broker, fetch: Fetch) -> Vec<ItemResult<Fetched>> {
    let wait = Duration::from_millis(u64::try_from(fetch.wait_ms_max).unwrap_or(0));
    let deadline = Instant::now() + wait;
    let located: Vec<ItemResult<(Located, Arc<GroupRuntime>)>> = fetch
        .partitions
        .iter()
        .map(|wanted| {
            let located = broker.locate(&wanted.topic, wanted.partition)?;
            let runtime = broker.runtime(located.group)?;
            Ok((located, runtime))
        })
        .collect();
    let poll = Arc::new(Notify::new());
    let mut registrations = Vec::new();
    loop {
        let (answers, bytes) = collect(&fetch, &located).await;
        let decided = answers.iter().any(|answer| answer.as_ref().map_or(true, |fetched| fetched.diverging.is_some()));
        if decided || bytes >= usize::try_from(fetch.bytes_min).unwrap_or(0) || Instant::now() >= deadline {
            return answers;
        }
        if registrations.is_empty() {
            // Most requests are answered at once and never come here. Now look again: something may have come meanwhile.
            registrations = register(&located, &poll);
            if !registrations.is_empty() {
                continue;
            }
        }
        // Either something changed or the time is up: both are looked at above.
        let _ = tokio::time::timeout_at(deadline, poll.notified()).await;
    }
}

/// A place at each broker group of the request.
fn register(located: &[ItemResult<(Located, Arc<GroupRuntime>)>], poll: &Arc<Notify>) -> Vec<Registration> {
    let mut by_group: BTreeMap<BrokerGroupId, (&GroupRuntime, Vec<TopicPartition>)> = BTreeMap::new();
    for (place, runtime) in located.iter().flatten() {
        by_group.entry(runtime.id()).or_insert_with(|| (runtime, Vec::new())).1.push(place.partition);
    }
    by_group.into_values().map(|(runtime, partitions)| runtime.wakeups().register(partitions, poll)).collect()
}

/// Fills the answer in the order of the request.
async fn collect(
    fetch: &Fetch,
    located: &[ItemResult<(Located, Arc<GroupRuntime>)>],
) -> (Vec<ItemResult<Fetched>>, usize) {
    let mut left = usize::try_from(fetch.bytes_max).unwrap_or(0);
    let mut total = 0;
    let mut answers = Vec::with_capacity(located.len());
    for (wanted, place) in fetch.partitions.iter().zip(located) {
        let answer = match place {
            Err(error) => Err(error.clone()),
            Ok((place, runtime)) => {
                let limit = left.min(usize::try_from(wanted.bytes_max).unwrap_or(0));
                // The first batch of the answer is always given, so that a consumer never gets stuck.
                read_partition(place, runtime, wanted, limit, total == 0).await
            }
        };
        if let Ok(fetched) = &answer {
            let bytes: usize = fetched.records.iter().map(Bytes::len).sum();
            total += bytes;
            left = left.saturating_sub(bytes);
        }
        answers.push(answer);
    }
    (answers, total)
}

/// A partition that this node serves now.
pub(crate) struct Served {
    pub(crate) term: Term,
    pub(crate) high_watermark: Offset,
    pub(crate) log_end: Offset,
}

/// Checks that this node serves the partition now, and the client's leader epoch.
pub(crate) async fn serve(place: &Located, runtime: &GroupRuntime, epoch: EpochCheck) -> Result<Served, BrokerError> {
    let term = runtime.served_term(Instant::now() + PARK_MAX).await?;
    if !runtime.group().lease_is_valid(term) {
        return Err(BrokerError::NotLeader { leader: None, epoch: None });
    }
    let current = term.leader_epoch();
    match epoch.current_leader_epoch {
        Some(found) if found < current => Err(BrokerError::FencedLeaderEpoch { found, current }),
        Some(found) if found > current => Err(BrokerError::UnknownLeaderEpoch { found, current }),
        _ => {
            // The catalog knows the partition, the group's own log not yet.
            let (high_watermark, log_end) = runtime.ends(place.partition)?.ok_or(BrokerError::LeaderNotAvailable)?;
            Ok(Served { term, high_watermark, log_end })
        }
    }
}

async fn read_partition(
    place: &Located,
    runtime: &GroupRuntime,
    wanted: &FetchPartition,
    bytes_max: usize,
    first: bool,
) -> ItemResult<Fetched> {
    let Served { term, high_watermark, log_end } = serve(place, runtime, wanted.epoch).await?;
    let partition = place.partition;
    let tables = runtime.tables();
    let log_start = reader::log_start(&*tables, partition).map_err(storage)?;
    let mut fetched = Fetched {
        high_watermark,
        last_stable_offset: high_watermark,
        log_start_offset: log_start,
        diverging: None,
        records: Vec::new(),
    };
    if let Some(epoch) = wanted.last_fetched_epoch {
        fetched.diverging = diverging(runtime, partition, term, log_end, epoch, wanted.fetch_offset)?;
        if fetched.diverging.is_some() {
            return Ok(fetched);
        }
    }
    if wanted.fetch_offset < log_start || wanted.fetch_offset > log_end {
        return Err(BrokerError::OffsetOutOfRange {
            found: wanted.fetch_offset.0,
            start: log_start.0,
            end_inclusive: high_watermark.0,
        });
    }
    if wanted.fetch_offset < high_watermark {
        let amount = Amount { bytes_max, batches_max: usize::MAX, at_least_one: first };
        fetched.records = read_batches(runtime, partition, (wanted.fetch_offset, high_watermark), amount)?;
    }
    Ok(fetched)
}

/// Whether the client's last record lies in an epoch that ended before it here (KIP-595).
fn diverging(
    runtime: &GroupRuntime,
    partition: TopicPartition,
    term: Term,
    log_end: Offset,
    last_fetched: LeaderEpoch,
    fetch_offset: Offset,
) -> ItemResult<Option<EpochEnd>> {
    let current = reader::CurrentEpoch { epoch: term.leader_epoch(), log_end };
    let end = reader::epoch_end_offset(&*runtime.tables(), partition, last_fetched, current).map_err(storage)?;
    Ok(end
        .filter(|end| end.epoch < last_fetched || end.end_offset < fetch_offset)
        .map(|end| EpochEnd { epoch: end.epoch, end_offset: end.end_offset }))
}

/// How much is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    pub(crate) bytes_max: usize,
    pub(crate) batches_max: usize,
    /// Whether the first batch is read however large it is.
    pub(crate) at_least_one: bool,
}

/// Batches from the one that holds `offset`, below the high watermark.
pub(crate) fn read_batches(
    runtime: &GroupRuntime,
    partition: TopicPartition,
    (offset, high_watermark): (Offset, Offset),
    amount: Amount,
) -> ItemResult<Vec<Bytes>> {
    let batches = locate(runtime, partition, (offset, high_watermark), amount.batches_max)?;
    let mut records = Vec::new();
    let mut total = 0_usize;
    for batch in &batches {
        let must = amount.at_least_one && records.is_empty();
        if !must && total + batch.size_bytes() > amount.bytes_max {
            break;
        }
        match stored::read(runtime, partition, batch) {
            Ok(bytes) => records.push(bytes),
            // What lies before a damaged batch is served; the next fetch begins with it and is refused.
            Err(_) if !records.is_empty() => break,
            Err(error) => return Err(error),
        }
        total += batch.size_bytes();
    }
    Ok(records)
}

/// The tail first: what it does not hold is in the consume queue, because it forgets only what was applied.
fn locate(
    runtime: &GroupRuntime,
    partition: TopicPartition,
    (offset, high_watermark): (Offset, Offset),
    batches_max: usize,
) -> ItemResult<Vec<StoredBatch>> {
    let (term, tail) = visible_tail(runtime, partition, offset, batches_max)?;
    if tail.first().is_some_and(|batch| batch.base_offset <= offset) {
        return Ok(tail.iter().map(|batch| of_tail(term, batch)).collect());
    }
    let rows =
        reader::scan_batches(&*runtime.tables(), partition, offset, batches_max.min(ROWS_MAX)).map_err(storage)?;
    Ok(rows.iter().take_while(|batch| batch.end_offset() <= high_watermark).map(of_queue).collect())
}

/// The visible batches of the tail, and its term.
fn visible_tail(
    runtime: &GroupRuntime,
    partition: TopicPartition,
    offset: Offset,
    batches_max: usize,
) -> ItemResult<(Term, Vec<TailBatch>)> {
    let leader = runtime.leader().lock();
    let log = leader.as_ref().ok_or_else(|| runtime.not_leader())?;
    Ok((log.term(), log.visible_from(partition, offset, batches_max)))
}

fn of_tail(term: Term, batch: &TailBatch) -> StoredBatch {
    StoredBatch {
        index: batch.reference.map_or(batch.index, |reference| reference.index),
        range: batch.start..batch.end,
        base_offset: batch.base_offset,
        reference: batch.reference.map(|_| term.leader_epoch()),
    }
}

/// Where a batch of the consume queue lies.
pub(crate) fn of_queue(batch: &reader::Batch) -> StoredBatch {
    StoredBatch {
        index: batch.row.index,
        range: batch.row.start..batch.row.start + batch.row.size_bytes,
        base_offset: batch.base_offset,
        reference: batch.row.is_reference().then(|| batch.row.term.leader_epoch()),
    }
}

/// A batch as look-ups by time see it.
pub(crate) enum Timed {
    /// Its records have times.
    Batch(Bytes),
    /// The one record of a hidden batch counts by when it became visible: otherwise retention would take what was delayed for
    /// longer than records are kept.
    Reference(Offset, TimestampMs),
}

/// The visible tail batches of a partition from `offset` on.
pub(crate) fn tail_batches(
    runtime: &GroupRuntime,
    partition: TopicPartition,
    offset: Offset,
) -> ItemResult<Vec<Timed>> {
    let (term, tail) = visible_tail(runtime, partition, offset, usize::MAX)?;
    tail.iter()
        .map(|batch| match batch.reference {
            Some(reference) => Ok(Timed::Reference(batch.base_offset, reference.at)),
            None => stored::read(runtime, partition, &of_tail(term, batch)).map(Timed::Batch),
        })
        .collect()
}

/// One batch of the consume queue.
pub(crate) fn queue_batch(
    runtime: &GroupRuntime,
    partition: TopicPartition,
    batch: &reader::Batch,
) -> ItemResult<Timed> {
    if batch.row.is_reference() {
        return Ok(Timed::Reference(batch.base_offset, batch.row.max_timestamp));
    }
    stored::read(runtime, partition, &of_queue(batch)).map(Timed::Batch)
}
