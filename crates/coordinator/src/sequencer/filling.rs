//! An entry that is being filled, and the partitions whose offsets it takes.

use duolog_record::entry::{EntryBuilder, EntryHeader};
use duolog_types::{FlushWish, Offset};

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
        Self { id, builder: EntryBuilder::new(id), entry: InFlightEntry::default(), flush: None }
    }

    pub(super) fn wish(&mut self, wish: FlushWish) {
        self.flush = Some(self.flush.map_or(wish, |flush| flush.strictest(wish)));
    }
}
