//! Opening a commit log whose files were damaged.
//!
//! ```text
//! byte 0   which log, see `recovery_scenarios.rs`
//! then edits of four bytes: operation and file, position (u16, big endian, modulo the file's length), value
//!          bits 0 and 1: 0 and 1 flip the value's bits of a byte, 2 cut the file there, 3 zero 8 × value bytes
//!          the other bits: which file
//! ```
//!
//! Whatever was damaged, opening either refuses and leaves every file as it was, or gives one of the states that the log
//! went through, and no entry that differs from what was written. An entry of a sealed segment may turn out to be
//! damaged when it is read. One byte alone never takes back what was reported flushed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::LazyLock;

use duolog_commit_log::{CommitLog, LogError, SimDisk};
use duolog_types::LogIndex;

use crate::log_support::open_with;
use crate::recovery_scenarios::{Scenario, State, options, scenarios};
use crate::seeds::Seed;

static SCENARIOS: LazyLock<Vec<Scenario>> = LazyLock::new(scenarios);

/// More edits than this say nothing new.
const EDITS_MAX: usize = 8;

/// Damages a log and opens it, twice.
///
/// # Panics
/// When a promise is broken.
pub fn run(input: &[u8]) {
    let Some((which, edits)) = input.split_first() else { return };
    let scenario = &SCENARIOS[usize::from(*which) % SCENARIOS.len()];
    let disk = scenario.disk.fork();
    let edits: Vec<Edit> =
        edits.as_chunks().0.iter().take(EDITS_MAX).filter_map(|bytes| Edit::read(*bytes, scenario)).collect();
    for edit in &edits {
        edit.apply(&disk);
    }
    let before = contents(&disk);
    let (log, recovered) = match open_with(&disk, options(1 << 20)) {
        Ok(opened) => opened,
        Err(LogError::Corrupt { .. } | LogError::UnsupportedVersion { .. }) => {
            assert!(contents(&disk) == before, "a refusal changed files");
            assert!(!edits.is_empty(), "nothing was damaged");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let found = Found::read(&log);
    assert_eq!(
        (&recovered.vote, recovered.purged, recovered.last),
        (&found.state.vote, found.state.purged, found.state.last)
    );
    let first =
        if matches!(edits[..], [] | [Edit { operation: Operation::Flip(_), .. }]) { scenario.flushed } else { 0 };
    assert!(
        scenario.states[first..].iter().any(|state| found.may_be(state)),
        "{edits:?}: last {:?}, purged {:?}, vote {:?}, entries {:?}, unreadable {:?} is none of the states from {:?} on",
        found.state.last,
        found.state.purged,
        found.state.vote,
        found.state.entries.keys().collect::<Vec<_>>(),
        found.unreadable,
        scenario.states[first].last,
    );
    disk.kill();
    drop(log);
    let (log, recovered) = open_with(&disk, options(1 << 20)).expect("what was recovered opens again");
    assert_eq!(recovered.torn, None);
    assert!(Found::read(&log).state == found.state, "the second start found something else");
}

#[derive(Debug, Clone)]
struct Edit {
    file: PathBuf,
    position: u16,
    operation: Operation,
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    /// These bits of a byte.
    Flip(u8),
    Cut,
    /// So many bytes become zero.
    Zero(usize),
}

impl Edit {
    /// `None`: it would change nothing.
    fn read([head, high, low, value]: [u8; 4], scenario: &Scenario) -> Option<Self> {
        let operation = match (head & 3, value) {
            (0..=1, 0) => return None,
            (0..=1, bits) => Operation::Flip(bits),
            (2, _) => Operation::Cut,
            (_, words) => Operation::Zero(8 * usize::from(words)),
        };
        let file = scenario.files[usize::from(head >> 2) % scenario.files.len()].clone();
        Some(Self { file, position: u16::from_be_bytes([high, low]), operation })
    }

    fn apply(&self, disk: &SimDisk) {
        let mut bytes = disk.file(&self.file);
        if bytes.is_empty() {
            return;
        }
        let at = usize::from(self.position) % bytes.len();
        match self.operation {
            Operation::Flip(bits) => bytes[at] ^= bits,
            Operation::Cut => bytes.truncate(at),
            Operation::Zero(count) => {
                let end = bytes.len().min(at + count);
                bytes[at..end].fill(0);
            }
        }
        disk.set_file(&self.file, &bytes);
    }
}

/// An opened log.
struct Found {
    state: State,
    /// Entries that it has and finds damaged.
    unreadable: BTreeSet<u64>,
}

impl Found {
    fn read(log: &CommitLog) -> Self {
        let mut state = State { vote: log.vote(), purged: log.purged(), last: log.last(), ..State::default() };
        let mut unreadable = BTreeSet::new();
        for index in 0..64 {
            match log.read_any(LogIndex(index)) {
                Ok(Some(entry)) => drop(state.entries.insert(index, entry)),
                Ok(None) => {}
                Err(LogError::Corrupt { .. }) => drop(unreadable.insert(index)),
                Err(error) => panic!("entry {index}: {error}"),
            }
        }
        Self { state, unreadable }
    }

    /// Whether it is this state, as far as it can be read.
    fn may_be(&self, state: &State) -> bool {
        let mut readable = state.clone();
        readable.entries.retain(|index, _| !self.unreadable.contains(index));
        readable == self.state && self.unreadable.iter().all(|index| state.entries.contains_key(index))
    }
}

fn contents(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    disk.paths().into_iter().map(|path| (path.clone(), disk.file(&path))).collect()
}

/// Inputs of the target.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (scenario, which) in SCENARIOS.iter().zip(0_u8..) {
        seeds.push((format!("log-{which}"), vec![which]));
        for file in 0..scenario.files.len() as u8 {
            for (operation, position, value) in [(0, 9, 1), (0, 100, 0x40), (2, 200, 0), (3, 60, 9), (3, 300, 200)] {
                let [high, low] = u16::to_be_bytes(position);
                let edit = [which, file << 2 | operation, high, low, value];
                seeds.push((format!("log-{which}-file-{file}-edit-{operation}-{position}"), edit.to_vec()));
            }
        }
    }
    seeds
}

/// Every byte of every file, damaged alone.
#[must_use]
pub fn single_bytes() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for (scenario, which) in SCENARIOS.iter().zip(0_u8..) {
        for (file, number) in scenario.files.iter().zip(0_u8..) {
            let length = u16::try_from(scenario.disk.file(file).len()).expect("the files are small");
            inputs
                .extend((0..length).map(u16::to_be_bytes).map(|[high, low]| vec![which, number << 2, high, low, 0x10]));
        }
    }
    inputs
}
