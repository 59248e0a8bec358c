//! What the handlers of one applied run share: the overlay, the caches, the events.

use crate::apply::cache::Caches;
use crate::codec::{self, Versioned};
use crate::event::StateEvent;
use crate::tables::{Overlay, TableId, WriteSet};

pub(super) struct Context<'a> {
    /// The tables as the run sees them. Producers are behind: see [`Caches`].
    pub(super) tables: Overlay<'a>,
    pub(super) caches: &'a mut Caches,
    events: Vec<StateEvent>,
}

impl<'a> Context<'a> {
    pub(super) fn new(tables: Overlay<'a>, caches: &'a mut Caches) -> Self {
        Self { tables, caches, events: Vec::new() }
    }

    pub(super) fn put<V: Versioned>(&mut self, table: TableId, key: Vec<u8>, value: &V) {
        self.tables.put(table, key, codec::encode(value));
    }

    pub(super) fn emit(&mut self, event: StateEvent) {
        self.events.push(event);
    }

    /// Writes the producers of the run, once each, and closes the run.
    pub(super) fn finish(mut self) -> (WriteSet, Vec<StateEvent>) {
        self.caches.write_producers(&mut self.tables);
        (self.tables.into_changes(), self.events)
    }
}
