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

/// Batches that a look-up by time reads although no record of theirs fits, contrary to what their headers say.
const SEARCHED_BATCHES_MAX: usize = 16;

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
    let answer = |found: Option<Stamp>| {
        found.map_or(Ok(NOT_FOUND), |(offset, timestamp)| {
            Ok(FoundOffset { offset, timestamp, leader_epoch: epoch_at(offset)? })
        })
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
        OffsetQuery::AtOrAfter(time) => answer(at_or_after(&runtime, tp, high_watermark, time)?),
        OffsetQuery::MayHold(search) => {
            let offset = may_hold(&runtime, tp, high_watermark, search)?;
            Ok(FoundOffset { offset, timestamp: TimestampMs(-1), leader_epoch: epoch_at(offset)? })
        }
        OffsetQuery::MaxTimestamp => answer(greatest(&runtime, tp, high_watermark)?),
    }
}

/// An offset and its timestamp.
pub(crate) type Stamp = (Offset, TimestampMs);

/// The first kept and visible record with this timestamp or a later one.
pub(crate) fn at_or_after(
    runtime: &GroupRuntime,
    tp: TopicPartition,
    high_watermark: Offset,
    time: TimestampMs,
) -> ItemResult<Option<Stamp>> {
    let tables = runtime.tables();
    let mut from = reader::log_start(&*tables, tp).map_err(storage)?;
    let mut searched = 0;
    while let Some(batch) = reader::find_batch_by_time(&*tables, tp, from, time).map_err(storage)?
        && batch.end_offset() <= high_watermark
    {
        let found = if searched < SEARCHED_BATCHES_MAX {
            first_in(queue_batch(runtime, tp, &batch)?, from, time)?
        } else {
            // Who begins here misses nothing.
            Some((batch.base_offset, batch.row.max_timestamp))
        };
        if found.is_some() {
            return Ok(found);
        }
        // Its record lies before the log start, or its header says what its records do not.
        from = batch.end_offset();
        searched += 1;
    }
    for batch in tail_batches(runtime, tp, from)? {
        if let Some(found) = first_in(batch, from, time)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The first kept and visible record with the greatest timestamp.
fn greatest(runtime: &GroupRuntime, tp: TopicPartition, high_watermark: Offset) -> ItemResult<Option<Stamp>> {
    let tables = runtime.tables();
    let start = reader::log_start(&*tables, tp).map_err(storage)?;
    let (mut found, mut from) = (None, start);
    // Of a batch that the log start cuts, the row counts records that are gone.
    let cut = reader::find_batch(&*tables, tp, start).map_err(storage)?.filter(|batch| batch.base_offset < start);
    if let Some(batch) = cut.filter(|batch| batch.end_offset() <= high_watermark) {
        found = greatest_in(queue_batch(runtime, tp, &batch)?, start)?;
        from = batch.end_offset();
    }
    if let Some(batch) = reader::max_timestamp_batch(&*tables, tp, from, high_watermark).map_err(storage)? {
        found = later(found, greatest_in(queue_batch(runtime, tp, &batch)?, start)?);
    }
    for batch in tail_batches(runtime, tp, start)? {
        found = later(found, greatest_in(batch, start)?);
    }
    Ok(found)
}

/// The first of two with the greater timestamp.
fn later(known: Option<Stamp>, found: Option<Stamp>) -> Option<Stamp> {
    match (known, found) {
        (Some(known), Some(found)) if known.1 >= found.1 => Some(known),
        (known, found) => found.or(known),
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

fn first_in(batch: Timed, from: Offset, time: TimestampMs) -> ItemResult<Option<Stamp>> {
    match batch {
        Timed::Batch(bytes) => {
            first_record_at_or_after(&parsed(bytes)?, from, time, DECOMPRESSED_BYTES_MAX).map_err(storage)
        }
        Timed::Reference(offset, at) => Ok((offset >= from && at >= time).then_some((offset, at))),
    }
}

fn greatest_in(batch: Timed, from: Offset) -> ItemResult<Option<Stamp>> {
    match batch {
        Timed::Batch(bytes) => max_timestamp_record(&parsed(bytes)?, from, DECOMPRESSED_BYTES_MAX).map_err(storage),
        Timed::Reference(offset, at) => Ok((offset >= from).then_some((offset, at))),
    }
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
