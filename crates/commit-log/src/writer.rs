//! The writer thread: takes commands in order, and writes many with one pwritev.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use duolog_types::LogIndex;

use crate::disk::DiskFile;
use crate::entry::{LogEntry, LogId};
use crate::error::LogError;
use crate::format::{Extent, Position, RecordHeader, RecordKind, SegmentHeader, record_bytes};
use crate::index_file::Row;
use crate::segment::{Segment, segment_path};
use crate::shared::{
    Command, FlushCallback, FlushState, Front, InFlight, Phase, Queued, SealedSegment, Shared, Space, Urgency, answer,
    lesser,
};
use crate::staged::{RecordChain, TableChange, slices};
use crate::steps::Step;

/// One write takes at most this much, or one command.
const WRITE_BYTES_MAX: u64 = 8 << 20;
/// Space kept for votes, marks and the like when entries are refused.
const SPACE_RESERVE_BYTES: u64 = 64 << 10;

/// The end of the active segment.
pub(crate) struct ActiveSegment {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) segment: Arc<Segment>,
    pub(crate) end_bytes: u64,
    pub(crate) allocated_bytes: u64,
    /// Bytes of its header: with no more than that it is never sealed.
    pub(crate) header_bytes: u64,
    pub(crate) last_crc: u32,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    active: ActiveSegment,
    /// As of what is written: the next segment begins with them.
    vote: Option<Bytes>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// Whether the active segment holds entries, and the index after them: where indexes leap a new one begins.
    run_end: Option<LogIndex>,
    /// Greatest flushed position that a written record tells.
    told: Position,
    busy_at: Instant,
    staged: Staged,
}

/// What the next pwritev will write, and what follows from it.
#[derive(Default)]
struct Staged {
    records: Vec<crate::staged::EncodedRecord>,
    bytes: u64,
    /// Of them, those that a flush is wanted for: not of marks.
    flush_bytes: u64,
    changes: Vec<TableChange>,
    callbacks: Vec<FlushCallback>,
    urgency: Option<Urgency>,
    ticket: u64,
    /// Last entry of this write that no later command of it removes.
    last_entry: Option<LogId>,
    cut: Option<Option<LogId>>,
}

enum Next {
    Write(Vec<Queued>),
    Mark,
    Allocate,
    Stop,
}

enum Then {
    GoOn,
    Stop,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        active: ActiveSegment,
        vote: Option<Bytes>,
        purged: Option<LogId>,
        last: Option<LogId>,
        told: Position,
    ) -> Self {
        let run_end = shared.table.read().slots().last().and_then(|slot| slot.last()).map(|last| LogIndex(last.0 + 1));
        let staged = Staged::default();
        Self { shared, active, vote, purged, last, run_end, told, busy_at: Instant::now(), staged }
    }

    pub(crate) fn run(mut self) {
        loop {
            let next = self.next();
            if matches!(self.carry_out(next), Then::Stop) {
                return;
            }
        }
    }

    /// Does one thing, if there is one, without waiting.
    pub(crate) fn step(&mut self) -> Step {
        if self.is_held_up() {
            return Step::Wait(None);
        }
        let next = self.look(&mut self.shared.front.lock());
        match next.map(|next| self.carry_out(next)) {
            Ok(Then::GoOn) => Step::Done,
            Ok(Then::Stop) => Step::Ended,
            Err(due) => Step::Wait(due),
        }
    }

    fn carry_out(&mut self, next: Next) -> Then {
        let outcome = match next {
            Next::Write(commands) => self.write(commands),
            Next::Mark => self.mark().map(|()| Then::GoOn),
            Next::Allocate => self.allocate_ahead(0).map(|()| Then::GoOn),
            Next::Stop => Ok(Then::Stop),
        };
        outcome.unwrap_or_else(|error| {
            self.shared.fail(&error);
            answer(std::mem::take(&mut self.staged.callbacks), &Err(self.shared.failure()));
            Then::Stop
        })
    }

    fn next(&self) -> Next {
        let shared = &*self.shared;
        let mut front = shared.front.lock();
        loop {
            match self.look(&mut front) {
                Ok(next) => return next,
                Err(Some(due)) => drop(shared.work.wait_until(&mut front, due)),
                Err(None) => shared.work.wait(&mut front),
            }
        }
    }

    /// What is to be done now; else when to look again, if not only after a change.
    fn look(&self, front: &mut Front) -> Result<Next, Option<Instant>> {
        if matches!(front.phase, Phase::Stopped(_)) {
            return Ok(Next::Stop);
        }
        if !front.queue.is_empty() {
            let mut commands = Vec::new();
            let mut bytes = 0;
            while let Some(queued) = front.queue.front() {
                if !commands.is_empty() && bytes + queued.bytes > WRITE_BYTES_MAX {
                    break;
                }
                bytes += queued.bytes;
                commands.extend(front.queue.pop_front());
            }
            front.queue_bytes -= bytes;
            self.shared.room.notify_all();
            return Ok(Next::Write(commands));
        }
        if front.space == Space::Wanted {
            front.space = Space::Full;
            return Ok(Next::Allocate);
        }
        let idle = Duration::from_millis(self.shared.options.idle_mark_after_ms);
        let (is_clean, flushed) = {
            let flush = self.shared.flush.lock();
            (flush.is_clean(), flush.flushed.position)
        };
        let due = self.busy_at + idle;
        if !is_clean {
            // Nobody says when the flush is done: that would be a waking for each.
            Err(Some(Instant::now() + idle))
        } else if flushed <= self.told {
            Err(None)
        } else if due <= Instant::now() {
            Ok(Next::Mark)
        } else {
            Err(Some(due))
        }
    }

    fn mark(&mut self) -> Result<(), LogError> {
        let flushed = self.flushed();
        self.stage(RecordHeader::plain(RecordKind::Mark, flushed), Bytes::new());
        self.write_staged()
    }

    fn flushed(&self) -> Extent {
        self.shared.flush.lock().flushed
    }

    fn write(&mut self, commands: Vec<Queued>) -> Result<Then, LogError> {
        self.busy_at = Instant::now();
        let flushed = self.wait_for_flusher();
        let mut commands = commands.into_iter();
        while let Some(queued) = commands.next() {
            if matches!(queued.command, Command::Close) {
                let closed = self.write_staged().and_then(|()| self.close());
                answer(queued.on_flushed, &closed);
                return closed.map(|()| Then::Stop);
            }
            let staged = self.stage_command(queued.command, flushed);
            // Only now: a roll in the middle of the command writes, and what is written may be flushed and answered.
            self.staged.callbacks.extend(queued.on_flushed);
            self.staged.urgency = Some(queued.urgency.earliest(self.staged.urgency));
            if let Err(error) = staged {
                self.staged.callbacks.extend(commands.filter_map(|queued| queued.on_flushed));
                return Err(error);
            }
        }
        self.write_staged()?;
        Ok(Then::GoOn)
    }

    /// Bounds what is written and not flushed. Gives the flushed position.
    fn wait_for_flusher(&self) -> Extent {
        let mut flush = self.shared.flush.lock();
        while self.holds_up(&flush) {
            self.shared.flush_done.wait(&mut flush);
        }
        flush.flushed
    }

    /// Whether too much is written and not flushed.
    fn holds_up(&self, flush: &FlushState) -> bool {
        let in_flight = match flush.in_flight {
            InFlight::Flushing { bytes, .. } => bytes,
            InFlight::Idle => 0,
        };
        !flush.stopped && flush.unflushed_bytes + in_flight > self.shared.options.unflushed_bytes_max
    }

    fn is_held_up(&self) -> bool {
        self.holds_up(&self.shared.flush.lock())
    }

    fn stage_command(&mut self, command: Command, flushed: Extent) -> Result<(), LogError> {
        let plain = |kind| RecordHeader::plain(kind, flushed);
        match command {
            Command::Append { entries, ticket } => {
                for entry in entries {
                    self.stage_entry(entry, flushed)?;
                }
                self.staged.ticket = ticket;
            }
            Command::Vote(vote) => {
                self.make_room(vote.len())?;
                self.vote = Some(vote.clone());
                self.stage(plain(RecordKind::Vote), vote);
            }
            Command::Truncate { from, kept } => {
                self.make_room(0)?;
                let header = match kept {
                    Some((term, index)) if index.0 + 1 == from.0 => {
                        RecordHeader { index, term, ..plain(RecordKind::TruncateAfter) }
                    }
                    _ => RecordHeader { index: from, ..plain(RecordKind::TruncateAll) },
                };
                self.stage(header, Bytes::new());
                self.staged.changes.push(TableChange::Cut(from));
                self.staged.last_entry = self.staged.last_entry.filter(|(_, index)| *index < from);
                self.staged.cut = Some(self.staged.cut.map_or(kept, |cut| lesser(cut, kept)));
                self.last = kept;
                // An emptied run is begun anew at any index.
                self.run_end = self.run_end.map(|end| end.min(from));
            }
            Command::Purge((term, index)) => {
                self.make_room(0)?;
                self.purged = Some((term, index));
                if self.last.is_none_or(|(_, last)| last < index) {
                    self.last = self.purged;
                    self.staged.last_entry = None;
                }
                self.stage(RecordHeader { index, term, ..plain(RecordKind::Purge) }, Bytes::new());
            }
            Command::Barrier | Command::Close => {}
        }
        Ok(())
    }

    fn stage_entry(&mut self, entry: LogEntry, flushed: Extent) -> Result<(), LogError> {
        if self.run_end.is_some_and(|end| end != entry.index) {
            self.roll()?;
        }
        self.make_room(entry.body.len())?;
        let log_id = (entry.term, entry.index);
        let header = RecordHeader {
            entry_kind: entry.kind,
            flush: entry.flush,
            index: entry.index,
            term: entry.term,
            ..RecordHeader::plain(RecordKind::Entry, flushed)
        };
        let body_bytes = u32::try_from(entry.body.len()).expect("checked against BODY_BYTES_MAX");
        let position_bytes = self.stage(header, entry.body);
        self.staged.changes.push(TableChange::Push(entry.index, Row { position_bytes, term: entry.term, body_bytes }));
        self.staged.last_entry = Some(log_id);
        self.last = Some(log_id);
        self.run_end = Some(LogIndex(entry.index.0 + 1));
        Ok(())
    }

    /// Begins a new segment where this record would not fit into the active one. On a full disk it does not: the space
    /// ahead of the active segment is there for what is queued.
    fn make_room(&mut self, body_bytes: usize) -> Result<(), LogError> {
        let end = self.active.end_bytes + self.staged.bytes + record_bytes(body_bytes);
        let holds_records = self.active.end_bytes + self.staged.bytes > self.active.header_bytes;
        if end <= self.shared.options.segment_size_bytes || !holds_records {
            return Ok(());
        }
        match self.roll() {
            Err(error) if error.is_no_space() => {
                self.shared.front.lock().space = Space::Full;
                Ok(())
            }
            other => other,
        }
    }

    /// Adds a record to the next write; returns its position.
    fn stage(&mut self, header: RecordHeader, body: Bytes) -> u64 {
        let position = self.active.end_bytes + self.staged.bytes;
        let mut chain = RecordChain { salt: self.active.segment.salt, last_crc: self.active.last_crc };
        let bytes = record_bytes(body.len());
        self.told = self.told.max(header.flushed.position);
        self.staged.flush_bytes += if header.kind == RecordKind::Mark { 0 } else { bytes };
        self.staged.records.push(chain.encode(header, body));
        self.staged.bytes += bytes;
        self.active.last_crc = chain.last_crc;
        position
    }

    fn write_staged(&mut self) -> Result<(), LogError> {
        if !self.staged.records.is_empty() {
            self.allocate_ahead(self.staged.bytes)?;
            self.active
                .file
                .write_all_at(&slices(&self.staged.records), self.active.end_bytes)
                .map_err(|e| LogError::io("write", &self.active.segment.path, e))?;
        }
        self.publish();
        Ok(())
    }

    /// What follows from a write: entries are found in the file, need not stay in memory, and wait for the flusher.
    fn publish(&mut self) {
        let staged = std::mem::take(&mut self.staged);
        self.active.end_bytes += staged.bytes;
        {
            let mut table = self.shared.table.write();
            for change in &staged.changes {
                change.apply(&mut table);
            }
        }
        let cuts = staged.changes.iter().filter(|change| matches!(change, TableChange::Cut(_))).count();
        let refused = {
            // Both at once: between the two a truncation would be forgotten before what it cut stops counting as flushed, or what was
            // flushed behind it would still count as cut, and who was told of the flush would not be told again.
            let mut front = (staged.ticket > 0 || cuts > 0).then(|| self.shared.front.lock());
            let mut flush = self.shared.flush.lock();
            if let Some(front) = &mut front {
                front.truncations.drain(..cuts);
                if staged.ticket > 0 {
                    front.tail.written(staged.ticket);
                }
            }
            flush.written = self.written();
            flush.written_last = self.last;
            flush.unflushed_bytes += staged.flush_bytes;
            if let Some(kept) = staged.cut {
                flush.flushed_last = lesser(flush.flushed_last, kept);
                if let InFlight::Flushing { cut, .. } = &mut flush.in_flight {
                    *cut = Some(cut.map_or(kept, |cut| lesser(cut, kept)));
                }
            }
            if let Some(urgency) = staged.urgency {
                flush.urgency = Some(urgency.earliest(flush.urgency));
                self.shared.due.notify_one();
                self.shared.wake();
            }
            if flush.stopped {
                staged.callbacks
            } else {
                flush.waiting.extend(staged.callbacks);
                Vec::new()
            }
        };
        if !refused.is_empty() {
            answer(refused, &Err(self.shared.failure()));
        }
        if let Some((term, index)) = staged.last_entry {
            self.shared.observer.written(term, index);
        }
    }

    fn written(&self) -> Extent {
        let position = Position { sequence: self.active.segment.sequence, bytes: self.active.end_bytes };
        Extent { position, index: self.last.map(|(_, index)| index) }
    }

    /// Keeps space ahead for all that may be queued, so that what was taken can be written. When the disk is full,
    /// entries are refused from now on; only when `bytes` themselves find no space is it an error.
    fn allocate_ahead(&mut self, bytes: u64) -> Result<(), LogError> {
        let options = &self.shared.options;
        let needed = self.active.end_bytes + bytes;
        let wanted = needed + options.queue_bytes_max + SPACE_RESERVE_BYTES;
        let mut space = None;
        while self.active.allocated_bytes < wanted {
            let step = options.allocation_step_bytes.max(1);
            match self.active.file.allocate(self.active.allocated_bytes, step) {
                Ok(()) => self.active.allocated_bytes += step,
                Err(error) => {
                    let error = LogError::io("allocate", &self.active.segment.path, error);
                    if !error.is_no_space() || self.active.allocated_bytes < needed && !self.allocate_exactly(needed) {
                        return Err(error);
                    }
                    space = Some(Space::Full);
                    break;
                }
            }
        }
        let mut front = self.shared.front.lock();
        match space {
            Some(full) => front.space = full,
            None if front.space != Space::Enough => front.space = Space::Enough,
            None => {}
        }
        Ok(())
    }

    fn allocate_exactly(&mut self, end_bytes: u64) -> bool {
        let from = self.active.allocated_bytes;
        let done = self.active.file.allocate(from, end_bytes - from).is_ok();
        if done {
            self.active.allocated_bytes = end_bytes;
        }
        done
    }

    /// Seals the active segment and begins the next one. Nothing is synced here: the flusher syncs the old file before
    /// the new one, then the directory. Without space for the next segment, nothing changes.
    fn roll(&mut self) -> Result<(), LogError> {
        self.write_staged()?;
        let shared = self.shared.clone();
        let flushed = self.flushed();
        let sequence = self.active.segment.sequence + 1;
        let first = LogIndex(self.last.map_or(0, |(_, index)| index.0 + 1));
        let path = segment_path(&shared.dir, first, sequence);
        let salt = shared.disk.random_salt();
        let header = SegmentHeader {
            salt,
            sequence,
            previous_end: Some(self.written().position),
            purged: self.purged,
            vote: self.vote.clone(),
        };
        let mut chain = RecordChain { salt: 0, last_crc: self.active.last_crc };
        let record = RecordHeader { index: first, ..RecordHeader::plain(RecordKind::SegmentHeader, flushed) };
        let encoded = [chain.encode(record, header.encode_body().into())];
        let header_bytes = encoded[0].bytes();

        let file = shared.disk.create(&path).map_err(|e| LogError::io("create", &path, e))?;
        let step = shared.options.allocation_step_bytes.max(1);
        let allocated_bytes =
            (header_bytes + shared.options.queue_bytes_max + SPACE_RESERVE_BYTES).next_multiple_of(step);
        let begun = file
            .allocate(0, allocated_bytes)
            .and_then(|()| file.write_all_at(&slices(&encoded), 0))
            .map_err(|e| LogError::io("allocate", &path, e));
        if let Err(error) = begun {
            if error.is_no_space() {
                shared.disk.remove(&path).map_err(|e| LogError::io("remove", &path, e))?;
            }
            return Err(error);
        }
        let segment = Arc::new(Segment::new(path.clone(), sequence, salt, Some(file.clone())));
        self.told = self.told.max(flushed.position);
        let next = ActiveSegment {
            file: file.clone(),
            segment: segment.clone(),
            end_bytes: header_bytes,
            allocated_bytes,
            header_bytes,
            last_crc: chain.last_crc,
        };
        let old = std::mem::replace(&mut self.active, next);
        self.run_end = None;
        old.file.set_len(old.end_bytes).map_err(|e| LogError::io("cut", &old.segment.path, e))?;
        let index = {
            let mut table = shared.table.write();
            let sealed = table.seal(old.end_bytes, old.last_crc);
            table.begin(segment, first);
            sealed
        };
        let mut flush = shared.flush.lock();
        flush.sealed.push(SealedSegment { segment: old.segment, file: old.file, index });
        flush.active = file;
        flush.active_path = path;
        flush.dir_changed = true;
        flush.written = self.written();
        flush.unflushed_bytes += header_bytes;
        Ok(())
    }

    /// Everything is flushed by now: says so, and gives back the space ahead.
    fn close(&mut self) -> Result<(), LogError> {
        self.mark()?;
        let (file, path) = (&self.active.file, &self.active.segment.path);
        file.set_len(self.active.end_bytes).map_err(|e| LogError::io("cut", path, e))?;
        file.sync_data().map_err(|e| LogError::io("flush", path, e))
    }
}
