//! What a Produce request carries for one partition, judged as Kafka's `LogValidator` and `UnifiedLog` do.
//!
//! Deliberately absent: how many batches a request may carry and whether a request version may carry zstd (the front
//! end's business), `max.message.bytes` and timestamp windows (the topic's), and decompression
//! ([`crate::validate_records`], which the caller may choose).

use bytes::Bytes;

use crate::batch::framed_size;
use crate::record::Walk;
use crate::{BatchError, Compression, RecordBatch, TimestampKind};

/// Splits a producer's bytes into batches and checks each: format, length, CRC, counts, codec, and the framing of
/// records that are not compressed. No bytes are no batches.
///
/// # Errors
/// The first thing that is wrong; [`BatchError::kind`] says which answer the producer gets.
pub fn split_batches(mut bytes: Bytes) -> Result<Vec<RecordBatch>, BatchError> {
    let mut batches = Vec::new();
    while !bytes.is_empty() {
        let size = framed_size(&bytes)?;
        let batch = RecordBatch::parse(bytes.split_to(size))?;
        check_produced(&batch)?;
        batches.push(batch);
    }
    Ok(batches)
}

fn check_produced(batch: &RecordBatch) -> Result<(), BatchError> {
    batch.check_crc()?;
    let view = batch.view();
    let compression = view.compression()?;
    let (count, last_offset_delta) = (view.record_count(), view.last_offset_delta());
    if count < 1 || last_offset_delta != count - 1 {
        return Err(BatchError::Count { count, last_offset_delta });
    }
    if view.is_control() {
        return Err(BatchError::ControlBatch);
    }
    if view.base_offset().0 != 0 {
        return Err(BatchError::BaseOffset { found: view.base_offset().0 });
    }
    let (producer_id, base_sequence) = (view.producer_id().0, view.base_sequence());
    if producer_id >= 0 && base_sequence < 0 {
        return Err(BatchError::BaseSequence { producer_id, base_sequence });
    }
    if view.timestamp_kind() == TimestampKind::LogAppendTime {
        return Err(BatchError::LogAppendTime);
    }
    if compression == Compression::None {
        let records = batch.record_bytes();
        let mut walk = Walk::new(count);
        while let Some(frame) = walk.next(&records) {
            frame?;
        }
    }
    Ok(())
}
