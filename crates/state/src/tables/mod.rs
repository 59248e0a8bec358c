//! The tables that the state lives in: traits that memory and RocksDB implement, and the overlay of one applied run.

mod memory;
mod overlay;

pub use memory::{MemorySnapshot, MemoryTables};
pub use overlay::{Overlay, WriteSet};

use crate::StateError;

/// A table: a column family in RocksDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TableId {
    /// Applied position, membership, current run.
    Meta = 0,
    /// The catalog (system group only).
    Catalog = 1,
    /// What a data group knows of its topics and partitions.
    Topics = 2,
    /// One row per batch: where it lies in the log.
    ConsumeQueue = 3,
    /// Sparse: running maximum timestamp → batch.
    TimeIndex = 4,
    /// Partition, term → first offset.
    LeaderEpochs = 5,
    /// Idempotent producers per partition.
    Producers = 6,
    /// Consumer groups.
    Groups = 7,
    /// Committed offsets.
    Offsets = 8,
    /// What consumer groups have taken by single messages, and not acknowledged yet.
    Pop = 9,
    /// Half and delayed messages, also those that became visible.
    HiddenMessages = 10,
    /// Partition, offset → the hidden batch that became visible there.
    References = 11,
    /// What becomes due about hidden batches, by time.
    Timers = 12,
}

impl TableId {
    /// All tables, in the order of the state hash.
    pub const ALL: [Self; 13] = [
        Self::Meta,
        Self::Catalog,
        Self::Topics,
        Self::ConsumeQueue,
        Self::TimeIndex,
        Self::LeaderEpochs,
        Self::Producers,
        Self::Groups,
        Self::Offsets,
        Self::Pop,
        Self::HiddenMessages,
        Self::References,
        Self::Timers,
    ];

    /// The name on disk. Never change one.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Catalog => "catalog",
            Self::Topics => "topics",
            Self::ConsumeQueue => "consume_queue",
            Self::TimeIndex => "time_index",
            Self::LeaderEpochs => "leader_epochs",
            Self::Producers => "producers",
            Self::Groups => "groups",
            Self::Offsets => "offsets",
            Self::Pop => "pop",
            Self::HiddenMessages => "hidden_messages",
            Self::References => "references",
            Self::Timers => "timers",
        }
    }
}

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// Reads of one state. Keys are ordered as bytes.
///
/// Every implementation MUST pass [`crate::conformance::check`].
pub trait TableReader: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// `Storage`.
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StateError>;

    /// The row with the greatest key below `key_exclusive`.
    ///
    /// # Errors
    /// `Storage`.
    fn before(&self, table: TableId, key_exclusive: &[u8]) -> Result<Option<Row>, StateError>;

    /// Rows of `from .. to_exclusive` in order, at most `limit`. `None` means to the end of the table.
    ///
    /// # Errors
    /// `Storage`.
    fn scan(
        &self,
        table: TableId,
        from: &[u8],
        to_exclusive: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StateError>;

    /// The row with the greatest key that is at or below `key`.
    ///
    /// # Errors
    /// `Storage`.
    fn prev_or_equal(&self, table: TableId, key: &[u8]) -> Result<Option<Row>, StateError> {
        // A zero byte behind a key makes its immediate successor.
        let mut successor = Vec::with_capacity(key.len() + 1);
        successor.extend_from_slice(key);
        successor.push(0);
        self.before(table, &successor)
    }
}

/// Tables that can be written: one [`WriteSet`] per applied run.
pub trait TableWriter: TableReader {
    /// Writes all changes or none. They MUST be visible to every reader when this returns; they need not be durable
    /// (the log is the write-ahead log), but what becomes durable MUST be a prefix of the write sets.
    ///
    /// # Errors
    /// `Storage`; the replica stops.
    fn write(&mut self, changes: &WriteSet) -> Result<(), StateError>;
}

impl<R: TableReader + ?Sized> TableReader for &R {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        (**self).get(table, key)
    }

    fn before(&self, table: TableId, key_exclusive: &[u8]) -> Result<Option<Row>, StateError> {
        (**self).before(table, key_exclusive)
    }

    fn scan(
        &self,
        table: TableId,
        from: &[u8],
        to_exclusive: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StateError> {
        (**self).scan(table, from, to_exclusive, limit)
    }
}
