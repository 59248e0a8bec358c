//! Reads a batch as it lies in the log, and verifies it: what is damaged is reported and never served.

use std::ops::Range;

use bytes::Bytes;
use duolog_commit_log::LogError;
use duolog_record::RecordBatch;
use duolog_record::entry::NO_OFFSET;
use duolog_record::patch::{body_after_header, patched_header};
use duolog_types::{LeaderEpoch, LogIndex, Offset, TopicPartition};

use crate::api::ItemResult;
use crate::error::BrokerError;
use crate::runtime::{GroupRuntime, storage};

/// Where a batch lies.
#[derive(Debug, Clone)]
pub(crate) struct StoredBatch {
    pub(crate) index: LogIndex,
    /// Byte range within the entry's body.
    pub(crate) range: Range<u32>,
    pub(crate) base_offset: Offset,
    /// Set when it was hidden: base offset and this leader epoch are written into it, for it lies without them.
    pub(crate) reference: Option<LeaderEpoch>,
}

impl StoredBatch {
    pub(crate) fn size_bytes(&self) -> usize {
        usize::try_from(self.range.end - self.range.start).expect("a batch fits the memory")
    }
}

/// The bytes of one batch. From the tail cache they are a slice without a copy, unless it was hidden.
///
/// # Errors
/// `Storage` when they cannot be read, or are not what was written.
pub(crate) fn read(runtime: &GroupRuntime, partition: TopicPartition, batch: &StoredBatch) -> ItemResult<Bytes> {
    let log = runtime.group().log();
    let index = batch.index;
    let read = log.read_slice(index, batch.range.clone());
    // What the disk cannot read may be put back, like other damage.
    if let Err(LogError::Corrupt { .. }) = read {
        runtime.group().suspect(index);
    }
    let bytes = read.map_err(storage)?;
    let bytes = bytes
        .ok_or_else(|| BrokerError::Storage(format!("log entry {index} of {partition} is not in this node's log")))?;
    let stored_offset = if batch.reference.is_some() { NO_OFFSET } else { batch.base_offset };
    match verify(bytes, stored_offset) {
        Ok(stored) => Ok(match batch.reference {
            Some(leader_epoch) => placed(&stored, batch.base_offset, leader_epoch),
            None => stored.into_bytes(),
        }),
        Err(found) => {
            runtime.group().suspect(index);
            // The whole record carries a checksum of its own: reading it names the file and the position.
            let cause = match log.read_any(index) {
                Err(error) => error.to_string(),
                Ok(_) => format!("log entry {index}, bytes {:?}: {found}", batch.range),
            };
            tracing::error!(broker_group = %runtime.id(), %partition, offset = %batch.base_offset, log_index = %index,
                "a stored batch is damaged and is not served: {cause}");
            Err(BrokerError::Storage(cause))
        }
    }
}

/// The batch's own CRC does not cover its base offset.
fn verify(bytes: Bytes, base_offset: Offset) -> Result<RecordBatch, String> {
    let batch = RecordBatch::parse(bytes).map_err(|error| error.to_string())?;
    batch.check_crc().map_err(|error| error.to_string())?;
    let found = batch.view().base_offset();
    if found == base_offset {
        Ok(batch)
    } else {
        Err(format!("expected the batch at offset {base_offset}, found {found}"))
    }
}

/// A batch that lies without an offset, with one. Hidden batches are small, so they are copied into one piece.
fn placed(batch: &RecordBatch, base_offset: Offset, leader_epoch: LeaderEpoch) -> Bytes {
    let header = patched_header(batch, base_offset, leader_epoch);
    [&header[..], &body_after_header(batch)].concat().into()
}

#[cfg(test)]
mod tests {
    use duolog_record::BatchBuilder;
    use duolog_types::TimestampMs;

    use super::*;

    #[test]
    fn every_damaged_byte_is_noticed_except_the_leader_epoch() {
        let mut builder = BatchBuilder::new();
        builder.push(TimestampMs(1), Some(b"key"), Some(b"value")).unwrap();
        let good = builder.build().unwrap().into_bytes();
        verify(good.clone(), Offset(0)).unwrap();
        // Bytes 12 to 16: the leader epoch is written when a batch is served.
        for at in (0..good.len()).filter(|at| !(12..16).contains(at)) {
            let mut damaged = good.to_vec();
            damaged[at] ^= 0x10;
            assert!(verify(damaged.into(), Offset(0)).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_hidden_batch_gets_its_offset_and_epoch_when_it_is_read() {
        let mut builder = BatchBuilder::new().base_offset(NO_OFFSET);
        builder.push(TimestampMs(1), None, Some(b"value")).unwrap();
        let stored = verify(builder.build().unwrap().into_bytes(), NO_OFFSET).unwrap();
        let batch = RecordBatch::parse(placed(&stored, Offset(70), LeaderEpoch(4))).unwrap();
        batch.check_crc().unwrap();
        assert_eq!((batch.view().base_offset(), batch.view().leader_epoch()), (Offset(70), LeaderEpoch(4)));
        assert_eq!(batch.record_bytes(), stored.record_bytes());
    }
}
