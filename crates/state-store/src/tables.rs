//! [`RocksTables`]: the writer's handle of a group's tables; [`RocksFiles`]: that of who writes them to the disk meanwhile;
//! [`RocksReader`]: everybody else's.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use duolog_state::rows::Applied;
use duolog_state::tables::Row;
use duolog_state::{StateError, TableId, TableReader, TableWriter, WriteSet, codec, keys};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, DB, FlushOptions, Options, ReadOptions, ReadTier, WriteBatch, WriteOptions};

use crate::snapshot::RocksSnapshot;
use crate::{StoreBudget, StoreError, options};

/// The tables of one broker group. There is one writer; [`RocksTables::reader`] gives handles for reading.
pub struct RocksTables {
    reader: RocksReader,
}

/// Reads the newest state. Cloning is cheap; the database is closed (and what is in memory flushed) when the last
/// handle is dropped.
#[derive(Clone)]
pub struct RocksReader {
    store: Arc<Store>,
}

/// Writes the tables to the disk, beside the writer.
pub struct RocksFiles(RocksTables);

pub(crate) struct Store {
    db: DB,
    path: PathBuf,
    damage: OnceLock<String>,
}

/// Lies beside files that were found damaged: they are never opened again.
const DAMAGED: &str = "DAMAGED";

impl RocksTables {
    /// Opens the tables in a directory of their own, or creates them.
    ///
    /// # Errors
    /// `Corrupt`, also when damage was found earlier; `Failed`, among others when another process has them open.
    pub fn open(path: &Path, budget: &StoreBudget) -> Result<Self, StoreError> {
        if let Ok(reason) = fs::read_to_string(path.join(DAMAGED)) {
            return Err(StoreError::Corrupt { path: path.to_owned(), operation: "open", reason });
        }
        let db = DB::open_cf_descriptors(&options::database(budget), path, options::tables(budget))
            .map_err(|error| StoreError::rocks(path, "open", error))?;
        let store = Store { db, path: path.to_owned(), damage: OnceLock::new() };
        Ok(Self { reader: RocksReader { store: Arc::new(store) } })
    }

    /// A handle for reading.
    #[must_use]
    pub fn reader(&self) -> RocksReader {
        self.reader.clone()
    }

    /// A handle for what takes long.
    #[must_use]
    pub fn files(&self) -> RocksFiles {
        RocksFiles(Self { reader: self.reader.clone() })
    }

    /// The applied position that is on disk: what this directory holds after a kill at this moment. The log must not be
    /// purged above it. `None` when nothing is.
    ///
    /// Read with `ReadTier::Persisted`, which skips the memtables: the row comes from an SST file that a synced
    /// MANIFEST names, and as flushes are atomic every other table is on disk up to the same position. Flushes by the
    /// memory budget are seen too, not only those of [`RocksTables::flush`].
    ///
    /// # Errors
    /// `Corrupt`, `Failed`, `State`.
    pub fn durable_applied(&self) -> Result<Option<Applied>, StoreError> {
        let mut persisted = ReadOptions::default();
        persisted.set_read_tier(ReadTier::Persisted);
        let store = &self.reader.store;
        let value = store
            .db
            .get_pinned_cf_opt(store.handle(TableId::Meta), keys::APPLIED, &persisted)
            .map_err(|error| store.error("read the durable position", error))?;
        value
            .map(|value| codec::decode(&value))
            .transpose()
            .map_err(|source| StoreError::State { path: store.path.clone(), source })
    }

    /// Makes everything that was written durable, all tables at once; returns when it is.
    ///
    /// # Errors
    /// `Failed`: the disk refused; the replica must stop.
    pub fn flush(&self) -> Result<(), StoreError> {
        let store = &self.reader.store;
        let handles = TableId::ALL.map(|table| store.handle(table));
        let mut wait = FlushOptions::default();
        wait.set_wait(true);
        store.db.flush_cfs_opt(&handles, &wait).map_err(|error| store.error("flush", error))
    }

    /// Writes a checkpoint into `directory`, which must not exist, and fsyncs its files, itself and its parent.
    /// The position that the checkpoint holds is returned.
    ///
    /// SST files are hard links where the file system is the same.
    ///
    /// # Errors
    /// `Failed`, `Io`, `State`.
    pub fn checkpoint(&self, directory: &Path) -> Result<Option<Applied>, StoreError> {
        self.flush()?;
        let store = &self.reader.store;
        Checkpoint::new(&store.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(directory))
            .map_err(|error| StoreError::rocks(directory, "checkpoint", error))?;
        sync_tree(directory)?;
        applied_of(directory)
    }

    /// The state of this moment, for `state_hash` and other long reads.
    #[must_use]
    pub fn snapshot(&self) -> RocksSnapshot<'_> {
        self.reader.snapshot()
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.reader.store.path
    }
}

impl RocksFiles {
    /// Makes everything durable that was written before the call, and says up to where.
    ///
    /// # Errors
    /// As of [`RocksTables::flush`] and [`RocksTables::durable_applied`].
    pub fn make_durable(&self) -> Result<Option<Applied>, StoreError> {
        self.0.flush()?;
        self.0.durable_applied()
    }

    /// As [`RocksTables::checkpoint`].
    ///
    /// # Errors
    /// `Failed`, `Io`, `State`.
    pub fn checkpoint(&self, directory: &Path) -> Result<Option<Applied>, StoreError> {
        self.0.checkpoint(directory)
    }
}

impl RocksReader {
    /// Opens the tables of a replica that does not run, and changes nothing.
    ///
    /// # Errors
    /// `Corrupt`, `Failed`.
    pub fn open_read_only(path: &Path, budget: &StoreBudget) -> Result<Self, StoreError> {
        let tables = options::tables(budget);
        let db = DB::open_cf_descriptors_read_only(&options::database(budget), path, tables, false)
            .map_err(|error| StoreError::rocks(path, "open", error))?;
        Ok(Self { store: Arc::new(Store { db, path: path.to_owned(), damage: OnceLock::new() }) })
    }

    /// The state of this moment. A snapshot keeps old rows on disk; drop it soon.
    #[must_use]
    pub fn snapshot(&self) -> RocksSnapshot<'_> {
        RocksSnapshot::new(&self.store)
    }

    /// What was found damaged since the tables were opened.
    #[must_use]
    pub fn damage(&self) -> Option<&str> {
        self.store.damage.get().map(String::as_str)
    }

    /// Reads rows of a table from `from` on, up to about `bytes_max`, so that their checksums are verified: of what is not in the
    /// cache, and without putting it there. Gives the bytes that were read, and where to go on; `None` at the table's end.
    ///
    /// # Errors
    /// `Corrupt`, `Failed`.
    pub fn verify(
        &self,
        table: TableId,
        from: &[u8],
        bytes_max: usize,
    ) -> Result<(usize, Option<Vec<u8>>), StoreError> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let mut rows = self.store.db.raw_iterator_cf_opt(self.store.handle(table), options);
        let mut bytes = 0;
        rows.seek(from);
        while let Some((key, value)) = rows.item() {
            if bytes >= bytes_max {
                return Ok((bytes, Some(key.to_vec())));
            }
            bytes += key.len() + value.len();
            rows.next();
        }
        rows.status().map_err(|error| self.store.error("verify", error))?;
        Ok((bytes, None))
    }
}

impl Store {
    pub(crate) fn db(&self) -> &DB {
        &self.db
    }

    pub(crate) fn handle(&self, table: TableId) -> &ColumnFamily {
        self.db.cf_handle(table.name()).expect("every table is opened as a column family")
    }

    pub(crate) fn error(&self, operation: &'static str, error: rocksdb::Error) -> StoreError {
        let error = StoreError::rocks(&self.path, operation, error);
        if let StoreError::Corrupt { reason, .. } = &error
            && self.damage.set(reason.clone()).is_ok()
        {
            // A directory that cannot be written is opened once more, and found damaged once more.
            let mark = self.path.join(DAMAGED);
            let _ = fs::write(&mark, reason).and_then(|()| File::open(&mark)?.sync_all());
        }
        error
    }

    fn write(&self, changes: &WriteSet) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        for (table, from, to_exclusive) in changes.ranges() {
            batch.delete_range_cf(self.handle(*table), from, to_exclusive);
        }
        for (table, key, value) in changes.rows() {
            match value {
                Some(value) => batch.put_cf(self.handle(table), key, value),
                None => batch.delete_cf(self.handle(table), key),
            }
        }
        let mut without_wal = WriteOptions::default();
        without_wal.disable_wal(true);
        self.db.write_opt(batch, &without_wal).map_err(|error| self.error("write", error))
    }
}

impl TableReader for RocksReader {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let store = &self.store;
        Ok(store.db.get_cf(store.handle(table), key).map_err(|error| store.error("read", error))?)
    }

    fn before(&self, table: TableId, key_exclusive: &[u8]) -> Result<Option<Row>, StateError> {
        let mut rows = self.store.db.raw_iterator_cf(self.store.handle(table));
        before(&self.store, &mut rows, key_exclusive)
    }

    fn scan(
        &self,
        table: TableId,
        from: &[u8],
        to_exclusive: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StateError> {
        let mut rows = self.store.db.raw_iterator_cf_opt(self.store.handle(table), bounded(to_exclusive));
        scan(&self.store, &mut rows, from, limit)
    }
}

impl TableReader for RocksTables {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.reader.get(table, key)
    }

    fn before(&self, table: TableId, key_exclusive: &[u8]) -> Result<Option<Row>, StateError> {
        self.reader.before(table, key_exclusive)
    }

    fn scan(
        &self,
        table: TableId,
        from: &[u8],
        to_exclusive: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StateError> {
        self.reader.scan(table, from, to_exclusive, limit)
    }
}

impl TableWriter for RocksTables {
    fn write(&mut self, changes: &WriteSet) -> Result<(), StateError> {
        Ok(self.reader.store.write(changes)?)
    }
}

/// Read options that end before a key.
pub(crate) fn bounded(to_exclusive: Option<&[u8]>) -> ReadOptions {
    let mut options = ReadOptions::default();
    if let Some(end) = to_exclusive {
        options.set_iterate_upper_bound(end);
    }
    options
}

pub(crate) type Rows<'a> = rocksdb::DBRawIteratorWithThreadMode<'a, DB>;

pub(crate) fn before(store: &Store, rows: &mut Rows<'_>, key_exclusive: &[u8]) -> Result<Option<Row>, StateError> {
    rows.seek_for_prev(key_exclusive);
    if rows.key() == Some(key_exclusive) {
        rows.prev();
    }
    let found = rows.item().map(|(key, value)| (key.to_vec(), value.to_vec()));
    rows.status().map_err(|error| store.error("seek", error))?;
    Ok(found)
}

pub(crate) fn scan(store: &Store, rows: &mut Rows<'_>, from: &[u8], limit: usize) -> Result<Vec<Row>, StateError> {
    let mut found = Vec::new();
    rows.seek(from);
    while found.len() < limit {
        let Some((key, value)) = rows.item() else {
            break;
        };
        found.push((key.to_vec(), value.to_vec()));
        rows.next();
    }
    rows.status().map_err(|error| store.error("scan", error))?;
    Ok(found)
}

/// The position that a checkpoint holds, read from its files.
fn applied_of(directory: &Path) -> Result<Option<Applied>, StoreError> {
    let failed = |error| StoreError::rocks(directory, "open the checkpoint", error);
    let db =
        DB::open_cf_for_read_only(&Options::default(), directory, [TableId::Meta.name()], false).map_err(failed)?;
    let meta = db.cf_handle(TableId::Meta.name()).expect("opened above");
    db.get_cf(meta, keys::APPLIED)
        .map_err(failed)?
        .map(|value| codec::decode(&value))
        .transpose()
        .map_err(|source| StoreError::State { path: directory.to_owned(), source })
}

/// Fsyncs the files of a flat directory, the directory, and its entry in the parent.
fn sync_tree(directory: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::io(directory, "list the checkpoint", error);
    for file in fs::read_dir(directory).map_err(failed)? {
        sync(&file.map_err(failed)?.path())?;
    }
    sync(directory)?;
    directory.parent().map_or(Ok(()), sync)
}

fn sync(path: &Path) -> Result<(), StoreError> {
    // A relative path of one component has the empty path as its parent.
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| StoreError::io(path, "fsync", error))
}
