//! Idempotent producers of a partition.

use duolog_types::{ProducerId, TopicPartition};

use super::{for_each, get};
use crate::rows::ProducerRow;
use crate::tables::{TableId, TableReader};
use crate::{StateError, codec, keys};

/// A producer in a partition; `None` when it never wrote there, or was forgotten.
///
/// # Errors
/// See [`super::applied`].
pub fn producer(
    tables: &dyn TableReader,
    tp: TopicPartition,
    id: ProducerId,
) -> Result<Option<ProducerRow>, StateError> {
    get(tables, TableId::Producers, &keys::producer(tp, id))
}

/// All producers of a partition, by id.
///
/// # Errors
/// See [`super::applied`].
pub fn producers(tables: &dyn TableReader, tp: TopicPartition) -> Result<Vec<(ProducerId, ProducerRow)>, StateError> {
    let mut producers = Vec::new();
    let end = keys::partition_end(tp);
    for_each(tables, TableId::Producers, keys::partition(tp), Some(&end), |key, value| {
        let (_, id) = keys::split(TableId::Producers, key)?;
        producers.push((ProducerId(id.cast_signed()), codec::decode(value)?));
        Ok(())
    })?;
    Ok(producers)
}
