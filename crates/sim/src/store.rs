//! Tables of a node's replicas in memory. What is durable of them outlives the node: like RocksDB without a write-ahead log, they
//! are found as they were at some earlier applied position.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use duolog_broker::{StateReader, StateStore, StoredTables};
use duolog_replication::{Mark, StateFiles};
use duolog_state::rows::Applied;
use duolog_state::tables::{MemorySnapshot, MemoryTables, Row};
use duolog_state::{StateError, TableId, TableReader, TableWriter, WriteSet, reader, state_hash};
use duolog_types::BrokerGroupId;
use parking_lot::Mutex;

use crate::plant::{self, Plant};
use crate::random::Random;

/// A write in so many makes everything durable: a full write buffer.
const FLUSH_ONE_IN: u64 = 200;
const CHECKPOINT: &str = "tables";

/// What of a node's tables is on its disk, by directory.
#[derive(Clone)]
pub struct SimStore {
    durable: Arc<Mutex<BTreeMap<PathBuf, MemorySnapshot>>>,
    /// Directories whose tables cannot be opened any more.
    damaged: Arc<Mutex<BTreeSet<PathBuf>>>,
    random: Arc<Mutex<Random>>,
    plant: Option<Plant>,
}

impl SimStore {
    pub fn new(random: Random, plant: Option<Plant>) -> Self {
        Self { durable: Arc::default(), damaged: Arc::default(), random: Arc::new(Mutex::new(random)), plant }
    }

    /// The tables that are in use under a replica's `state` are damaged.
    pub fn damage(&self, state_dir: &Path) {
        if let Ok(current) = fs::read_to_string(state_dir.join("CURRENT")) {
            self.damaged.lock().insert(state_dir.join(current.trim()));
        }
    }
}

/// The tables of one replica.
#[derive(Clone)]
pub struct SimTables {
    tables: MemoryTables,
    dir: PathBuf,
    store: SimStore,
}

impl StateStore for SimStore {
    type Tables = SimTables;

    fn open(&self, _: BrokerGroupId, dir: &Path) -> io::Result<SimTables> {
        if self.damaged.lock().contains(dir) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", dir.display())));
        }
        let checkpoint = dir.join(CHECKPOINT);
        let known = self.durable.lock().get(dir).cloned();
        let tables = match known {
            Some(snapshot) => MemoryTables::restore(snapshot),
            None if checkpoint.exists() => read_checkpoint(&checkpoint)?,
            None => MemoryTables::new(),
        };
        fs::create_dir_all(dir)?;
        Ok(SimTables { tables, dir: dir.to_owned(), store: self.clone() })
    }
}

impl SimTables {
    fn flush(&self) {
        self.store.durable.lock().insert(self.dir.clone(), self.tables.snapshot());
    }

    fn applied(&self) -> io::Result<Option<Mark>> {
        let applied = reader::applied(&self.tables).map_err(io::Error::other)?;
        Ok(applied.map(|applied| Mark { term: applied.term.0, index: applied.index.0 }))
    }
}

impl StoredTables for SimTables {
    fn reader(&self) -> Arc<dyn StateReader> {
        Arc::new(SimReader { tables: self.tables.clone(), plant: self.store.plant })
    }

    fn files(&self) -> Arc<dyn StateFiles> {
        Arc::new(self.clone())
    }
}

impl StateFiles for SimTables {
    fn make_durable(&self) -> io::Result<Option<Mark>> {
        self.flush();
        self.applied()
    }

    /// `table u8, key length u32, key, value length u32, value`, each row.
    fn checkpoint(&self, dir: &Path) -> io::Result<Option<Mark>> {
        let mut bytes = Vec::new();
        let mut put = |part: &[u8]| {
            bytes.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend_from_slice(part);
        };
        for table in TableId::ALL {
            for (key, value) in self.tables.scan(table, &[], None, usize::MAX).map_err(io::Error::other)? {
                put(&[table as u8]);
                put(&key);
                put(&value);
            }
        }
        fs::create_dir_all(dir)?;
        fs::write(dir.join(CHECKPOINT), bytes)?;
        self.applied()
    }
}

fn read_checkpoint(path: &Path) -> io::Result<MemoryTables> {
    let bytes = fs::read(path)?;
    let mut rest = &bytes[..];
    let mut next = || -> Option<Vec<u8>> {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (part, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        rest = after;
        Some(part.to_vec())
    };
    let mut changes = WriteSet::default();
    while let (Some(table), Some(key), Some(value)) = (next(), next(), next()) {
        let table = TableId::ALL.into_iter().find(|id| *id as u8 == table[0]);
        changes.put(table.ok_or_else(|| io::Error::other("an unknown table"))?, key, value);
    }
    let mut tables = MemoryTables::new();
    tables.write(&changes).map_err(io::Error::other)?;
    Ok(tables)
}

impl TableReader for SimTables {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.tables.get(table, key)
    }

    fn before(&self, table: TableId, key_exclusive: &[u8]) -> Result<Option<Row>, StateError> {
        self.tables.before(table, key_exclusive)
    }

    fn scan(&self, table: TableId, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StateError> {
        self.tables.scan(table, from, to, limit)
    }
}

impl TableWriter for SimTables {
    fn write(&mut self, changes: &WriteSet) -> Result<(), StateError> {
        match self.store.plant {
            Some(Plant::ForgottenDecision) => self.tables.write(&plant::forget_decisions(changes))?,
            _ => self.tables.write(changes)?,
        }
        // A state that is ahead of the log does harm only where it is durable before the log.
        let is_flushed = self.store.random.lock().one_in(FLUSH_ONE_IN);
        if is_flushed || self.store.plant == Some(Plant::EarlyApply) {
            self.flush();
        }
        Ok(())
    }
}

/// Reads the tables of a replica.
struct SimReader {
    tables: MemoryTables,
    plant: Option<Plant>,
}

impl SimReader {
    fn is_hidden(&self, table: TableId) -> bool {
        self.plant == Some(Plant::ForgottenProducers) && table == TableId::Producers
    }
}

impl TableReader for SimReader {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        if self.is_hidden(table) { Ok(None) } else { self.tables.get(table, key) }
    }

    fn before(&self, table: TableId, key_exclusive: &[u8]) -> Result<Option<Row>, StateError> {
        if self.is_hidden(table) { Ok(None) } else { self.tables.before(table, key_exclusive) }
    }

    fn scan(&self, table: TableId, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Row>, StateError> {
        if self.is_hidden(table) { Ok(Vec::new()) } else { self.tables.scan(table, from, to, limit) }
    }
}

impl StateReader for SimReader {
    fn state_hash(&self) -> Result<(Option<Applied>, u64), duolog_state::StateError> {
        Ok((reader::applied(&self.tables)?, state_hash(&self.tables)?))
    }
}
