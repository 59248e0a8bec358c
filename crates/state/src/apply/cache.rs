//! What apply remembers so that the produce path reads no table: ends of partitions and idempotent producers.
//!
//! Between two runs a cached value equals what the tables say. Within a run producers are ahead of the overlay: they are
//! written once, at its end.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use duolog_types::{ProducerId, Term, TopicId, TopicPartition};

use crate::rows::{ProducerRow, Tail};
use crate::tables::{Overlay, TableId, TableReader};
use crate::{StateError, codec, keys, reader};

/// Cached producers at most; about 200 bytes each.
const PRODUCERS_MAX: usize = 32_768;
/// Cached partitions at most; about 100 bytes each.
const PARTITIONS_MAX: usize = 65_536;

#[derive(Default)]
pub(super) struct Caches {
    partitions: BTreeMap<TopicPartition, PartitionEnd>,
    producers: BTreeMap<(TopicPartition, ProducerId), ProducerRow>,
    dirty_producers: BTreeSet<(TopicPartition, ProducerId)>,
}

/// The end of a partition, for the next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartitionEnd {
    pub(super) tail: Tail,
    /// The last leader epoch that has a row.
    pub(super) last_term: Option<Term>,
    /// Where the last row of the time index lies, in bytes of the partition.
    pub(super) last_time_position_bytes: Option<u64>,
}

impl Caches {
    /// The end of a partition; `None` when it is not hosted here.
    pub(super) fn partition(
        &mut self,
        tables: &dyn TableReader,
        tp: TopicPartition,
    ) -> Result<Option<PartitionEnd>, StateError> {
        if let Some(end) = self.partitions.get(&tp) {
            return Ok(Some(*end));
        }
        let Some(tail) = reader::tail(tables, tp)? else {
            return Ok(None);
        };
        let end = PartitionEnd {
            tail,
            last_term: reader::last_epoch(tables, tp)?.map(|(term, _)| term),
            last_time_position_bytes: reader::last_time_row(tables, tp)?.map(|row| row.position_bytes),
        };
        self.partitions.insert(tp, end);
        Ok(Some(end))
    }

    pub(super) fn set_partition(&mut self, tp: TopicPartition, end: PartitionEnd) {
        self.partitions.insert(tp, end);
    }

    /// To be read again, after its rows were changed other than by a batch.
    pub(super) fn forget_partition(&mut self, tp: TopicPartition) {
        self.partitions.remove(&tp);
    }

    /// A producer, to be changed: it is written at the end of the run.
    pub(super) fn producer_mut(
        &mut self,
        tables: &dyn TableReader,
        tp: TopicPartition,
        id: ProducerId,
        new: impl FnOnce() -> ProducerRow,
    ) -> Result<&mut ProducerRow, StateError> {
        self.dirty_producers.insert((tp, id));
        Ok(match self.producers.entry((tp, id)) {
            Entry::Occupied(cached) => cached.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(reader::producer(tables, tp, id)?.unwrap_or_else(new)),
        })
    }

    /// A producer as the run sees it.
    pub(super) fn producer(
        &self,
        tables: &dyn TableReader,
        tp: TopicPartition,
        id: ProducerId,
    ) -> Result<Option<ProducerRow>, StateError> {
        match self.producers.get(&(tp, id)) {
            Some(row) => Ok(Some(row.clone())),
            None => reader::producer(tables, tp, id),
        }
    }

    pub(super) fn forget_producer(&mut self, tp: TopicPartition, id: ProducerId) {
        self.producers.remove(&(tp, id));
        self.dirty_producers.remove(&(tp, id));
    }

    /// Forgets a topic that was deleted.
    pub(super) fn forget_topic(&mut self, topic: TopicId) {
        self.partitions.retain(|tp, _| tp.topic != topic);
        self.producers.retain(|(tp, _), _| tp.topic != topic);
        self.dirty_producers.retain(|(tp, _)| tp.topic != topic);
    }

    /// Writes the producers that changed, once each.
    pub(super) fn write_producers(&mut self, tables: &mut Overlay<'_>) {
        for (tp, id) in std::mem::take(&mut self.dirty_producers) {
            let row = self.producers.get(&(tp, id)).expect("what is dirty is cached");
            tables.put(TableId::Producers, keys::producer(tp, id), codec::encode(row));
        }
    }

    /// Keeps the caches within their limits, between two runs.
    pub(super) fn trim(&mut self) {
        // Everything is in the tables, so a cache that is full just starts again.
        if self.producers.len() > PRODUCERS_MAX {
            self.producers.clear();
        }
        if self.partitions.len() > PARTITIONS_MAX {
            self.partitions.clear();
        }
    }
}
