//! A replica's state in its tables, as the replication layer drives it. The tables lie in RocksDB; a simulation has its own.

use std::io;
use std::path::Path;
use std::sync::Arc;

use duolog_replication::{CommandResponse, Mark, ReplicatedState, StateFactory, StateFiles};
use duolog_state::rows::Applied;
use duolog_state::{AppliedEntry, Machine, StateError, StateEvent, TableId, TableReader, TableWriter, reader};
use duolog_state_store::{RocksFiles, RocksReader, RocksTables, StoreBudget};
use duolog_types::{BrokerGroupId, LogIndex, NodeId};

/// Where the tables of replicas lie.
pub trait StateStore: Send + Sync + 'static {
    /// What it opens.
    type Tables: StoredTables;

    /// Opens a replica's tables in a directory, empty when there are none.
    ///
    /// # Errors
    /// They are damaged, or of a newer version.
    fn open(&self, group: BrokerGroupId, dir: &Path) -> io::Result<Self::Tables>;
}

/// The tables of a replica.
pub trait StoredTables: TableWriter + 'static {
    /// A handle that reads the newest state.
    fn reader(&self) -> Arc<dyn StateReader>;

    /// A handle that writes them to the disk while they are written to.
    fn files(&self) -> Arc<dyn StateFiles>;
}

/// Reads the newest state of a replica.
pub trait StateReader: TableReader {
    /// The applied position and the hash of the state there: what replicas compare.
    ///
    /// # Errors
    /// The tables fail.
    fn state_hash(&self) -> Result<(Option<Applied>, u64), StateError>;

    /// What was found damaged since the tables were opened.
    fn damage(&self) -> Option<String> {
        None
    }

    /// Verifies what lies on the disk from a row of a table on, up to about `bytes_max`. Gives the bytes that were read, and where
    /// to go on; `None` at the table's end.
    ///
    /// # Errors
    /// It is damaged, or cannot be read.
    fn verify(&self, _: TableId, _: &[u8], _: usize) -> Result<(usize, Option<Vec<u8>>), StateError> {
        Ok((0, None))
    }
}

/// Told what a replica's state has become.
pub(crate) trait StateSink: Send + Sync {
    /// The state was opened, or replaced by a snapshot: from now on it is read here.
    fn opened(&self, tables: Arc<dyn StateReader>);
    /// Entries up to `index` were applied.
    fn applied(&self, index: LogIndex, events: &[StateEvent]);
}

/// Finds who is told, by broker group.
pub(crate) type SinkOf = Arc<dyn Fn(BrokerGroupId) -> Arc<dyn StateSink> + Send + Sync>;

/// Opens replicas' states.
pub(crate) struct Factory<S> {
    pub(crate) store: S,
    pub(crate) sink: SinkOf,
}

struct Replica<T> {
    machine: Machine<T>,
    sink: Arc<dyn StateSink>,
}

/// Reads a copy.
struct Nobody;

impl StateSink for Nobody {
    fn opened(&self, _: Arc<dyn StateReader>) {}
    fn applied(&self, _: LogIndex, _: &[StateEvent]) {}
}

impl<S: StateStore> Factory<S> {
    fn open_for(
        &self,
        sink: Arc<dyn StateSink>,
        group: BrokerGroupId,
        dir: &Path,
    ) -> io::Result<Box<dyn ReplicatedState>> {
        let tables = self.store.open(group, dir)?;
        sink.opened(tables.reader());
        let machine = Machine::open(tables)?;
        Ok(Box::new(Replica { machine, sink }))
    }
}

impl<S: StateStore> StateFactory for Factory<S> {
    fn open(&self, group: BrokerGroupId, dir: &Path) -> io::Result<Box<dyn ReplicatedState>> {
        self.open_for((self.sink)(group), group, dir)
    }

    fn open_copy(&self, group: BrokerGroupId, dir: &Path) -> io::Result<Box<dyn ReplicatedState>> {
        self.open_for(Arc::new(Nobody), group, dir)
    }
}

fn mark(applied: Applied) -> Mark {
    Mark { term: applied.term.0, index: applied.index.0 }
}

impl<T: StoredTables> ReplicatedState for Replica<T> {
    fn applied(&self) -> Option<Mark> {
        self.machine.applied().map(mark)
    }

    fn membership(&self) -> Option<(Mark, Vec<u8>)> {
        let row = self.machine.membership().ok().flatten()?;
        Some((mark(row.position), row.body))
    }

    fn retired_nodes(&self) -> Vec<NodeId> {
        // Tables that cannot be read end the replica with its next entry.
        reader::retired_nodes(self.machine.tables()).unwrap_or_default()
    }

    fn apply(&mut self, run: &[AppliedEntry]) -> io::Result<Vec<CommandResponse>> {
        let applied = self.machine.apply(run)?;
        if let Some(last) = run.last() {
            self.sink.applied(last.index, &applied.events);
        }
        Ok(applied.responses.into_iter().map(CommandResponse).collect())
    }

    fn files(&self) -> Arc<dyn StateFiles> {
        self.machine.tables().files()
    }
}

/// Tables in RocksDB.
pub(crate) struct RocksStore(pub(crate) StoreBudget);

impl StateStore for RocksStore {
    type Tables = RocksTables;

    fn open(&self, _: BrokerGroupId, dir: &Path) -> io::Result<RocksTables> {
        Ok(RocksTables::open(dir, &self.0)?)
    }
}

impl StoredTables for RocksTables {
    fn reader(&self) -> Arc<dyn StateReader> {
        Arc::new(Self::reader(self))
    }

    fn files(&self) -> Arc<dyn StateFiles> {
        Arc::new(Files(Self::files(self)))
    }
}

/// The files of tables in RocksDB.
struct Files(RocksFiles);

impl StateFiles for Files {
    fn make_durable(&self) -> io::Result<Option<Mark>> {
        Ok(self.0.make_durable()?.map(mark))
    }

    fn checkpoint(&self, dir: &Path) -> io::Result<Option<Mark>> {
        Ok(self.0.checkpoint(dir)?.map(mark))
    }
}

impl StateReader for RocksReader {
    fn state_hash(&self) -> Result<(Option<Applied>, u64), StateError> {
        self.snapshot().state_hash()
    }

    fn damage(&self) -> Option<String> {
        Self::damage(self).map(str::to_owned)
    }

    fn verify(&self, table: TableId, from: &[u8], bytes_max: usize) -> Result<(usize, Option<Vec<u8>>), StateError> {
        Ok(Self::verify(self, table, from, bytes_max)?)
    }
}
