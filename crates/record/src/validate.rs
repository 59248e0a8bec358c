//! Walking all records of a batch, decompressing where needed.

use duolog_types::TimestampMs;

use crate::{BatchError, RecordBatch};

/// What a walk over all records found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordsSummary {
    /// Records found; equal to the header's count.
    pub record_count: u32,
    /// The greatest timestamp. A producer's header may differ from it: see [`crate::patch::set_max_timestamp`].
    pub max_timestamp: TimestampMs,
    /// The least timestamp, for `message.timestamp.before.max.ms`.
    pub min_timestamp: TimestampMs,
    /// Position of the first record with the greatest timestamp, from 0.
    pub max_timestamp_index: u32,
}

/// Walks the records, decompressed into at most `limit` bytes: framing, consecutive offset deltas, count.
///
/// # Errors
/// As [`RecordBatch::records`], [`BatchError::Record`], or [`BatchError::Count`] for a batch without records.
pub fn validate_records(batch: &RecordBatch, limit: usize) -> Result<RecordsSummary, BatchError> {
    let mut records = batch.records(limit)?;
    let mut summary: Option<RecordsSummary> = None;
    while let Some(stamp) = records.next_stamp() {
        let (_, timestamp) = stamp?;
        summary = Some(match summary {
            None => RecordsSummary {
                record_count: 1,
                max_timestamp: timestamp,
                min_timestamp: timestamp,
                max_timestamp_index: 0,
            },
            Some(before) => RecordsSummary {
                record_count: before.record_count + 1,
                max_timestamp: before.max_timestamp.max(timestamp),
                min_timestamp: before.min_timestamp.min(timestamp),
                max_timestamp_index: match timestamp > before.max_timestamp {
                    true => before.record_count,
                    false => before.max_timestamp_index,
                },
            },
        });
    }
    let view = batch.view();
    summary.ok_or(BatchError::Count { count: view.record_count(), last_offset_delta: view.last_offset_delta() })
}
