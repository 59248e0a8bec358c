//! An entry that is being filled, and the partitions whose offsets it takes.

use std::collections::BTreeMap;

use duolog_record::RecordBatch;
use duolog_record::entry::{BatchMeta, EntryBuilder, EntryHeader, Payload};
use duolog_types::{FlushWish, Offset, TimestampMs, TopicPartition};

use super::in_flight::InFlightEntry;

/// What a run knows of a partition.
#[derive(Debug)]
pub(super) struct Partition {
    next_offset: Offset,
    /// Records since the last wish for a flush at once, for `flush.messages`.
    unflushed_records: i64,
}

/// An entry that is being filled.
pub(super) struct Filling {
    pub(super) id: EntryHeader,
    pub(super) builder: EntryBuilder,
    pub(super) entry: InFlightEntry,
    pub(super) flush: Option<FlushWish>,
    /// The last slot of each partition that took an offset: a single record behind it joins it.
    last_slots: BTreeMap<TopicPartition, usize>,
}

impl Partition {
    pub(super) fn new(next_offset: Offset) -> Self {
        Self { next_offset, unflushed_records: 0 }
    }

    /// Gives the next offsets away; the first of them.
    pub(super) fn take_offsets(&mut self, records: i64) -> Offset {
        let first = self.next_offset;
        self.next_offset = first.plus(records);
        first
    }

    pub(super) fn flush_wish(&mut self, flush: FlushWish, flush_records: Option<i64>, records: i64) -> FlushWish {
        self.unflushed_records += records;
        let is_due = flush_records.is_some_and(|limit| self.unflushed_records >= limit);
        let wish = if is_due { FlushWish::Now } else { flush };
        if wish == FlushWish::Now {
            self.unflushed_records = 0;
        }
        wish
    }
}

impl Filling {
    pub(super) fn new(id: EntryHeader) -> Self {
        let builder = EntryBuilder::new(id);
        Self { id, builder, entry: InFlightEntry::default(), flush: None, last_slots: BTreeMap::new() }
    }

    /// Puts a batch into the entry, into a slot of its own or into that of its neighbour; gives what was decided about the slot.
    pub(super) fn push(&mut self, meta: BatchMeta, batch: &RecordBatch) -> BatchMeta {
        let neighbour = self.last_slots.get(&meta.partition);
        if let Some(joined) = neighbour.and_then(|slot| self.builder.extend(*slot, &meta, batch)) {
            return joined;
        }
        self.last_slots.insert(meta.partition, self.builder.len());
        self.builder.push(meta, batch);
        meta
    }

    pub(super) fn push_reference(&mut self, meta: BatchMeta, payload: Payload, visible_at: TimestampMs) {
        self.last_slots.insert(meta.partition, self.builder.len());
        self.builder.push_reference(meta, payload, visible_at);
    }

    pub(super) fn wish(&mut self, wish: FlushWish) {
        self.flush = Some(self.flush.map_or(wish, |flush| flush.strictest(wish)));
    }
}
