//! A model of the log, step by step, and a random script that drives log and model alike.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use duolog_commit_log::*;
use duolog_types::{FlushWish, LogIndex, Term};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub const DIR: &str = "/log";

pub struct Deaf;

impl LogObserver for Deaf {
    fn written(&self, _: Term, _: LogIndex) {}
    fn flushed(&self, _: Term, _: LogIndex) {}
    fn failed(&self, _: &LogError) {}
}

/// Tiny segments, so that every script rolls.
pub fn small() -> LogOptions {
    LogOptions {
        segment_size_bytes: 4096,
        flush_delay_ms_max: 1,
        idle_mark_after_ms: 1,
        tail_cache_bytes: 1000,
        queue_bytes_max: 16 << 10,
        allocation_step_bytes: 4096,
        ..LogOptions::default()
    }
}

pub fn open_with(disk: &SimDisk, options: LogOptions) -> Result<(CommitLog, Recovered), LogError> {
    CommitLog::open(Arc::new(disk.process()), Path::new(DIR), options, Arc::new(Deaf))
}

pub fn open(disk: &SimDisk) -> (CommitLog, Recovered) {
    open_with(disk, small()).expect("the log opens")
}

pub fn entry(index: u64, term: u64, body: impl Into<Bytes>, flush: FlushWish) -> LogEntry {
    LogEntry { index: LogIndex(index), term: Term(term), kind: (index % 7) as u8, flush, body: body.into() }
}

pub fn append_and_wait(log: &CommitLog, indexes: std::ops::Range<u64>, term: u64) {
    let entries = indexes.map(|i| entry(i, term, format!("body {i} of {term}"), FlushWish::Now)).collect();
    let (sender, receiver) = std::sync::mpsc::channel();
    log.append(entries, Some(Box::new(move |result| sender.send(result).unwrap()))).unwrap();
    receiver.recv().unwrap().unwrap();
}

pub fn segment_files(disk: &SimDisk) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        disk.paths().into_iter().filter(|p| p.extension().is_some_and(|e| e == "segment")).collect();
    paths.sort_by_key(|p| p.file_stem().unwrap().to_str().unwrap().split_once('-').unwrap().1.to_owned());
    paths
}

/// The log after some steps. A step is one record.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Model {
    pub entries: BTreeMap<u64, LogEntry>,
    pub vote: Option<Bytes>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
}

impl Model {
    pub fn next(&self) -> u64 {
        self.last.map_or(0, |(_, index)| index.0 + 1)
    }

    fn truncate(&mut self, keep: Option<u64>) {
        let keep = keep.or(self.purged.map(|(_, index)| index.0));
        let from = keep.map_or(0, |keep| keep + 1);
        if from < self.next() {
            self.entries.split_off(&from);
            self.last = keep.map(|keep| match self.purged {
                Some(mark) if mark.1.0 == keep => mark,
                _ => (self.entries[&keep].term, LogIndex(keep)),
            });
        }
    }

    fn purge(&mut self, mark: LogId) {
        if self.purged.is_none_or(|(_, index)| index < mark.1) {
            self.purged = Some(mark);
            if self.last.is_none_or(|(_, last)| last < mark.1) {
                self.last = Some(mark);
            }
        }
    }

    /// What an open log shows, up to `index_max`.
    pub fn of(log: &CommitLog, index_max: u64) -> Result<Self, LogError> {
        let mut model = Self { vote: log.vote(), purged: log.purged(), last: log.last(), ..Self::default() };
        for index in 0..=index_max {
            if let Some(entry) = log.read_any(LogIndex(index))? {
                model.entries.insert(index, entry);
            }
        }
        Ok(model)
    }
}

/// Every state that the log went through, and how many of them were reported flushed.
pub struct History {
    pub states: Vec<Model>,
    pub flushed: Arc<AtomicUsize>,
    pub index_max: u64,
    pub term: u64,
    random: StdRng,
}

impl History {
    pub fn new(seed: u64) -> Self {
        Self {
            states: vec![Model::default()],
            flushed: Arc::default(),
            index_max: 0,
            term: 1,
            random: StdRng::seed_from_u64(seed),
        }
    }

    pub fn now(&self) -> &Model {
        self.states.last().unwrap()
    }

    fn step(&mut self, change: impl FnOnce(&mut Model)) {
        let mut state = self.now().clone();
        change(&mut state);
        self.states.push(state);
    }

    fn callback(&self) -> FlushCallback {
        let (flushed, states) = (self.flushed.clone(), self.states.len());
        Box::new(move |result| {
            if result.is_ok() {
                flushed.fetch_max(states, Ordering::SeqCst);
            }
        })
    }

    /// One random operation on log and model.
    pub fn operate(&mut self, log: &CommitLog) -> Result<(), LogError> {
        match self.random.random_range(0..20) {
            0..=11 => {
                let count = self.random.random_range(1..5);
                let flush = match self.random.random_range(0..3) {
                    0 => FlushWish::Now,
                    n => FlushWish::WithinMs(n),
                };
                let mut entries = Vec::new();
                for _ in 0..count {
                    let length = self.random.random_range(0..700);
                    let body = vec![self.random.random::<u8>(); length];
                    let next = entry(self.now().next(), self.term, body, flush);
                    self.index_max = self.index_max.max(next.index.0);
                    entries.push(next.clone());
                    self.step(|state| {
                        state.last = Some((next.term, next.index));
                        state.entries.insert(next.index.0, next);
                    });
                }
                let callback = self.callback();
                log.append(entries, Some(callback))?;
            }
            12..=13 => {
                self.term += 1;
                let vote = Bytes::from(vec![self.term as u8; self.random.random_range(0..256)]);
                self.step(|state| state.vote = Some(vote.clone()));
                log.save_vote(vote, self.callback());
            }
            14..=15 => {
                let back = self.random.random_range(0..8);
                let lowest = self.now().purged.map(|(_, index)| index.0);
                let keep = self.now().next().checked_sub(1 + back).max(lowest);
                self.step(|state| state.truncate(keep));
                log.truncate_after(keep.map(LogIndex))?;
            }
            16..=17 => {
                let back = self.random.random_range(0..10);
                if let Some(index) = self.now().next().checked_sub(1 + back)
                    && let Some(entry) = self.now().entries.get(&index)
                {
                    let mark = (entry.term, LogIndex(index));
                    self.step(|state| state.purge(mark));
                    log.purge(mark.1, mark.0);
                }
            }
            18 if self.random.random_range(0..4) == 0 => {
                let mark = (Term(self.term), LogIndex(self.now().next() + self.random.random_range(0..5)));
                self.step(|state| state.purge(mark));
                log.purge(mark.1, mark.0);
                self.index_max = self.index_max.max(mark.1.0);
            }
            _ => {
                if self.random.random::<bool>() {
                    log.flush_and_wait()?;
                    self.flushed.fetch_max(self.states.len(), Ordering::SeqCst);
                } else {
                    std::thread::yield_now();
                }
            }
        }
        Ok(())
    }

    /// Whether an opened log is in one of the states from the last one that was reported flushed on. Goes on from it.
    pub fn check(&mut self, log: &CommitLog) -> Result<(), String> {
        let found = Model::of(log, self.index_max).map_err(|error| error.to_string())?;
        let flushed = self.flushed.load(Ordering::SeqCst).max(1);
        if !self.states[flushed - 1..].contains(&found) {
            let short = |m: &Model| {
                (m.entries.keys().copied().collect::<Vec<_>>(), m.last, m.purged, m.vote.as_ref().map(Bytes::len))
            };
            return Err(format!(
                "found {:?}\nexpected one of {} states from {:?}\nto {:?}",
                short(&found),
                self.states.len() - flushed + 1,
                short(&self.states[flushed - 1]),
                short(self.now())
            ));
        }
        self.states = vec![found];
        self.flushed.store(0, Ordering::SeqCst);
        Ok(())
    }
}
