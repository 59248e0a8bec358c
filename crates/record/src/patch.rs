//! What the broker writes into a producer's batch: base offset, leader epoch, and log append time.
//!
//! Base offset and leader epoch lie outside the CRC, so a batch is sent to a socket as a patched prefix followed by
//! the rest of its bytes where they lie. Log append time lies inside and costs a new CRC, but no second copy: the
//! entry builder stamps it in the copy that it makes anyway.

use bytes::{Bytes, BytesMut};
use duolog_types::{LeaderEpoch, Offset, TimestampMs};

use crate::header::{ATTRIBUTES_AT, CRC_AT, LEADER_EPOCH_AT, LOG_APPEND_TIME_BIT, MAX_TIMESTAMP_AT};
use crate::{BATCH_HEADER_BYTES, BATCH_PREFIX_BYTES, RecordBatch, TimestampKind};

/// The first 16 bytes of the batch with another base offset and leader epoch.
#[must_use]
pub fn patched_header(batch: &RecordBatch, base_offset: Offset, leader_epoch: LeaderEpoch) -> [u8; BATCH_PREFIX_BYTES] {
    let mut prefix = *batch.bytes().first_chunk().expect("a record batch has a header");
    patch_prefix(&mut prefix, base_offset, leader_epoch);
    prefix
}

/// The bytes after those of [`patched_header`], without a copy.
#[must_use]
pub fn body_after_header(batch: &RecordBatch) -> Bytes {
    batch.bytes().slice(BATCH_PREFIX_BYTES..)
}

/// The batch with every record stamped with the leader's clock: attributes, max timestamp and a new CRC.
///
/// Copies unless this is the only owner of the bytes.
#[must_use]
pub fn set_log_append_time(batch: RecordBatch, timestamp: TimestampMs) -> RecordBatch {
    set_timestamp(batch, TimestampKind::LogAppendTime, timestamp)
}

/// The batch with another max timestamp in its header: for a producer whose header does not tell the truth.
///
/// Copies unless this is the only owner of the bytes.
#[must_use]
pub fn set_max_timestamp(batch: RecordBatch, timestamp: TimestampMs) -> RecordBatch {
    let kind = batch.view().timestamp_kind();
    set_timestamp(batch, kind, timestamp)
}

fn set_timestamp(batch: RecordBatch, kind: TimestampKind, timestamp: TimestampMs) -> RecordBatch {
    let mut bytes = batch.into_bytes().try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    patch_timestamp(&mut bytes, kind, timestamp);
    RecordBatch::parse(bytes.freeze()).expect("neither magic nor length changed")
}

/// Writes base offset and leader epoch into the first 16 bytes of a batch.
pub(crate) fn patch_prefix(batch: &mut [u8], base_offset: Offset, leader_epoch: LeaderEpoch) {
    batch[..8].copy_from_slice(&base_offset.0.to_be_bytes());
    batch[LEADER_EPOCH_AT..BATCH_PREFIX_BYTES].copy_from_slice(&leader_epoch.0.to_be_bytes());
}

/// Writes timestamp type and max timestamp into a whole batch and makes its CRC right again.
pub(crate) fn patch_timestamp(batch: &mut [u8], kind: TimestampKind, timestamp: TimestampMs) {
    assert!(batch.len() >= BATCH_HEADER_BYTES, "a batch of {} bytes has no header", batch.len());
    let attributes = i16::from_be_bytes([batch[ATTRIBUTES_AT], batch[ATTRIBUTES_AT + 1]]);
    let attributes = match kind {
        TimestampKind::CreateTime => attributes & !LOG_APPEND_TIME_BIT,
        TimestampKind::LogAppendTime => attributes | LOG_APPEND_TIME_BIT,
    };
    batch[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&timestamp.0.to_be_bytes());
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}
