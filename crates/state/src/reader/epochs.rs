//! Leader epochs of a partition: Kafka's `LeaderEpochFileCache` (KIP-101, KIP-320).

use duolog_types::{LeaderEpoch, Offset, Term, TopicPartition};

use super::for_each;
use crate::rows::EpochRow;
use crate::tables::{TableId, TableReader};
use crate::{StateError, codec, keys};

/// What the leader knows beyond the applied state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentEpoch {
    /// The leader's own term.
    pub epoch: LeaderEpoch,
    /// The log end offset to answer for it.
    pub log_end: Offset,
}

/// The end of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest known epoch that is not above the asked one (the asked one itself, if none is).
    pub epoch: LeaderEpoch,
    /// The first offset of the next larger epoch, or the log end offset.
    pub end_offset: Offset,
}

/// Where `epoch` ends; `None` when it is above every known epoch, the leader's own included.
///
/// A new leader has no batch of its own term yet: `current` stands for the row that its first batch will write. It must
/// be given only once everything of earlier terms is applied, as for all answers of a leader (DESIGN 7).
///
/// # Errors
/// See [`super::applied`].
pub fn epoch_end_offset(
    tables: &dyn TableReader,
    tp: TopicPartition,
    epoch: LeaderEpoch,
    current: CurrentEpoch,
) -> Result<Option<EpochEnd>, StateError> {
    if epoch > current.epoch || epoch < LeaderEpoch(0) {
        return Ok(None);
    }
    if epoch == current.epoch {
        return Ok(Some(EpochEnd { epoch, end_offset: current.log_end }));
    }
    let asked = Term(u64::try_from(epoch.0).expect("checked not to be negative"));
    let end_offset = match first_above(tables, tp, asked)? {
        Some(end_offset) => end_offset,
        // The current epoch has no batch that is applied, so it begins at the applied log end offset.
        None => super::log_end(tables, tp)?.unwrap_or(current.log_end),
    };
    let floor = epoch_before(tables, &keys::epoch(tp, Term(asked.0 + 1)), tp)?;
    Ok(Some(EpochEnd { epoch: floor.map_or(epoch, |(term, _)| term.leader_epoch()), end_offset }))
}

/// The leader epoch of the record at `offset`; `None` when nothing is known of it.
///
/// # Errors
/// See [`super::applied`].
pub fn epoch_of(
    tables: &dyn TableReader,
    tp: TopicPartition,
    offset: Offset,
) -> Result<Option<LeaderEpoch>, StateError> {
    let epochs = leader_epochs(tables, tp)?;
    Ok(epochs.iter().rev().find(|(_, first)| *first <= offset).map(|(term, _)| term.leader_epoch()))
}

/// All epochs that have records, ascending, each with its first offset.
///
/// # Errors
/// See [`super::applied`].
pub fn leader_epochs(tables: &dyn TableReader, tp: TopicPartition) -> Result<Vec<(Term, Offset)>, StateError> {
    let mut epochs = Vec::new();
    let end = keys::partition_end(tp);
    for_each(tables, TableId::LeaderEpochs, keys::partition(tp), Some(&end), |key, value| {
        epochs.push(decode(key, value)?);
        Ok(())
    })?;
    Ok(epochs)
}

/// The last epoch that has records.
pub(crate) fn last_epoch(tables: &dyn TableReader, tp: TopicPartition) -> Result<Option<(Term, Offset)>, StateError> {
    epoch_before(tables, &keys::partition_end(tp), tp)
}

fn first_above(tables: &dyn TableReader, tp: TopicPartition, term: Term) -> Result<Option<Offset>, StateError> {
    let from = keys::epoch(tp, Term(term.0 + 1));
    let rows = tables.scan(TableId::LeaderEpochs, &from, Some(&keys::partition_end(tp)), 1)?;
    rows.first().map(|(key, value)| Ok(decode(key, value)?.1)).transpose()
}

fn epoch_before(
    tables: &dyn TableReader,
    key_exclusive: &[u8],
    tp: TopicPartition,
) -> Result<Option<(Term, Offset)>, StateError> {
    let prefix = keys::partition(tp);
    tables
        .before(TableId::LeaderEpochs, key_exclusive)?
        .filter(|(key, _)| key.starts_with(&prefix))
        .map(|(key, value)| decode(&key, &value))
        .transpose()
}

fn decode(key: &[u8], value: &[u8]) -> Result<(Term, Offset), StateError> {
    let (_, term) = keys::split(TableId::LeaderEpochs, key)?;
    Ok((Term(term), codec::decode::<EpochRow>(value)?.first_offset))
}
