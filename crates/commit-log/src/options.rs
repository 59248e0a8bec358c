//! Settings of a log, what it reports, and who listens.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use duolog_types::{LogIndex, Term};

use crate::entry::LogId;
use crate::error::LogError;
use crate::steps::LogSteps;

/// Settings of one commit log.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// A segment that would grow beyond this is sealed, and the next one begun. Default 1 GiB.
    pub segment_size_bytes: u64,
    /// This much unflushed is flushed at once. Default 8 MiB.
    pub flush_bytes: u64,
    /// Upper limit of any deadline, in milliseconds: a quarter of the election time-out. Default 60.
    pub flush_delay_ms_max: u32,
    /// So many appends that wait for their flush are flushed at once. Default 32.
    pub unanswered_appends_max: usize,
    /// The writer waits for a flush while more than this is written and not flushed. It bounds what a recovery
    /// rewrites. Default 256 MiB.
    pub unflushed_bytes_max: u64,
    /// Newest entries kept in memory, in bytes of bodies and headers. What is not yet in the file is kept beyond it.
    /// Default 16 MiB.
    pub tail_cache_bytes: usize,
    /// After so many idle milliseconds with everything flushed, a record says how far. Default 10.
    pub idle_mark_after_ms: u64,
    /// An append waits while more than this waits for the writer. Default 32 MiB.
    pub queue_bytes_max: u64,
    /// Space is allocated ahead in steps of this. Default 64 MiB.
    pub allocation_step_bytes: u64,
    /// Who runs the writer and the flusher. Default: threads.
    pub driver: LogDriver,
}

/// Who runs the writer and the flusher of a log.
#[derive(Clone, Default)]
pub enum LogDriver {
    /// A thread each.
    #[default]
    Threads,
    /// Whoever is given the steps when the log is opened: a simulation, in which no thread may run by itself. An append never waits
    /// for room then.
    Steps(Arc<dyn Fn(LogSteps) + Send + Sync>),
}

impl LogDriver {
    pub(crate) fn is_stepped(&self) -> bool {
        matches!(self, Self::Steps(_))
    }
}

impl fmt::Debug for LogDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_stepped() { "Steps" } else { "Threads" })
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_size_bytes: 1 << 30,
            flush_bytes: 8 << 20,
            flush_delay_ms_max: 60,
            unanswered_appends_max: 32,
            unflushed_bytes_max: 256 << 20,
            tail_cache_bytes: 16 << 20,
            idle_mark_after_ms: 10,
            queue_bytes_max: 32 << 20,
            allocation_step_bytes: 64 << 20,
            driver: LogDriver::Threads,
        }
    }
}

/// Hears of the log's progress, on the log's threads and in order. Must not block, and must not wait for the log.
pub trait LogObserver: Send + Sync + 'static {
    /// Entries up to `index` are in the page cache: a crash of the process keeps them.
    fn written(&self, term: Term, index: LogIndex);

    /// Entries up to `index` are on disk. Where a truncation overtakes a flush, this is not called for what it cut.
    fn flushed(&self, term: Term, index: LogIndex);

    /// A write or a flush failed: the log is dead. Called once.
    fn failed(&self, error: &LogError);
}

/// What opening a log found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// A tail that was never known to be flushed and could not be read: it was cut. `None` also after a crash that left
    /// no trace of what it lost.
    pub torn: Option<TornTail>,
    /// The vote saved last.
    pub vote: Option<Bytes>,
    /// The purge mark, inclusive.
    pub purged: Option<LogId>,
    /// The last entry, or the purge mark where nothing is above it. `None` for an empty log.
    pub last: Option<LogId>,
    /// Bytes that were not known to be flushed, and were written again and flushed.
    pub rewritten_bytes: u64,
}

/// The tail that recovery cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment in which the valid part ends.
    pub segment: PathBuf,
    /// Where it ends, in bytes from the start of that segment.
    pub position_bytes: u64,
    /// Bytes cut, up to the last one that is not zero, in later segments too.
    pub bytes_cut: u64,
    /// Why the first of them is not a record.
    pub reason: &'static str,
}

/// What a file of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentRole {
    /// Being written.
    Active,
    /// Complete; never written again.
    Sealed,
    /// Committed entries received with a snapshot.
    Archive,
}

/// A file of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its path.
    pub path: PathBuf,
    /// What it is.
    pub role: SegmentRole,
    /// First log index that is read from it; where it holds none, the next one.
    pub first: LogIndex,
    /// Last log index that is read from it, inclusive. `None` means that it holds none.
    pub last_inclusive: Option<LogIndex>,
    /// Bytes up to the end of its last record; for the active segment, what is written so far.
    pub size_bytes: u64,
}
