//! Tables in memory, for tests and for the simulation. Clones share their rows.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::{Row, TableId, TableReader, TableWriter, WriteSet};
use crate::StateError;

type Rows = BTreeMap<(TableId, Vec<u8>), Vec<u8>>;

/// Tables in memory. A clone is a second handle to the same rows.
#[derive(Debug, Clone, Default)]
pub struct MemoryTables {
    rows: Arc<RwLock<Rows>>,
}

/// A copy of [`MemoryTables`] at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemorySnapshot {
    rows: Rows,
}

impl MemoryTables {
    /// Empty tables.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy of all rows.
    #[must_use]
    pub fn snapshot(&self) -> MemorySnapshot {
        MemorySnapshot { rows: self.read().clone() }
    }

    /// Tables of their own with the rows of a snapshot: what a replica finds after a crash.
    #[must_use]
    pub fn restore(snapshot: MemorySnapshot) -> Self {
        Self { rows: Arc::new(RwLock::new(snapshot.rows)) }
    }

    // A writer changes the map through calls that cannot panic half-way, so a poisoned lock holds sound rows.
    fn read(&self) -> RwLockReadGuard<'_, Rows> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TableReader for MemoryTables {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(get(&self.read(), table, key))
    }

    fn before(&self, table: TableId, key_exclusive: &[u8]) -> Result<Option<Row>, StateError> {
        Ok(before(&self.read(), table, key_exclusive))
    }

    fn scan(
        &self,
        table: TableId,
        from: &[u8],
        to_exclusive: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StateError> {
        Ok(scan(&self.read(), table, from, to_exclusive, limit))
    }
}

impl TableWriter for MemoryTables {
    fn write(&mut self, changes: &WriteSet) -> Result<(), StateError> {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        for (table, from, to_exclusive) in changes.ranges() {
            let dropped: Vec<_> = rows
                .range((*table, from.clone())..(*table, to_exclusive.clone()))
                .map(|(key, _)| key.clone())
                .collect();
            for key in dropped {
                rows.remove(&key);
            }
        }
        for (table, key, value) in changes.rows() {
            match value {
                Some(value) => rows.insert((table, key.to_vec()), value.to_vec()),
                None => rows.remove(&(table, key.to_vec())),
            };
        }
        Ok(())
    }
}

impl TableReader for MemorySnapshot {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(get(&self.rows, table, key))
    }

    fn before(&self, table: TableId, key_exclusive: &[u8]) -> Result<Option<Row>, StateError> {
        Ok(before(&self.rows, table, key_exclusive))
    }

    fn scan(
        &self,
        table: TableId,
        from: &[u8],
        to_exclusive: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StateError> {
        Ok(scan(&self.rows, table, from, to_exclusive, limit))
    }
}

fn get(rows: &Rows, table: TableId, key: &[u8]) -> Option<Vec<u8>> {
    rows.get(&(table, key.to_vec())).cloned()
}

fn before(rows: &Rows, table: TableId, key_exclusive: &[u8]) -> Option<Row> {
    rows.range((table, Vec::new())..(table, key_exclusive.to_vec()))
        .next_back()
        .map(|((_, key), value)| (key.clone(), value.clone()))
}

fn scan(rows: &Rows, table: TableId, from: &[u8], to_exclusive: Option<&[u8]>, limit: usize) -> Vec<Row> {
    rows.range((Bound::Included((table, from.to_vec())), Bound::Unbounded))
        .take_while(|((id, key), _)| *id == table && to_exclusive.is_none_or(|end| key.as_slice() < end))
        .take(limit)
        .map(|((_, key), value)| (key.clone(), value.clone()))
        .collect()
}
