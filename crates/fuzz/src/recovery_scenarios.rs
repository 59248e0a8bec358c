//! Logs whose files the target damages, and every state that each of them went through.
//!
//! A scenario is built step by step, each awaited, so that its files are the same in every run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use duolog_commit_log::{CommitLog, LogEntry, LogId, LogOptions, SimDisk};
use duolog_types::{FlushWish, LogIndex, Term};

use crate::log_support::{append_and_wait, entry, open_with};

/// Nothing happens by the clock: neither a flush nor a mark.
const NEVER_MS: u32 = 3_600_000;

/// What a log shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct State {
    pub(crate) entries: BTreeMap<u64, LogEntry>,
    pub(crate) vote: Option<Bytes>,
    pub(crate) purged: Option<LogId>,
    pub(crate) last: Option<LogId>,
}

/// A log as a killed process left it.
pub(crate) struct Scenario {
    pub(crate) disk: SimDisk,
    pub(crate) files: Vec<PathBuf>,
    /// One per record, the first of an empty log.
    pub(crate) states: Vec<State>,
    /// `states[flushed..]`: the last one that was reported flushed, and those after it.
    pub(crate) flushed: usize,
}

struct Recorder {
    disk: SimDisk,
    log: CommitLog,
    states: Vec<State>,
    flushed: usize,
}

/// All scenarios: one segment; several with sidecars; one that follows a recovery.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![one_segment(), several_segments(), after_a_recovery()]
}

pub(crate) fn options(segment_size_bytes: u64) -> LogOptions {
    LogOptions {
        segment_size_bytes,
        flush_delay_ms_max: NEVER_MS,
        idle_mark_after_ms: NEVER_MS.into(),
        tail_cache_bytes: 0,
        allocation_step_bytes: 4096,
        ..LogOptions::default()
    }
}

fn one_segment() -> Scenario {
    let mut recorder = Recorder::open(SimDisk::new(), 1 << 20, vec![State::default()], 0);
    recorder.vote("first");
    recorder.append(0..10, 1);
    recorder.late(10..15);
    recorder.kill()
}

fn several_segments() -> Scenario {
    let mut recorder = Recorder::open(SimDisk::new(), 1024, vec![State::default()], 0);
    recorder.vote("first");
    recorder.append(0..12, 1);
    recorder.truncate(7);
    recorder.vote("second");
    recorder.append(8..20, 2);
    recorder.purge(2, 1);
    recorder.append(20..33, 2);
    recorder.late(33..37);
    recorder.kill()
}

fn after_a_recovery() -> Scenario {
    let before = several_segments();
    let mut recorder = Recorder::open(before.disk, 1 << 20, before.states, usize::MAX);
    recorder.append(37..40, 3);
    recorder.late(40..42);
    recorder.kill()
}

impl Recorder {
    fn open(disk: SimDisk, segment_size_bytes: u64, states: Vec<State>, flushed: usize) -> Self {
        let (log, _) = open_with(&disk, options(segment_size_bytes)).expect("the scenario opens");
        let flushed = flushed.min(states.len() - 1);
        Self { disk, log, states, flushed }
    }

    fn record(&mut self) {
        let next = self.log.last().map_or(0, |(_, index)| index.0 + 1);
        let read = |index| self.log.read_any(LogIndex(index)).expect("nothing is damaged yet");
        self.states.push(State {
            entries: (0..next).filter_map(|index| Some((index, read(index)?))).collect(),
            vote: self.log.vote(),
            purged: self.log.purged(),
            last: self.log.last(),
        });
    }

    fn flushed(&mut self) {
        self.log.flush_and_wait().expect("the disk is well");
        self.record();
        self.flushed = self.states.len() - 1;
    }

    fn append(&mut self, indexes: std::ops::Range<u64>, term: u64) {
        for index in indexes {
            append_and_wait(&self.log, index..index + 1, term);
            self.flushed();
        }
    }

    /// Entries that are written and never flushed.
    fn late(&mut self, indexes: std::ops::Range<u64>) {
        let term = self.states.last().and_then(|state| state.last).map_or(1, |(term, _)| term.0);
        for index in indexes {
            let late = entry(index, term, format!("late {index}"), FlushWish::WithinMs(NEVER_MS));
            self.log.append(vec![late], None).expect("the next index");
            while self.log.written() != Some((Term(term), LogIndex(index))) {
                std::thread::yield_now();
            }
            self.record();
        }
    }

    fn vote(&mut self, vote: &'static str) {
        self.log.save_vote(Bytes::from_static(vote.as_bytes()), Box::new(|_| {}));
        self.flushed();
    }

    fn truncate(&mut self, keep: u64) {
        self.log.truncate_after(Some(LogIndex(keep))).expect("it is above the purge mark");
        self.flushed();
    }

    fn purge(&mut self, index: u64, term: u64) {
        self.log.purge(LogIndex(index), Term(term));
        self.flushed();
    }

    fn kill(self) -> Scenario {
        let Self { disk, log, states, flushed } = self;
        disk.kill();
        drop(log);
        // The space that was allocated ahead is left out: edits there find nothing.
        let files = disk.paths();
        for file in &files {
            let mut bytes = disk.file(file);
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes.truncate(used.next_multiple_of(8).min(bytes.len()));
            disk.set_file(file, &bytes);
        }
        Scenario { disk, files, states, flushed }
    }
}
