//! Finding a record of a batch by timestamp, for ListOffsets.

use duolog_types::{Offset, TimestampMs};

use crate::{BatchError, RecordBatch};

/// The first record at or behind offset `from` whose timestamp is `timestamp` or later, with its own timestamp.
///
/// # Errors
/// As [`RecordBatch::records`] and its iterator.
pub fn first_record_at_or_after(
    batch: &RecordBatch,
    from: Offset,
    timestamp: TimestampMs,
    limit: usize,
) -> Result<Option<(Offset, TimestampMs)>, BatchError> {
    let mut records = batch.records(limit)?;
    while let Some(stamp) = records.next_stamp() {
        let found = stamp?;
        if found.0 >= from && found.1 >= timestamp {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The first record with the greatest timestamp of those at or behind offset `from` (KIP-734); `None` when there is none.
///
/// # Errors
/// As [`RecordBatch::records`] and its iterator.
pub fn max_timestamp_record(
    batch: &RecordBatch,
    from: Offset,
    limit: usize,
) -> Result<Option<(Offset, TimestampMs)>, BatchError> {
    let mut records = batch.records(limit)?;
    let mut greatest: Option<(Offset, TimestampMs)> = None;
    while let Some(stamp) = records.next_stamp() {
        let found = stamp?;
        if found.0 >= from && greatest.is_none_or(|before| found.1 > before.1) {
            greatest = Some(found);
        }
    }
    Ok(greatest)
}
