//! Reads a batch as it lies in the log, and verifies it: what is damaged is reported and never served.

use std::ops::Range;

use bytes::Bytes;
use duolog_record::RecordBatch;
use duolog_types::{LogIndex, Offset, TopicPartition};

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
}

impl StoredBatch {
    pub(crate) fn size_bytes(&self) -> usize {
        usize::try_from(self.range.end - self.range.start).expect("a batch fits the memory")
    }
}

/// The bytes of one batch. From the tail cache they are a slice without a copy.
///
/// # Errors
/// `Storage` when they cannot be read, or are not what was written.
pub(crate) fn read(runtime: &GroupRuntime, partition: TopicPartition, batch: &StoredBatch) -> ItemResult<Bytes> {
    let log = runtime.group().log();
    let index = batch.index;
    let bytes = log.read_slice(index, batch.range.clone()).map_err(storage)?;
    let bytes = bytes
        .ok_or_else(|| BrokerError::Storage(format!("log entry {index} of {partition} is not in this node's log")))?;
    match verify(bytes, batch.base_offset) {
        Ok(bytes) => Ok(bytes),
        Err(found) => {
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
fn verify(bytes: Bytes, base_offset: Offset) -> Result<Bytes, String> {
    let batch = RecordBatch::parse(bytes).map_err(|error| error.to_string())?;
    batch.check_crc().map_err(|error| error.to_string())?;
    let found = batch.view().base_offset();
    if found == base_offset {
        Ok(batch.into_bytes())
    } else {
        Err(format!("expected the batch at offset {base_offset}, found {found}"))
    }
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
}
