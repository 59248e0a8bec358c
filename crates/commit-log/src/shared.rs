//! What the handle, the writer and the flusher share.
//!
//! ```text
//!  append ─▶ front (queue, tail cache) ─▶ writer: one pwritev ─▶ table, flush state ─▶ written
//!                                                                     │
//!                                          flusher: fdatasync ◀───────┘ ─▶ flushed, callbacks
//! ```
//!
//! Locks are taken in the order front, table, flush; none is held across IO or a call to the observer (a sidecar that
//! `term_of` reads under `front` is the exception: truncations are rare).

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use duolog_types::LogIndex;
use parking_lot::{Condvar, Mutex, RwLock};

use crate::archive::Archives;
use crate::disk::{Disk, DiskFile};
use crate::entry::{LogEntry, LogId};
use crate::error::LogError;
use crate::format::Extent;
use crate::index_file::SegmentSummary;
use crate::options::{LogObserver, LogOptions};
use crate::segment::{Rows, Segment};
use crate::table::SegmentTable;
use crate::tail::Tail;

/// Called once, when what it waits for is flushed or never will be.
pub type FlushCallback = Box<dyn FnOnce(Result<(), LogError>) + Send>;

pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) options: LogOptions,
    pub(crate) observer: Arc<dyn LogObserver>,
    pub(crate) front: Mutex<Front>,
    /// The writer waits here for commands or the end.
    pub(crate) work: Condvar,
    /// Appends wait here for the queue to shrink.
    pub(crate) room: Condvar,
    pub(crate) table: RwLock<SegmentTable>,
    pub(crate) archives: RwLock<Archives>,
    pub(crate) flush: Mutex<FlushState>,
    /// The flusher waits here for something due.
    pub(crate) due: Condvar,
    /// The writer waits here while too much is unflushed.
    pub(crate) flush_done: Condvar,
    /// Called with every change that a thread would wait for, where there are no threads.
    pub(crate) on_change: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// The log as its callers see it: ahead of the file.
pub(crate) struct Front {
    pub(crate) queue: VecDeque<Queued>,
    pub(crate) queue_bytes: u64,
    pub(crate) tail: Tail,
    /// Where the truncations begin that are queued and not in the table yet: from there on the table still shows entries
    /// that are gone.
    pub(crate) truncations: VecDeque<LogIndex>,
    /// The last entry, or the purge mark where nothing is above it.
    pub(crate) last: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    pub(crate) vote: Option<Bytes>,
    pub(crate) space: Space,
    pub(crate) phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    Enough,
    /// Allocation ahead failed: what is queued still fits, no more entries are taken.
    Full,
    /// As full, and somebody asked for more since: the writer tries again.
    Wanted,
}

#[derive(Debug, Clone)]
pub(crate) enum Phase {
    Open,
    /// `close` was called: nothing more is taken.
    Closing,
    /// The threads end as soon as they see it.
    Stopped(LogError),
}

pub(crate) struct Queued {
    pub(crate) command: Command,
    /// Bytes on disk.
    pub(crate) bytes: u64,
    pub(crate) urgency: Urgency,
    pub(crate) on_flushed: Option<FlushCallback>,
}

/// When a command wants to be flushed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Urgency {
    Now,
    Until(Instant),
}

pub(crate) enum Command {
    /// With the tail cache's ticket of the last entry.
    Append {
        entries: Vec<LogEntry>,
        ticket: u64,
    },
    Vote(Bytes),
    /// Removes entries from here on; `kept` is the last one left.
    Truncate {
        from: LogIndex,
        kept: Option<LogId>,
    },
    Purge(LogId),
    /// Nothing to write: flush what came before.
    Barrier,
    Close,
}

/// What is written and what of it is flushed.
pub(crate) struct FlushState {
    pub(crate) active: Arc<dyn DiskFile>,
    pub(crate) active_path: PathBuf,
    /// Sealed segments that are not flushed yet, oldest first.
    pub(crate) sealed: Vec<SealedSegment>,
    /// A file was created whose name is not durable yet.
    pub(crate) dir_changed: bool,
    pub(crate) written: Extent,
    pub(crate) written_last: Option<LogId>,
    pub(crate) flushed: Extent,
    pub(crate) flushed_last: Option<LogId>,
    pub(crate) unflushed_bytes: u64,
    pub(crate) urgency: Option<Urgency>,
    pub(crate) waiting: Vec<FlushCallback>,
    pub(crate) in_flight: InFlight,
    pub(crate) stopped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InFlight {
    Idle,
    /// A flush is under way. `cut` is the lowest last entry that a truncation left meanwhile.
    Flushing {
        cut: Option<Option<LogId>>,
        bytes: u64,
    },
}

/// A sealed segment with what its sidecar will hold.
pub(crate) struct SealedSegment {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: Arc<dyn DiskFile>,
    /// `None`: no sidecar, it is scanned at each start.
    pub(crate) index: Option<(SegmentSummary, Rows)>,
}

impl Urgency {
    pub(crate) fn earliest(self, other: Option<Self>) -> Self {
        match (self, other) {
            (Self::Now, _) | (_, Some(Self::Now)) => Self::Now,
            (Self::Until(a), Some(Self::Until(b))) => Self::Until(a.min(b)),
            (Self::Until(a), None) => Self::Until(a),
        }
    }
}

/// The lesser of two ends of the log; `None` is the empty log.
pub(crate) fn lesser(a: Option<LogId>, b: Option<LogId>) -> Option<LogId> {
    if a.map(|(_, index)| index) <= b.map(|(_, index)| index) { a } else { b }
}

impl Front {
    pub(crate) fn check_open(&self) -> Result<(), LogError> {
        match &self.phase {
            Phase::Open => Ok(()),
            Phase::Closing => Err(LogError::Closed),
            Phase::Stopped(error) => Err(error.clone()),
        }
    }

    /// The index that the next entry must have.
    pub(crate) fn next_index(&self) -> LogIndex {
        LogIndex(self.last.map_or(0, |(_, index)| index.0 + 1))
    }
}

impl FlushState {
    pub(crate) fn is_clean(&self) -> bool {
        self.unflushed_bytes == 0
            && self.waiting.is_empty()
            && self.urgency.is_none()
            && self.sealed.is_empty()
            && self.in_flight == InFlight::Idle
    }
}

impl Shared {
    pub(crate) fn wake(&self) {
        if let Some(wake) = self.on_change.get() {
            wake();
        }
    }

    /// Ends the log: both threads stop, every waiter hears of `error`. Only the first call has an effect.
    pub(crate) fn stop(&self, error: &LogError) -> bool {
        let queued = {
            let mut front = self.front.lock();
            if matches!(front.phase, Phase::Stopped(_)) {
                return false;
            }
            front.phase = Phase::Stopped(error.clone());
            std::mem::take(&mut front.queue)
        };
        let waiting = {
            let mut flush = self.flush.lock();
            flush.stopped = true;
            std::mem::take(&mut flush.waiting)
        };
        self.work.notify_all();
        self.room.notify_all();
        self.due.notify_all();
        self.flush_done.notify_all();
        self.wake();
        answer(waiting, &Err(error.clone()));
        answer(queued.into_iter().filter_map(|queued| queued.on_flushed), &Err(error.clone()));
        true
    }

    /// A write or flush failed: the log is dead, and the observer hears it.
    pub(crate) fn fail(&self, error: &LogError) {
        if self.stop(error) {
            tracing::error!(%error, dir = %self.dir.display(), "commit log failed");
            self.observer.failed(error);
        }
    }

    /// Why the log ended; `Closed` where it has not.
    pub(crate) fn failure(&self) -> LogError {
        match &self.front.lock().phase {
            Phase::Stopped(error) => error.clone(),
            Phase::Open | Phase::Closing => LogError::Closed,
        }
    }
}

pub(crate) fn answer(callbacks: impl IntoIterator<Item = FlushCallback>, result: &Result<(), LogError>) {
    for callback in callbacks {
        callback(result.clone());
    }
}
