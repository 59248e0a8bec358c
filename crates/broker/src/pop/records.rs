//! Reads the records that a delivery needs.

use bytes::Bytes;
use duolog_coordinator::pop::order_of;
use duolog_record::{Record, RecordBatch};
use duolog_types::{ConsumptionOrder, MessageType, Offset, TopicConfig, TopicPartition};

use crate::api::ItemResult;
use crate::fetch::read_batches;
use crate::message_api::FIFO_HEADER;
use crate::runtime::{GroupRuntime, storage};

/// Read at a time.
pub(super) const READ_BYTES: usize = 256 << 10;
/// Read for one look at a partition, at most: a filter may want one message in a million.
pub(super) const SCAN_BYTES_MAX: usize = 8 << 20;
/// Bytes of a batch after decompression, at most.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// The records from `offset` on, of one or more batches, below the high watermark.
pub(super) fn from(
    runtime: &GroupRuntime,
    partition: TopicPartition,
    (offset, high_watermark): (Offset, Offset),
    bytes_max: usize,
) -> ItemResult<Vec<Record>> {
    let mut records = Vec::new();
    for bytes in read_batches(runtime, partition, offset, high_watermark, bytes_max, true)? {
        decode(bytes, offset, &mut records)?;
    }
    Ok(records)
}

/// One record; `None` when it is not kept any more.
pub(super) fn at(
    runtime: &GroupRuntime,
    partition: TopicPartition,
    offset: Offset,
    high_watermark: Offset,
) -> ItemResult<Option<Record>> {
    let found = from(runtime, partition, (offset, high_watermark), 0)?;
    Ok(found.into_iter().find(|record| record.offset == offset))
}

fn decode(bytes: Bytes, from: Offset, records: &mut Vec<Record>) -> ItemResult<()> {
    let batch = RecordBatch::parse(bytes).map_err(storage)?;
    if batch.view().is_control() {
        return Ok(());
    }
    for record in batch.records(BATCH_BYTES_MAX).map_err(storage)? {
        let record = record.map_err(storage)?;
        if record.offset >= from {
            records.push(record);
        }
    }
    Ok(())
}

/// Hash of the message group in which a record is delivered in order; `None` when its order does not matter.
pub(super) fn order(config: &TopicConfig, wanted: ConsumptionOrder, record: &Record) -> Option<u64> {
    let key = record.key.as_ref()?;
    let by_topic = || match config.message_type() {
        MessageType::Fifo => true,
        MessageType::Mixed => record.headers.iter().any(|header| header.key == FIFO_HEADER.as_bytes()),
        MessageType::Normal | MessageType::Delay | MessageType::Transaction => false,
    };
    let is_fifo = match wanted {
        ConsumptionOrder::Topic => by_topic(),
        ConsumptionOrder::Fifo => true,
        ConsumptionOrder::Concurrent => false,
    };
    is_fifo.then(|| order_of(key))
}
