//! The commit log's handle: appending, the vote, truncation and the purge mark. Reading is in `read.rs`.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use duolog_types::{FlushWish, LogIndex, Term};
use parking_lot::{Condvar, Mutex, RwLock};

use crate::disk::Disk;
use crate::entry::{BODY_BYTES_MAX, LogEntry, LogId, VOTE_BYTES_MAX};
use crate::error::LogError;
use crate::format::record_bytes;
use crate::options::{LogDriver, LogObserver, LogOptions, Recovered};
use crate::recovery;
use crate::shared::{
    Command, FlushCallback, FlushState, Front, InFlight, Phase, Queued, Shared, Space, Urgency, answer,
};
use crate::steps::LogSteps;
use crate::tail::Tail;
use crate::{flusher, writer};

/// The commit log of one broker group. Cheap to clone; when the last handle is dropped the threads stop without a
/// flush, as in a crash ([`CommitLog::close`] is the other way).
#[derive(Clone)]
pub struct CommitLog {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Where there are no threads.
    steps: Option<LogSteps>,
}

impl CommitLog {
    /// Opens the log in `dir`, or begins one there. Everything that was not known to be flushed is rewritten and
    /// flushed before this returns; a torn tail is cut.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] when something that was flushed is damaged or missing: nothing is changed then.
    /// [`LogError::UnsupportedVersion`], [`LogError::NoSpace`], [`LogError::Io`].
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: LogOptions,
        observer: Arc<dyn LogObserver>,
    ) -> Result<(Self, Recovered), LogError> {
        let opened = recovery::open(&disk, dir)?;
        let recovered = opened.recovered;
        let front = Front {
            queue: std::collections::VecDeque::new(),
            queue_bytes: 0,
            tail: Tail::new(options.tail_cache_bytes),
            truncations: std::collections::VecDeque::new(),
            last: recovered.last,
            purged: recovered.purged,
            vote: recovered.vote.clone(),
            space: Space::Enough,
            phase: Phase::Open,
        };
        let flush = FlushState {
            active: opened.active.file.clone(),
            active_path: opened.active.segment.path.clone(),
            sealed: Vec::new(),
            dir_changed: false,
            written: opened.flushed,
            written_last: recovered.last,
            flushed: opened.flushed,
            flushed_last: recovered.last,
            unflushed_bytes: 0,
            urgency: None,
            waiting: Vec::new(),
            in_flight: InFlight::Idle,
            stopped: false,
        };
        let shared = Arc::new(Shared {
            disk,
            dir: dir.to_owned(),
            options,
            observer,
            front: Mutex::new(front),
            work: Condvar::new(),
            room: Condvar::new(),
            table: RwLock::new(opened.table),
            archives: RwLock::new(opened.archives),
            flush: Mutex::new(flush),
            due: Condvar::new(),
            flush_done: Condvar::new(),
            on_change: OnceLock::new(),
        });
        let writer = writer::Writer::new(
            shared.clone(),
            opened.active,
            recovered.vote.clone(),
            recovered.purged,
            recovered.last,
            opened.flushed.position,
        );
        let mut handle = Handle { shared: shared.clone(), threads: Mutex::new(Vec::new()), steps: None };
        if let LogDriver::Steps(start) = &shared.options.driver {
            let steps = LogSteps::new(shared.clone(), writer);
            start(steps.clone());
            handle.steps = Some(steps);
            return Ok((Self { handle: Arc::new(handle) }, recovered));
        }
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let shared = handle.shared.clone();
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || run_or_fail(&shared, run))
                .map_err(|e| LogError::io("start a thread for", dir, e))
        };
        let flusher = spawn("log-flusher", Box::new(move || flusher::run(&shared)))?;
        handle.threads.lock().push(flusher);
        let writer = spawn("log-writer", Box::new(move || writer.run()))?;
        handle.threads.lock().push(writer);
        Ok((Self { handle: Arc::new(handle) }, recovered))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Appends entries and returns at once: they can be read, and are not yet written. `on_flushed` is called on the
    /// log's thread when all of them are on disk. Blocks only while [`LogOptions::queue_bytes_max`] are queued.
    ///
    /// # Errors
    /// Nothing has happened, and `on_flushed` was dropped uncalled, after [`LogError::OutOfOrder`],
    /// [`LogError::TooLarge`] and [`LogError::NoSpace`], which ends by itself once there is space. A dead log answers
    /// what killed it.
    pub fn append(&self, entries: Vec<LogEntry>, on_flushed: Option<FlushCallback>) -> Result<(), LogError> {
        if let Some(entry) = entries.iter().find(|entry| entry.body.len() > BODY_BYTES_MAX) {
            return Err(LogError::TooLarge { what: "body", bytes: entry.body.len(), bytes_max: BODY_BYTES_MAX });
        }
        let shared = self.shared();
        let bytes: u64 = entries.iter().map(|entry| record_bytes(entry.body.len())).sum();
        let urgency = match entries.iter().map(|entry| entry.flush).reduce(FlushWish::strictest) {
            Some(FlushWish::Now) => Urgency::Now,
            Some(FlushWish::WithinMs(ms)) => self.within(ms),
            None => self.within(u32::MAX),
        };
        let mut front = shared.front.lock();
        loop {
            front.check_open()?;
            if front.queue.is_empty() || front.queue_bytes + bytes <= shared.options.queue_bytes_max {
                break;
            }
            if shared.options.driver.is_stepped() {
                break;
            }
            shared.room.wait(&mut front);
        }
        if front.space != Space::Enough && !entries.is_empty() {
            front.space = Space::Wanted;
            shared.work.notify_all();
            return Err(LogError::NoSpace { path: shared.dir.clone() });
        }
        let mut expected = front.next_index();
        for entry in &entries {
            if entry.index != expected {
                return Err(LogError::OutOfOrder { expected, found: entry.index });
            }
            expected = LogIndex(expected.0 + 1);
        }
        if let Some(last) = entries.last() {
            front.last = Some((last.term, last.index));
        }
        for entry in &entries {
            front.tail.push(entry.clone());
        }
        let ticket = front.tail.last_ticket();
        front.queue_bytes += bytes;
        front.queue.push_back(Queued { command: Command::Append { entries, ticket }, bytes, urgency, on_flushed });
        shared.work.notify_all();
        drop(front);
        shared.wake();
        Ok(())
    }

    /// The nearest deadline that a wish allows.
    fn within(&self, ms: u32) -> Urgency {
        let ms = ms.min(self.shared().options.flush_delay_ms_max);
        Urgency::Until(Instant::now() + Duration::from_millis(u64::from(ms)))
    }

    /// Saves the vote and flushes at once; `on_flushed` says when it is on disk. On a dead log, or with a vote over
    /// [`VOTE_BYTES_MAX`], `on_flushed` gets the error.
    pub fn save_vote(&self, vote: Bytes, on_flushed: FlushCallback) {
        if vote.len() > VOTE_BYTES_MAX {
            return on_flushed(Err(LogError::TooLarge { what: "vote", bytes: vote.len(), bytes_max: VOTE_BYTES_MAX }));
        }
        let bytes = record_bytes(vote.len());
        self.command(bytes, Urgency::Now, Some(on_flushed), |front| {
            front.vote = Some(vote.clone());
            Command::Vote(vote)
        });
    }

    /// The vote saved last; it may not be on disk yet.
    #[must_use]
    pub fn vote(&self) -> Option<Bytes> {
        self.shared().front.lock().vote.clone()
    }

    /// Removes every entry after `index`; `None` removes all above the purge mark. A record of the log, in one queue
    /// with the appends, durable with the next flush. An index at or after the last entry changes nothing.
    ///
    /// # Errors
    /// [`LogError::Purged`] for an index below the purge mark. A dead log answers what killed it.
    pub fn truncate_after(&self, index: Option<LogIndex>) -> Result<(), LogError> {
        let shared = self.shared();
        let urgency = self.within(u32::MAX);
        let mut front = shared.front.lock();
        front.check_open()?;
        let keep = match (index, front.purged) {
            (Some(index), Some((_, purged))) if index < purged => return Err(LogError::Purged { index, purged }),
            (Some(index), _) => Some(index),
            (None, purged) => purged.map(|(_, purged)| purged),
        };
        let from = LogIndex(keep.map_or(0, |index| index.0 + 1));
        if from >= front.next_index() {
            return Ok(());
        }
        let kept = match keep {
            Some(index) => self.log_id_of(&front, index)?,
            None => None,
        };
        front.tail.truncate_from(from);
        front.truncations.push_back(from);
        front.last = kept;
        let bytes = record_bytes(0);
        front.queue_bytes += bytes;
        front.queue.push_back(Queued { command: Command::Truncate { from, kept }, bytes, urgency, on_flushed: None });
        shared.work.notify_all();
        drop(front);
        shared.wake();
        Ok(())
    }

    /// Records the purge mark: Raft may no longer read at or below `index`. The entries stay, for
    /// [`CommitLog::read_any`], until [`CommitLog::delete_segments_below`]. Beyond the last entry the log is empty for
    /// Raft, and goes on at `index` + 1; an uncommitted tail must have been truncated before. A lower mark than the
    /// present one changes nothing.
    pub fn purge(&self, index: LogIndex, term: Term) {
        if self.purged().is_some_and(|(_, purged)| index <= purged) {
            return;
        }
        self.command(record_bytes(0), self.within(u32::MAX), None, |front| {
            front.purged = Some((term, index));
            if front.last.is_none_or(|(_, last)| last < index) {
                front.last = Some((term, index));
            }
            Command::Purge((term, index))
        });
    }

    /// Calls `on_flushed` once everything given to the log so far is on disk; asks for that at once.
    pub fn flush(&self, on_flushed: FlushCallback) {
        self.command(0, Urgency::Now, Some(on_flushed), |_| Command::Barrier);
    }

    /// As [`CommitLog::flush`], and waits.
    ///
    /// # Errors
    /// What killed the log.
    pub fn flush_and_wait(&self) -> Result<(), LogError> {
        self.wait_for(|callback| self.flush(callback))
    }

    /// Queues a command; a dead log answers the callback instead.
    fn command(
        &self,
        bytes: u64,
        urgency: Urgency,
        on_flushed: Option<FlushCallback>,
        build: impl FnOnce(&mut Front) -> Command,
    ) {
        let shared = self.shared();
        let mut front = shared.front.lock();
        if let Err(error) = front.check_open() {
            drop(front);
            return answer(on_flushed, &Err(error));
        }
        let command = build(&mut front);
        front.queue_bytes += bytes;
        front.queue.push_back(Queued { command, bytes, urgency, on_flushed });
        shared.work.notify_all();
        drop(front);
        shared.wake();
    }

    /// Last entry in the page cache: a crash of the process keeps it. The purge mark where nothing is above it.
    #[must_use]
    pub fn written(&self) -> Option<LogId> {
        self.shared().flush.lock().written_last
    }

    /// Last entry on disk. The purge mark where nothing is above it.
    #[must_use]
    pub fn flushed(&self) -> Option<LogId> {
        self.shared().flush.lock().flushed_last
    }

    /// Whether the entry that the log has at `index` now is on disk. A truncation counts as soon as it is given to the log: what comes
    /// behind it was not flushed together with what it replaces.
    #[must_use]
    pub fn is_flushed(&self, index: LogIndex) -> bool {
        let front = self.shared().front.lock();
        let is_replaced = front.truncations.iter().any(|from| index >= *from);
        !is_replaced && self.shared().flush.lock().flushed_last.is_some_and(|(_, flushed)| index <= flushed)
    }

    /// What killed the log; `None` while it lives, and when it was closed. Whoever is answered an error of a failed write or flush finds it
    /// here.
    #[must_use]
    pub fn failure(&self) -> Option<LogError> {
        match &self.shared().front.lock().phase {
            Phase::Open | Phase::Closing | Phase::Stopped(LogError::Closed) => None,
            Phase::Stopped(error) => Some(error.clone()),
        }
    }

    /// Flushes, gives back the space that was allocated ahead, and ends the threads. Other handles of this log are
    /// answered [`LogError::Closed`] from then on. Must not be called from a callback or the observer.
    ///
    /// # Errors
    /// What killed the log.
    pub fn close(self) -> Result<(), LogError> {
        let shared = self.shared();
        let closed = {
            let queue = |command| {
                self.wait_for(|on_flushed| {
                    let mut front = shared.front.lock();
                    if let Phase::Stopped(error) = &front.phase {
                        let error = error.clone();
                        drop(front);
                        return on_flushed(Err(error));
                    }
                    front.phase = Phase::Closing;
                    let on_flushed = Some(on_flushed);
                    front.queue.push_back(Queued { command, bytes: 0, urgency: Urgency::Now, on_flushed });
                    shared.work.notify_all();
                    drop(front);
                    shared.wake();
                })
            };
            queue(Command::Barrier).and_then(|()| queue(Command::Close))
        };
        shared.stop(&LogError::Closed);
        self.handle.join();
        closed
    }

    /// Runs `start` with a callback and waits for it.
    fn wait_for(&self, start: impl FnOnce(FlushCallback)) -> Result<(), LogError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        start(Box::new(move |result| {
            // The receiver waits below.
            let _ = sender.send(result);
        }));
        match &self.handle.steps {
            Some(steps) => {
                steps.run_dry();
                receiver.try_recv().unwrap_or(Err(LogError::Closed))
            }
            None => receiver.recv().unwrap_or(Err(LogError::Closed)),
        }
    }
}

/// A thread that panics takes the log with it: nothing would be written or flushed any more, and nobody would say so.
fn run_or_fail(shared: &Shared, run: Box<dyn FnOnce() + Send>) {
    if panic::catch_unwind(AssertUnwindSafe(run)).is_err() {
        shared.fail(&LogError::io("go on with", &shared.dir, io::Error::other("a thread of the log panicked")));
    }
}

impl Handle {
    fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        // The last handle may be dropped by a callback, on one of these threads.
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != thread::current().id()) {
            if thread.join().is_err() {
                tracing::error!(dir = %self.shared.dir.display(), "a thread of the commit log panicked");
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop(&LogError::Closed);
        self.join();
    }
}
