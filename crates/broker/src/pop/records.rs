//! Reads the records that a delivery needs.

use bytes::Bytes;
use duolog_coordinator::pop::order_of;
use duolog_record::{Record, RecordBatch};
use duolog_state::reader;
use duolog_types::{ConsumptionOrder, MessageType, Offset, TopicConfig, TopicPartition};

use super::filter::Compiled;
use crate::api::ItemResult;
use crate::fetch::{Amount, read_batches};
use crate::message_api::FIFO_HEADER;
use crate::runtime::{GroupRuntime, storage};

/// Read at a time.
pub(super) const READ_BYTES: usize = 256 << 10;
/// Read for one look at a partition, at most: a filter may want one message in a million.
pub(super) const SCAN_BYTES_MAX: usize = 8 << 20;
/// Rows of the consume queue that are looked at for tags at a time.
const ROWS: usize = 1_024;
/// Batches that are read at a time, at least: a batch may hold one record.
const BATCHES_MIN: usize = 16;
/// Bytes of a batch after decompression, at most.
const BATCH_BYTES_MAX: usize = 64 << 20;

/// Passes over what the filter wants nothing of, and reads on from there, below the high watermark, for somebody who has room for so many
/// records. Gives the offset that was reached, and what lies there.
pub(super) fn wanted(
    runtime: &GroupRuntime,
    partition: TopicPartition,
    (offset, high_watermark): (Offset, Offset),
    (filter, room): (&Compiled, usize),
) -> ItemResult<(Offset, Vec<Record>)> {
    let reached = wanted_from(runtime, partition, (offset, high_watermark), filter)?;
    if reached >= high_watermark {
        return Ok((reached, Vec::new()));
    }
    let batches_max = if matches!(filter, Compiled::All) { room.max(BATCHES_MIN) } else { usize::MAX };
    Ok((reached, from(runtime, partition, (reached, high_watermark), batches_max)?))
}

/// The first offset from `offset` on, up to the high watermark, at which a batch lies that the filter may want something of. What
/// is passed over was not read: the consume queue says which tags a batch has.
fn wanted_from(
    runtime: &GroupRuntime,
    partition: TopicPartition,
    (offset, high_watermark): (Offset, Offset),
    filter: &Compiled,
) -> ItemResult<Offset> {
    if !matches!(filter, Compiled::Tags(_)) {
        return Ok(offset);
    }
    let mut reached = offset;
    for batch in reader::scan_batches(&*runtime.tables(), partition, offset, ROWS).map_err(storage)? {
        if batch.end_offset() > high_watermark || filter.may_want(batch.row.filter.tags) {
            break;
        }
        reached = batch.end_offset();
    }
    Ok(reached.max(offset))
}

/// The records from `offset` on, of `batches_max` batches at most, below the high watermark.
fn from(
    runtime: &GroupRuntime,
    partition: TopicPartition,
    range: (Offset, Offset),
    batches_max: usize,
) -> ItemResult<Vec<Record>> {
    let (offset, _) = range;
    let amount = Amount { bytes_max: READ_BYTES, batches_max, at_least_one: true };
    let mut records = Vec::new();
    for bytes in read_batches(runtime, partition, range, amount)? {
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
    let found = from(runtime, partition, (offset, high_watermark), 1)?;
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
        MessageType::Normal | MessageType::Delay | MessageType::Transaction | MessageType::Priority => false,
    };
    let is_fifo = match wanted {
        ConsumptionOrder::Topic => by_topic(),
        ConsumptionOrder::Fifo => true,
        ConsumptionOrder::Concurrent => false,
    };
    is_fifo.then(|| order_of(key))
}
