//! A replica's state in RocksDB, as the replication layer drives it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use duolog_replication::{CommandResponse, Mark, ReplicatedState, StateFactory};
use duolog_state::{AppliedEntry, Machine, StateEvent};
use duolog_state_store::{RocksReader, RocksTables, StoreBudget};
use duolog_types::{BrokerGroupId, LogIndex};

/// Told what a replica's state has become.
pub(crate) trait StateSink: Send + Sync {
    /// The state was opened, or replaced by a snapshot: from now on it is read here.
    fn opened(&self, tables: RocksReader);
    /// Entries up to `index` were applied.
    fn applied(&self, index: LogIndex, events: &[StateEvent]);
}

/// Finds who is told, by broker group.
pub(crate) type SinkOf = Arc<dyn Fn(BrokerGroupId) -> Arc<dyn StateSink> + Send + Sync>;

/// Opens replicas' states in RocksDB.
pub(crate) struct RocksFactory {
    pub(crate) budget: StoreBudget,
    pub(crate) sink: SinkOf,
}

struct RocksState {
    machine: Machine<RocksTables>,
    sink: Arc<dyn StateSink>,
}

impl StateFactory for RocksFactory {
    fn open(&self, group: BrokerGroupId, dir: &Path) -> io::Result<Box<dyn ReplicatedState>> {
        let tables = RocksTables::open(dir, &self.budget).map_err(io::Error::other)?;
        let sink = (self.sink)(group);
        sink.opened(tables.reader());
        let machine = Machine::open(tables).map_err(io::Error::other)?;
        Ok(Box::new(RocksState { machine, sink }))
    }
}

fn mark(applied: duolog_state::rows::Applied) -> Mark {
    Mark { term: applied.term.0, index: applied.index.0 }
}

impl ReplicatedState for RocksState {
    fn applied(&self) -> Option<Mark> {
        self.machine.applied().map(mark)
    }

    fn membership(&self) -> Option<(Mark, Vec<u8>)> {
        let row = self.machine.membership().ok().flatten()?;
        Some((mark(row.position), row.body))
    }

    fn apply(&mut self, run: &[AppliedEntry]) -> io::Result<Vec<CommandResponse>> {
        let applied = self.machine.apply(run).map_err(io::Error::other)?;
        if let Some(last) = run.last() {
            self.sink.applied(last.index, &applied.events);
        }
        Ok(applied.responses.into_iter().map(CommandResponse).collect())
    }

    fn make_durable(&mut self) -> io::Result<Option<Mark>> {
        self.machine.tables().flush().map_err(io::Error::other)?;
        Ok(self.machine.tables().durable_applied().map_err(io::Error::other)?.map(mark))
    }

    fn checkpoint(&mut self, dir: &Path) -> io::Result<()> {
        self.machine.tables().checkpoint(dir).map(|_| ()).map_err(io::Error::other)
    }
}
