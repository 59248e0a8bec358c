//! A state at one moment, for reads that must not see a mixture of several.

use duolog_state::rows::Applied;
use duolog_state::tables::Row;
use duolog_state::{StateError, TableId, TableReader, reader, state_hash};
use rocksdb::DB;

use crate::tables::{Store, before, bounded, scan};

/// The state at one applied index.
pub struct RocksSnapshot<'a> {
    store: &'a Store,
    snapshot: rocksdb::SnapshotWithThreadMode<'a, DB>,
}

impl<'a> RocksSnapshot<'a> {
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store, snapshot: store.db().snapshot() }
    }

    /// The applied position and the hash of the state there: what replicas compare.
    ///
    /// # Errors
    /// When the tables fail.
    pub fn state_hash(&self) -> Result<(Option<Applied>, u64), StateError> {
        Ok((reader::applied(self)?, state_hash(self)?))
    }
}

impl TableReader for RocksSnapshot<'_> {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let value = self.snapshot.get_cf(self.store.handle(table), key);
        Ok(value.map_err(|error| self.store.error("read", error))?)
    }

    fn before(&self, table: TableId, key_exclusive: &[u8]) -> Result<Option<Row>, StateError> {
        before(self.store, &mut self.snapshot.raw_iterator_cf(self.store.handle(table)), key_exclusive)
    }

    fn scan(
        &self,
        table: TableId,
        from: &[u8],
        to_exclusive: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StateError> {
        let mut rows = self.snapshot.raw_iterator_cf_opt(self.store.handle(table), bounded(to_exclusive));
        scan(self.store, &mut rows, from, limit)
    }
}
