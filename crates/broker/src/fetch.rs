//! Fetch: from the leader's tail first, then from the consume queue and the segments. Batches go out as they lie in the log.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use duolog_state::reader;
use duolog_types::{LeaderEpoch, LogIndex, Offset, Term, TopicPartition};
use tokio::time::Instant;

use crate::api::{EpochCheck, EpochEnd, Fetch, FetchPartition, Fetched, ItemResult};
use crate::broker::Broker;
use crate::catalog::Located;
use crate::error::BrokerError;
use crate::runtime::{GroupRuntime, storage};

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
    let mut watchers: Vec<_> = broker
        .runtimes()
        .filter(|runtime| located.iter().flatten().any(|(_, of)| of.id() == runtime.id()))
        .map(|runtime| runtime.subscribe_changed())
        .collect();
    loop {
        for watcher in &mut watchers {
            watcher.mark_unchanged();
        }
        let (answers, bytes) = collect(&fetch, &located).await;
        let decided = answers.iter().any(|answer| answer.as_ref().map_or(true, |fetched| fetched.diverging.is_some()));
        if decided || bytes >= usize::try_from(fetch.bytes_min).unwrap_or(0) || Instant::now() >= deadline {
            return answers;
        }
        if watchers.is_empty() {
            tokio::time::sleep_until(deadline).await;
            continue;
        }
        let changed = futures_util::future::select_all(watchers.iter_mut().map(|watcher| Box::pin(watcher.changed())));
        // Either something changed or the time is up: both are looked at above.
        let _ = tokio::time::timeout_at(deadline, changed).await;
    }
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

/// Checks that this node serves the partition now, and the client's leader epoch.
pub(crate) async fn serve(place: &Located, runtime: &GroupRuntime, epoch: EpochCheck) -> Result<Term, BrokerError> {
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
            let hosted = runtime.ends(place.partition)?.is_some();
            if hosted { Ok(term) } else { Err(BrokerError::LeaderNotAvailable) }
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
    let term = serve(place, runtime, wanted.epoch).await?;
    let partition = place.partition;
    let (high_watermark, log_end) = runtime.ends(partition)?.ok_or(BrokerError::LeaderNotAvailable)?;
    let tables = runtime.tables();
    let log_start = reader::partition_row(&*tables, partition).map_err(storage)?.map_or(Offset(0), |row| row.log_start);
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
        fetched.records = read_batches(runtime, partition, wanted.fetch_offset, high_watermark, bytes_max, first)?;
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

/// Where a batch lies.
#[derive(Debug, Clone, Copy)]
struct Piece {
    index: LogIndex,
    start: u32,
    end: u32,
}

/// Batches from the one that holds `offset`, below the high watermark.
fn read_batches(
    runtime: &GroupRuntime,
    partition: TopicPartition,
    offset: Offset,
    high_watermark: Offset,
    bytes_max: usize,
    first: bool,
) -> ItemResult<Vec<Bytes>> {
    let pieces = locate(runtime, partition, offset, high_watermark)?;
    let mut records = Vec::new();
    let mut total = 0_usize;
    for piece in pieces {
        let size = usize::try_from(piece.end - piece.start).expect("a batch fits the memory");
        let must = first && records.is_empty();
        if !must && total + size > bytes_max {
            break;
        }
        let bytes = runtime.group().log().read_slice(piece.index, piece.start..piece.end).map_err(storage)?;
        let bytes = bytes.ok_or_else(|| {
            BrokerError::Storage(format!("log entry {} of {partition} is not in this node's log", piece.index))
        })?;
        total += size;
        records.push(bytes);
    }
    Ok(records)
}

/// The tail first: what it does not hold is in the consume queue, because it forgets only what was applied.
fn locate(
    runtime: &GroupRuntime,
    partition: TopicPartition,
    offset: Offset,
    high_watermark: Offset,
) -> ItemResult<Vec<Piece>> {
    let tail = {
        let leader = runtime.leader().lock();
        leader.as_ref().ok_or_else(|| runtime.not_leader())?.visible_from(partition, offset)
    };
    if tail.first().is_some_and(|batch| batch.base_offset <= offset) {
        return Ok(tail.iter().map(|batch| Piece { index: batch.index, start: batch.start, end: batch.end }).collect());
    }
    let rows = reader::scan_batches(&*runtime.tables(), partition, offset, ROWS_MAX).map_err(storage)?;
    Ok(rows
        .iter()
        .take_while(|batch| batch.end_offset() <= high_watermark)
        .map(|batch| Piece {
            index: batch.row.index,
            start: batch.row.start,
            end: batch.row.start + batch.row.size_bytes,
        })
        .collect())
}

/// The bytes of the visible tail batches of a partition from `offset` on, each as one piece; for look-ups by time.
pub(crate) fn tail_batches(
    runtime: &GroupRuntime,
    partition: TopicPartition,
    offset: Offset,
) -> ItemResult<Vec<Bytes>> {
    let tail = {
        let leader = runtime.leader().lock();
        leader.as_ref().ok_or_else(|| runtime.not_leader())?.visible_from(partition, offset)
    };
    let log = runtime.group().log();
    let read = tail.iter().map(|batch| log.read_slice(batch.index, batch.start..batch.end).map_err(storage));
    Ok(read.collect::<ItemResult<Vec<_>>>()?.into_iter().flatten().collect())
}

/// The bytes of one batch of the consume queue.
pub(crate) fn queue_batch(runtime: &GroupRuntime, batch: &reader::Batch) -> ItemResult<Bytes> {
    let range = batch.row.start..batch.row.start + batch.row.size_bytes;
    let bytes = runtime.group().log().read_slice(batch.row.index, range).map_err(storage)?;
    bytes.ok_or_else(|| BrokerError::Storage(format!("log entry {} is not in this node's log", batch.row.index)))
}
