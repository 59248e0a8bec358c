//! Look-ups by time.
//!
//! The time index is sparse: its row (timestamp m → batch b) says that up to and including b no record is later than m.
//! So for a time T the first batch with a record at or after T lies behind the last row whose timestamp is below T, and
//! not behind the first row at or above T.

use duolog_types::{Offset, TimestampMs, TopicPartition};

use super::partitions::batch_before;
use super::{Batch, PAGE_ROWS, scan_batches};
use crate::rows::TimeRow;
use crate::tables::{TableId, TableReader};
use crate::{StateError, codec, keys};

/// The first kept batch, from the one that holds `from` on, whose greatest timestamp is at or after `time`; the record is to
/// be found inside of it.
///
/// # Errors
/// See [`super::applied`].
pub fn find_batch_by_time(
    tables: &dyn TableReader,
    tp: TopicPartition,
    from: Offset,
    time: TimestampMs,
) -> Result<Option<Batch>, StateError> {
    let Some(row) = super::partition_row(tables, tp)? else {
        return Ok(None);
    };
    let indexed = time_row_before(tables, tp, time)?.map_or(row.log_start, |row| row.base_offset);
    first_batch(tables, tp, from.max(indexed).max(row.log_start), |batch| batch.row.max_timestamp >= time)
}

/// The batch with the greatest timestamp of those that begin below `below`, from the one that holds `from` on, the first of
/// several; `None` when there is none.
///
/// # Errors
/// See [`super::applied`].
pub fn max_timestamp_batch(
    tables: &dyn TableReader,
    tp: TopicPartition,
    from: Offset,
    below: Offset,
) -> Result<Option<Batch>, StateError> {
    let Some(last) = batch_before(tables, tp, &keys::batch(tp, below))?.filter(|last| last.end_offset() > from) else {
        return Ok(None);
    };
    let found = find_batch_by_time(tables, tp, from, last.row.running_max_timestamp)?;
    if found.is_some_and(|found| found.base_offset < below) {
        return Ok(found);
    }
    // The batch with the maximum lies before `from`, or is not kept any more: rare, so every batch is looked at.
    let mut greatest: Option<Batch> = None;
    first_batch(tables, tp, from, |batch| {
        let is_beyond = batch.base_offset >= below;
        if !is_beyond && greatest.is_none_or(|greatest| batch.row.max_timestamp > greatest.row.max_timestamp) {
            greatest = Some(*batch);
        }
        is_beyond
    })?;
    Ok(greatest)
}

/// Where retention by time lets the log begin: the end of the last batch that is older than `keep_from`, before the first
/// one that is not; `None` when nothing is known to be that old.
///
/// ```text
///  timestamps   [−1)[old)[−1)[old)[−1)[young)[old)
///  kept                           [−1)[young)[old)
/// ```
/// Nobody can say how old a batch without a timestamp is: it goes with what is old behind it, never by itself.
///
/// # Errors
/// See [`super::applied`].
pub fn expired_end(
    tables: &dyn TableReader,
    tp: TopicPartition,
    keep_from: TimestampMs,
) -> Result<Option<Offset>, StateError> {
    let Some(row) = super::partition_row(tables, tp)? else {
        return Ok(None);
    };
    // The batch of this row is old itself, and so is all before it.
    let from = time_row_before(tables, tp, keep_from)?.map_or(row.log_start, |row| row.base_offset);
    let mut end = None;
    first_batch(tables, tp, from.max(row.log_start), |batch| {
        let time = batch.row.max_timestamp;
        let is_known = time >= TimestampMs(0);
        let is_young = is_known && time >= keep_from;
        if is_known && !is_young {
            end = Some(batch.end_offset());
        }
        is_young
    })?;
    Ok(end)
}

/// The last row of the time index.
pub(crate) fn last_time_row(tables: &dyn TableReader, tp: TopicPartition) -> Result<Option<TimeRow>, StateError> {
    row_before(tables, tp, &keys::partition_end(tp))
}

fn time_row_before(
    tables: &dyn TableReader,
    tp: TopicPartition,
    time: TimestampMs,
) -> Result<Option<TimeRow>, StateError> {
    row_before(tables, tp, &keys::time(tp, time))
}

fn row_before(tables: &dyn TableReader, tp: TopicPartition, key: &[u8]) -> Result<Option<TimeRow>, StateError> {
    let prefix = keys::partition(tp);
    tables
        .before(TableId::TimeIndex, key)?
        .filter(|(key, _)| key.starts_with(&prefix))
        .map(|(_, value)| codec::decode(&value))
        .transpose()
}

/// The first batch from the one that holds `from` that is `wanted`.
fn first_batch(
    tables: &dyn TableReader,
    tp: TopicPartition,
    from: Offset,
    mut wanted: impl FnMut(&Batch) -> bool,
) -> Result<Option<Batch>, StateError> {
    let mut next = from;
    loop {
        let page = scan_batches(tables, tp, next, PAGE_ROWS)?;
        if let Some(found) = page.iter().find(|batch| wanted(batch)) {
            return Ok(Some(*found));
        }
        match page.last() {
            Some(last) if page.len() == PAGE_ROWS => next = last.end_offset(),
            _ => return Ok(None),
        }
    }
}
