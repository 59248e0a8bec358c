//! Reads the records that a delivery needs.
//!
//! A batch whose producer packed it wrongly is passed over as a whole: it never will be unpacked, and nobody must wait for that. What
//! the disk damaged is no such batch: its checksum says so, and it is an error.

use duolog_coordinator::pop::order_of;
use duolog_record::{BatchError, Record, RecordBatch};
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
    let found = from(runtime, partition, (reached, high_watermark), batches_max)?;
    // Where no batch has records, what follows them is next.
    let reached = if found.records.is_empty() { found.end } else { reached };
    Ok((reached, found.records))
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

/// What lies in a range.
struct Found {
    records: Vec<Record>,
    /// End of the last batch that was read; where there is none, the beginning of the range.
    end: Offset,
}

/// The records from `offset` on, of `batches_max` batches at most, below the high watermark.
fn from(
    runtime: &GroupRuntime,
    partition: TopicPartition,
    range: (Offset, Offset),
    batches_max: usize,
) -> ItemResult<Found> {
    let (offset, _) = range;
    let amount = Amount { bytes_max: READ_BYTES, batches_max, at_least_one: true };
    let mut found = Found { records: Vec::new(), end: offset };
    for bytes in read_batches(runtime, partition, range, amount)? {
        let batch = RecordBatch::parse(bytes).map_err(storage)?;
        found.end = found.end.max(batch.end_offset());
        match unpacked(&batch) {
            Ok(records) => found.records.extend(records.into_iter().filter(|record| record.offset >= offset)),
            Err(error) => {
                runtime.count_unreadable();
                let (first, end) = (batch.view().base_offset(), batch.end_offset());
                tracing::warn!(%partition, %first, %end, %error,
                    "the records of a batch cannot be unpacked, although it is as its producer sent it: consumer groups pass over it");
            }
        }
    }
    Ok(found)
}

/// One record; `None` when it is not kept any more.
pub(super) fn at(
    runtime: &GroupRuntime,
    partition: TopicPartition,
    offset: Offset,
    high_watermark: Offset,
) -> ItemResult<Option<Record>> {
    let found = from(runtime, partition, (offset, high_watermark), 1)?;
    Ok(found.records.into_iter().find(|record| record.offset == offset))
}

/// All records of a batch, or none. Only its producer can be to blame: the batch was compared with its checksum.
fn unpacked(batch: &RecordBatch) -> Result<Vec<Record>, BatchError> {
    if batch.view().is_control() {
        return Ok(Vec::new());
    }
    batch.records(BATCH_BYTES_MAX)?.collect()
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
