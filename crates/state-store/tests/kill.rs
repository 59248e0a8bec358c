//! Goal: killed at any moment, the directory holds the state of exactly one applied index, and going on from there
//! gives the state of a replay from empty (DESIGN 6: atomic flush, the commit log is the write-ahead log).
//!
//! Method: a child process applies a sample log with tiny write buffers, so that memtables are flushed all the time. It
//! is killed with SIGKILL after a while; the parent opens the directory, compares, and starts the next child on it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use duolog_state::conformance::SampleLog;
use duolog_state::{AppliedEntry, Machine, MemoryTables, state_hash};
use duolog_state_store::{RocksTables, StoreBudget};
use tempfile::TempDir;

const SEED: u64 = 77;
const DIRECTORY: &str = "DUOLOG_KILL_TEST_DIRECTORY";
const KILLS: usize = 20;

fn open(path: &Path) -> Machine<RocksTables> {
    // Barely more than the empty memtables take, so that a flush comes every few hundred entries.
    let budget = StoreBudget::new(512 << 10, 1 << 20);
    Machine::open(RocksTables::open(path, &budget).unwrap()).unwrap()
}

fn next_index(machine: &Machine<RocksTables>) -> usize {
    machine.applied().map_or(0, |applied| applied.index.0 as usize + 1)
}

/// The child's life: it says a line per run, for ever. Started by the test below only; by itself it does nothing.
#[test]
fn child() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let mut machine = open(Path::new(&directory));
    let mut log = SampleLog::new(SEED).skip(next_index(&machine));
    loop {
        let run: Vec<AppliedEntry> = log.by_ref().take(5).collect();
        machine.apply(&run).unwrap();
        println!("applied {}", next_index(&machine));
    }
}

/// Lets a child apply `runs` runs more, then kills it.
fn kill_after(directory: &Path, runs: usize) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let applied = lines.map_while(Result::ok).filter(|line| line.contains("applied")).take(runs).count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(applied, runs, "the child ended by itself");
}

#[test]
fn a_kill_leaves_the_state_of_one_applied_index() {
    let directory = TempDir::new().unwrap();
    let (mut positions, mut log) = (Vec::new(), SampleLog::new(SEED));
    let mut replay = Machine::open(MemoryTables::new()).unwrap();
    for kill in 0..KILLS {
        kill_after(directory.path(), 97 + 61 * (kill % 7));
        let machine = open(directory.path());
        let next = next_index(&machine);
        while replay.applied().map_or(0, |applied| applied.index.0 as usize + 1) < next {
            replay.apply(&[log.next().unwrap()]).unwrap();
        }
        let found = machine.tables().snapshot().state_hash().unwrap();
        assert_eq!(found, (replay.applied(), state_hash(replay.tables()).unwrap()), "kill {kill} at {next}");
        assert_eq!(machine.tables().durable_applied().unwrap(), machine.applied());
        positions.push(next);
    }
    assert!(positions.is_sorted(), "what is durable never goes back: {positions:?}");
    positions.dedup();
    assert!(positions.len() > KILLS / 2, "most kills found a newer flush: {positions:?}");
}
