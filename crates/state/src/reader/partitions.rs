//! Partitions and their consume queues. Only in data groups.

use duolog_types::{Offset, TopicConfig, TopicId, TopicPartition};

use super::{for_each, get};
use crate::rows::{BatchRow, PartitionRow, Tail, TopicRow};
use crate::tables::{Row, TableId, TableReader};
use crate::{StateError, codec, keys};

/// A batch of a partition with its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// The rest.
    pub row: BatchRow,
}

impl Batch {
    /// The offset after its last record.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.row.record_count))
    }
}

/// A partition that is hosted here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// The first offset that is kept.
    pub log_start: Offset,
    /// The log end offset of the applied state.
    pub log_end: Offset,
    /// The topic's version in the catalog, as this group knows it.
    pub catalog_version: u64,
    /// The topic's configs, as this group knows them.
    pub config: TopicConfig,
}

/// A topic as this group knows it.
///
/// # Errors
/// See [`super::applied`].
pub fn hosted_topic(tables: &dyn TableReader, id: TopicId) -> Result<Option<TopicRow>, StateError> {
    get(tables, TableId::Topics, &keys::topic(id))
}

/// All topics that this group knows, by id; deleted ones included.
///
/// # Errors
/// See [`super::applied`].
pub fn hosted_topics(tables: &dyn TableReader) -> Result<Vec<(TopicId, TopicRow)>, StateError> {
    let mut topics = Vec::new();
    for_each(tables, TableId::Topics, b"t".to_vec(), Some(b"u"), |key, value| {
        let id = key[1..].try_into().map_err(|_| StateError::BadKey {
            table: TableId::Topics.name(),
            found: key.len(),
            expected: "17 bytes",
        })?;
        topics.push((TopicId(id), codec::decode(value)?));
        Ok(())
    })?;
    Ok(topics)
}

/// The row of a partition; `None` when it is not hosted here.
///
/// # Errors
/// See [`super::applied`].
pub fn partition_row(tables: &dyn TableReader, tp: TopicPartition) -> Result<Option<PartitionRow>, StateError> {
    get(tables, TableId::Topics, &keys::topic_partition(tp))
}

/// The first offset of a partition that is kept; 0 when it is not hosted here.
///
/// # Errors
/// See [`super::applied`].
pub fn log_start(tables: &dyn TableReader, tp: TopicPartition) -> Result<Offset, StateError> {
    Ok(partition_row(tables, tp)?.map_or(Offset(0), |row| row.log_start))
}

/// A partition with its topic's configs; `None` when it is not hosted here.
///
/// # Errors
/// See [`super::applied`].
pub fn partition_state(tables: &dyn TableReader, tp: TopicPartition) -> Result<Option<PartitionState>, StateError> {
    let Some(row) = partition_row(tables, tp)? else {
        return Ok(None);
    };
    let Some(TopicRow::Live { catalog_version, config, .. }) = hosted_topic(tables, tp.topic)? else {
        return Ok(None);
    };
    let log_end = tail_of(tables, tp, row)?.end;
    Ok(Some(PartitionState { log_start: row.log_start, log_end, catalog_version, config }))
}

/// The log end offset; `None` when the partition is not hosted here.
///
/// # Errors
/// See [`super::applied`].
pub fn log_end(tables: &dyn TableReader, tp: TopicPartition) -> Result<Option<Offset>, StateError> {
    Ok(tail(tables, tp)?.map(|tail| tail.end))
}

/// What the end of a partition says; `None` when it is not hosted here.
///
/// # Errors
/// See [`super::applied`].
pub fn tail(tables: &dyn TableReader, tp: TopicPartition) -> Result<Option<Tail>, StateError> {
    partition_row(tables, tp)?.map(|row| tail_of(tables, tp, row)).transpose()
}

fn tail_of(tables: &dyn TableReader, tp: TopicPartition, row: PartitionRow) -> Result<Tail, StateError> {
    Ok(last_batch(tables, tp)?.map_or(row.floor, |batch| Tail {
        end: batch.end_offset(),
        position_bytes: batch.row.position_bytes + u64::from(batch.row.size_bytes),
        max_timestamp: batch.row.running_max_timestamp,
    }))
}

/// Bytes of the record batches that are kept; `None` when the partition is not hosted here.
///
/// # Errors
/// See [`super::applied`].
pub fn partition_size_bytes(tables: &dyn TableReader, tp: TopicPartition) -> Result<Option<u64>, StateError> {
    let Some(row) = partition_row(tables, tp)? else {
        return Ok(None);
    };
    let end = tail_of(tables, tp, row)?.position_bytes;
    let first = scan_batches(tables, tp, row.log_start, 1)?.first().map_or(end, |batch| batch.row.position_bytes);
    // The first batch may have come after the end was read, when all before it was deleted in between.
    Ok(Some(end.saturating_sub(first)))
}

/// The last batch that is kept.
///
/// # Errors
/// See [`super::applied`].
pub fn last_batch(tables: &dyn TableReader, tp: TopicPartition) -> Result<Option<Batch>, StateError> {
    batch_before(tables, tp, &keys::partition_end(tp))
}

/// The batch that holds the record at `offset`; `None` when there is none (any more, or yet).
///
/// # Errors
/// See [`super::applied`].
pub fn find_batch(tables: &dyn TableReader, tp: TopicPartition, offset: Offset) -> Result<Option<Batch>, StateError> {
    if offset < Offset(0) || offset == Offset(i64::MAX) {
        return Ok(None);
    }
    let found = batch_before(tables, tp, &keys::batch(tp, offset.plus(1)))?;
    Ok(found.filter(|batch| offset < batch.end_offset()))
}

/// Batches from the one that holds `from` (or the first one after it), in order, at most `limit`.
///
/// # Errors
/// See [`super::applied`].
pub fn scan_batches(
    tables: &dyn TableReader,
    tp: TopicPartition,
    from: Offset,
    limit: usize,
) -> Result<Vec<Batch>, StateError> {
    let from = from.max(Offset(0));
    let first = find_batch(tables, tp, from)?.map_or(from, |batch| batch.base_offset);
    let rows = tables.scan(TableId::ConsumeQueue, &keys::batch(tp, first), Some(&keys::partition_end(tp)), limit)?;
    rows.into_iter().map(decode_batch).collect()
}

/// The first batch that retention by size keeps: behind it at most `bytes_max` bytes of the partition follow, itself
/// included. The last batch is kept, however large. `None` when there is no batch.
///
/// # Errors
/// See [`super::applied`].
pub fn find_batch_by_size(
    tables: &dyn TableReader,
    tp: TopicPartition,
    bytes_max: u64,
) -> Result<Option<Batch>, StateError> {
    let (Some(row), Some(last)) = (partition_row(tables, tp)?, last_batch(tables, tp)?) else {
        return Ok(None);
    };
    let end_bytes = last.row.position_bytes + u64::from(last.row.size_bytes);
    let position_min = end_bytes.saturating_sub(bytes_max).min(last.row.position_bytes);
    // Positions grow with offsets: halve the offsets. Invariants: batches that begin below `low` lie below position_min or
    // are gone; `found` does not, and begins at `high` or holds it.
    let (mut low, mut high, mut found) = (row.log_start, last.base_offset, last);
    while low < high {
        let middle = Offset(low.0 + (high.0 - low.0) / 2);
        match find_batch(tables, tp, middle)? {
            Some(batch) if batch.row.position_bytes >= position_min => {
                high = batch.base_offset.max(low);
                found = batch;
            }
            Some(batch) => low = batch.end_offset(),
            // The log start has moved since it was read, and what lay here is gone.
            None => low = middle.plus(1),
        }
    }
    Ok(Some(found))
}

/// The last batch whose key is below `key`.
pub(super) fn batch_before(
    tables: &dyn TableReader,
    tp: TopicPartition,
    key: &[u8],
) -> Result<Option<Batch>, StateError> {
    let prefix = keys::partition(tp);
    tables
        .before(TableId::ConsumeQueue, key)?
        .filter(|(found, _)| found.starts_with(&prefix))
        .map(decode_batch)
        .transpose()
}

pub(super) fn decode_batch((key, value): Row) -> Result<Batch, StateError> {
    let (_, base_offset) = keys::split(TableId::ConsumeQueue, &key)?;
    Ok(Batch { base_offset: Offset(base_offset.cast_signed()), row: BatchRow::decode(&value)? })
}
