//! Look-ups by time.
//!
//! The time index is sparse: its row (timestamp m → batch b) says that up to and including b no record is later than m.
//! So for a time T the first batch with a record at or after T lies behind the last row whose timestamp is below T, and
//! not behind the first row at or above T.

use duolog_types::{Offset, TimestampMs, TopicPartition};

use super::{Batch, PAGE_ROWS, scan_batches};
use crate::rows::TimeRow;
use crate::tables::{TableId, TableReader};
use crate::{StateError, codec, keys};

/// The first kept batch whose greatest timestamp is at or after `time`; the record is to be found inside of it.
///
/// # Errors
/// See [`super::applied`].
pub fn find_batch_by_time(
    tables: &dyn TableReader,
    tp: TopicPartition,
    time: TimestampMs,
) -> Result<Option<Batch>, StateError> {
    let Some(row) = super::partition_row(tables, tp)? else {
        return Ok(None);
    };
    let from = time_row_before(tables, tp, time)?.map_or(row.log_start, |row| row.base_offset);
    first_batch(tables, tp, from.max(row.log_start), |batch| batch.row.max_timestamp >= time)
}

/// The kept batch with the greatest timestamp, the first of several; `None` when nothing is kept.
///
/// # Errors
/// See [`super::applied`].
pub fn max_timestamp_batch(tables: &dyn TableReader, tp: TopicPartition) -> Result<Option<Batch>, StateError> {
    let Some(last) = super::last_batch(tables, tp)? else {
        return Ok(None);
    };
    if let Some(found) = find_batch_by_time(tables, tp, last.row.running_max_timestamp)? {
        return Ok(Some(found));
    }
    // The batch with the maximum is not kept any more: rare, so every kept batch is looked at.
    let mut greatest: Option<Batch> = None;
    first_batch(tables, tp, Offset(0), |batch| {
        if greatest.is_none_or(|greatest| batch.row.max_timestamp > greatest.row.max_timestamp) {
            greatest = Some(*batch);
        }
        false
    })?;
    Ok(greatest)
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
