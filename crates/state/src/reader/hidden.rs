//! Hidden batches: half and delayed messages, and what becomes due about them.

use duolog_record::entry::Address;
use duolog_types::{LogIndex, Offset, TimestampMs, TopicId, TopicPartition};

use super::for_each;
use crate::keys::TimerKind;
use crate::rows::{HiddenRow, ReferenceRow, TimerRow};
use crate::tables::{TableId, TableReader};
use crate::{StateError, codec, keys};

/// Something that becomes due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    /// When.
    pub time: TimestampMs,
    /// The partition of the hidden batch.
    pub partition: TopicPartition,
    /// Where the hidden batch lies.
    pub address: Address,
}

/// A hidden batch; `None` when there was none, or it is forgotten.
///
/// # Errors
/// See [`super::applied`].
pub fn hidden(tables: &dyn TableReader, tp: TopicPartition, address: Address) -> Result<Option<HiddenRow>, StateError> {
    tables.get(TableId::HiddenMessages, &keys::hidden(tp, address))?.map(|row| HiddenRow::decode(&row)).transpose()
}

/// All hidden batches of a topic that have a row, by partition and address.
///
/// # Errors
/// See [`super::applied`].
pub fn hidden_of_topic(
    tables: &dyn TableReader,
    topic: TopicId,
) -> Result<Vec<(TopicPartition, Address, HiddenRow)>, StateError> {
    let mut found = Vec::new();
    let end = keys::topic_end(topic);
    for_each(tables, TableId::HiddenMessages, topic.0.to_vec(), Some(&end), |key, value| {
        let (tp, address) = keys::split_hidden(key)?;
        found.push((tp, address, HiddenRow::decode(value)?));
        Ok(())
    })?;
    Ok(found)
}

/// The first entry of the log that holds a hidden batch of the partition which has a row: the log is wanted from there.
///
/// # Errors
/// See [`super::applied`].
pub fn first_hidden_index(tables: &dyn TableReader, tp: TopicPartition) -> Result<Option<LogIndex>, StateError> {
    let rows = tables.scan(TableId::HiddenMessages, &keys::partition(tp), Some(&keys::partition_end(tp)), 1)?;
    rows.first().map(|(key, _)| Ok(keys::split_hidden(key)?.1.index)).transpose()
}

/// References of a partition below an offset: offset and address of the payload.
///
/// # Errors
/// See [`super::applied`].
pub fn references_below(
    tables: &dyn TableReader,
    tp: TopicPartition,
    offset: Offset,
) -> Result<Vec<(Offset, Address)>, StateError> {
    let mut found = Vec::new();
    let end = keys::reference(tp, offset);
    for_each(tables, TableId::References, keys::partition(tp), Some(&end), |key, value| {
        let (_, offset) = keys::split(TableId::References, key)?;
        found.push((Offset(offset.cast_signed()), codec::decode::<ReferenceRow>(value)?.0));
        Ok(())
    })?;
    Ok(found)
}

/// Timers of a kind from a time on, by time, at most `limit`.
///
/// # Errors
/// See [`super::applied`].
pub fn timers(
    tables: &dyn TableReader,
    kind: TimerKind,
    from: TimestampMs,
    limit: usize,
) -> Result<Vec<Timer>, StateError> {
    let rows = tables.scan(TableId::Timers, &keys::timers_from(kind, from), Some(&keys::timers_end(kind)), limit)?;
    rows.iter()
        .map(|(key, value)| {
            let (time, address) = keys::split_timer(key)?;
            Ok(Timer { time, partition: codec::decode::<TimerRow>(value)?.0, address })
        })
        .collect()
}
