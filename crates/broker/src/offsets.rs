//! ListOffsets and OffsetForLeaderEpoch.

use bytes::Bytes;
use duolog_record::{NameSearch, RecordBatch, first_record_at_or_after, max_timestamp_record};
use duolog_state::reader;
use duolog_types::{LeaderEpoch, Offset, TimestampMs, TopicPartition};

use crate::api::{EpochCheck, EpochEnd, FoundOffset, ItemResult, OffsetQuery, TopicRef};
use crate::broker::Broker;
use crate::fetch::{Served, Timed, queue_batch, serve, tail_batches};
use crate::runtime::{GroupRuntime, storage};

/// Most bytes that one batch may decompress to while it is searched.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// Rows of the consume queue that a search by name looks at in one turn, at a time and in all: whoever searches asks again.
const SEARCHED_ROWS: usize = 1_024;
const SEARCHED_PAGES_MAX: usize = 16;

const NOT_FOUND: FoundOffset = FoundOffset { offset: Offset(-1), timestamp: TimestampMs(-1), leader_epoch: None };

/// Finds an offset.
pub(crate) async fn list_offset(
    broker: &Broker,
    topic: TopicRef,
    partition: i32,
    query: OffsetQuery,
    epoch: EpochCheck,
) -> ItemResult<FoundOffset> {
    let place = broker.locate(&topic, partition)?;
    let runtime = broker.runtime(place.group)?;
    let Served { term, high_watermark, .. } = serve(&place, &runtime, epoch).await?;
    let tp = place.partition;
    let tables = runtime.tables();
    let epoch_at = |offset: Offset| -> ItemResult<Option<LeaderEpoch>> {
        Ok(Some(reader::epoch_of(&*tables, tp, offset).map_err(storage)?.unwrap_or(term.leader_epoch())))
    };
    match query {
        OffsetQuery::Earliest => {
            let start = reader::log_start(&*tables, tp).map_err(storage)?;
            Ok(FoundOffset { offset: start, timestamp: TimestampMs(-1), leader_epoch: epoch_at(start)? })
        }
        OffsetQuery::Latest => Ok(FoundOffset {
            offset: high_watermark,
            timestamp: TimestampMs(-1),
            leader_epoch: Some(term.leader_epoch()),
        }),
        OffsetQuery::AtOrAfter(time) => {
            let found = at_or_after(&runtime, tp, high_watermark, time)?;
            found.map_or(Ok(NOT_FOUND), |(offset, timestamp)| {
                Ok(FoundOffset { offset, timestamp, leader_epoch: epoch_at(offset)? })
            })
        }
        OffsetQuery::MayHold(search) => {
            let offset = may_hold(&runtime, tp, high_watermark, search)?;
            Ok(FoundOffset { offset, timestamp: TimestampMs(-1), leader_epoch: epoch_at(offset)? })
        }
        OffsetQuery::MaxTimestamp => {
            let queue = reader::max_timestamp_batch(&*tables, tp).map_err(storage)?;
            let mut found = match queue {
                Some(batch) if batch.end_offset() <= high_watermark => greatest(queue_batch(&runtime, tp, &batch)?)?,
                _ => None,
            };
            for candidate in search_tail(&runtime, tp, greatest)? {
                if found.is_none_or(|known| candidate.1 > known.1) {
                    found = Some(candidate);
                }
            }
            found.map_or(Ok(NOT_FOUND), |(offset, timestamp)| {
                Ok(FoundOffset { offset, timestamp, leader_epoch: epoch_at(offset)? })
            })
        }
    }
}

/// An offset and its timestamp.
pub(crate) type Stamp = (Offset, TimestampMs);

/// The first visible record with this timestamp or a later one.
pub(crate) fn at_or_after(
    runtime: &GroupRuntime,
    tp: TopicPartition,
    high_watermark: Offset,
    time: TimestampMs,
) -> ItemResult<Option<Stamp>> {
    let queue = reader::find_batch_by_time(&*runtime.tables(), tp, time).map_err(storage)?;
    let from_queue = match queue {
        Some(batch) if batch.end_offset() <= high_watermark => first_in(queue_batch(runtime, tp, &batch)?, time)?,
        _ => None,
    };
    match from_queue {
        Some(found) => Ok(Some(found)),
        None => Ok(search_tail(runtime, tp, |batch| first_in(batch, time))?.into_iter().next()),
    }
}

/// Passes over batches in which nothing of the name lies, unread: the consume queue knows. Of what is not applied yet, nothing is known.
fn may_hold(
    runtime: &GroupRuntime,
    tp: TopicPartition,
    high_watermark: Offset,
    NameSearch { from, name }: NameSearch,
) -> ItemResult<Offset> {
    let tables = runtime.tables();
    let mut reached = from.max(reader::log_start(&*tables, tp).map_err(storage)?);
    for _ in 0..SEARCHED_PAGES_MAX {
        let page = reader::scan_batches(&*tables, tp, reached, SEARCHED_ROWS).map_err(storage)?;
        let is_last = page.len() < SEARCHED_ROWS;
        for batch in page {
            if batch.end_offset() > high_watermark || batch.row.filter.names.may_hold(name) {
                return Ok(reached);
            }
            reached = reached.max(batch.end_offset());
        }
        if is_last {
            break;
        }
    }
    Ok(reached)
}

fn parsed(bytes: Bytes) -> ItemResult<RecordBatch> {
    RecordBatch::parse(bytes).map_err(storage)
}

fn first_in(batch: Timed, time: TimestampMs) -> ItemResult<Option<Stamp>> {
    match batch {
        Timed::Batch(bytes) => first_record_at_or_after(&parsed(bytes)?, time, DECOMPRESSED_BYTES_MAX).map_err(storage),
        Timed::Reference(offset, at) => Ok((at >= time).then_some((offset, at))),
    }
}

fn greatest(batch: Timed) -> ItemResult<Option<Stamp>> {
    match batch {
        Timed::Batch(bytes) => max_timestamp_record(&parsed(bytes)?, DECOMPRESSED_BYTES_MAX).map_err(storage),
        Timed::Reference(offset, at) => Ok(Some((offset, at))),
    }
}

/// What the visible batches that are not applied yet have to offer.
fn search_tail(
    runtime: &GroupRuntime,
    tp: TopicPartition,
    search: impl Fn(Timed) -> ItemResult<Option<Stamp>>,
) -> ItemResult<Vec<Stamp>> {
    let batches = tail_batches(runtime, tp, Offset(0))?;
    Ok(batches.into_iter().map(search).collect::<ItemResult<Vec<_>>>()?.into_iter().flatten().collect())
}

/// The end of a leader epoch.
pub(crate) async fn leader_epoch_end(
    broker: &Broker,
    topic: TopicRef,
    partition: i32,
    leader_epoch: LeaderEpoch,
    epoch: EpochCheck,
) -> ItemResult<Option<EpochEnd>> {
    let place = broker.locate(&topic, partition)?;
    let runtime = broker.runtime(place.group)?;
    let Served { term, high_watermark, .. } = serve(&place, &runtime, epoch).await?;
    let current = reader::CurrentEpoch { epoch: term.leader_epoch(), log_end: high_watermark };
    let end = reader::epoch_end_offset(&*runtime.tables(), place.partition, leader_epoch, current).map_err(storage)?;
    Ok(end.map(|end| EpochEnd { epoch: end.epoch, end_offset: end.end_offset }))
}
