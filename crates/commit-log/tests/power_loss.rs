//! Goal: whatever was reported flushed survives a loss of power at any moment, also during recovery; and what is found
//! is always a state that the log went through. Method: random scripts on a simulated disk against a model.

mod common;

use common::*;
use duolog_commit_log::{LogError, SimDisk};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Runs rounds of operations, each ended by a crash. `Err` says what was lost.
fn rounds(seed: u64, mutant: bool) -> Result<(), String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut history = History::new(seed);
    let disk = SimDisk::new();
    for round in 0..3 {
        disk.set_sync_does_nothing(mutant);
        let (log, _) = open_with(&disk, small()).map_err(|error| format!("round {round}: {error}"))?;
        history.check(&log).map_err(|error| format!("round {round}: {error}"))?;
        for _ in 0..random.random_range(1..25) {
            history.operate(&log).map_err(|error| error.to_string())?;
        }
        match random.random_range(0..4) {
            0 => disk.kill(),
            1 => {
                // Recovery itself is hit, by a power loss at a random operation.
                disk.power_loss(random.random());
                disk.crash_at_operation(random.random_range(0..14));
                drop(open_with(&disk, small()));
                disk.power_loss(random.random());
            }
            _ => disk.power_loss(random.random()),
        }
    }
    let (log, _) = open_with(&disk, small()).map_err(|error| format!("end: {error}"))?;
    history.check(&log)
}

#[test]
fn what_was_flushed_survives() {
    // DUOLOG_SEEDS=20000 for a long run.
    let seeds = std::env::var("DUOLOG_SEEDS").map_or(400, |seeds| seeds.parse().expect("DUOLOG_SEEDS is a number"));
    for seed in 0..seeds {
        rounds(seed, false).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn the_checker_finds_a_disk_that_does_not_flush() {
    let found = (0..60).filter(|seed| rounds(*seed, true).is_err()).count();
    assert!(found > 30, "only {found} of 60 runs noticed that nothing was flushed");
}

#[test]
fn a_crash_at_any_operation_leaves_a_legal_state() {
    let script = |history: &mut History, disk: &SimDisk| -> Result<(), LogError> {
        let (log, _) = open_with(disk, small())?;
        for _ in 0..15 {
            history.operate(&log)?;
        }
        let next = history.now().next();
        log.flush_and_wait()?;
        log.delete_segments_below(duolog_types::LogIndex(next))?;
        log.close()
    };
    for seed in 0..4 {
        let disk = SimDisk::new();
        // Deleting makes entries unreadable that the model has: the check looks at what must be there only.
        script(&mut History::new(seed), &disk).unwrap();
        let operations = disk.operations();
        for at in 0..operations + 2 {
            let mut history = History::new(seed);
            let disk = SimDisk::new();
            disk.crash_at_operation(at);
            let complete = script(&mut history, &disk).is_ok();
            if at % 3 == 0 {
                disk.kill();
            } else {
                disk.power_loss(at);
            }
            let context = format!("seed {seed}, crash at {at}");
            let (log, recovered) = open_with(&disk, small()).unwrap_or_else(|error| panic!("{context}: {error}"));
            let flushed = history.flushed.load(std::sync::atomic::Ordering::SeqCst).max(1);
            let legal = history.states[flushed - 1..].iter().any(|state| {
                let above = |index: &u64| state.purged.is_none_or(|(_, purged)| *index > purged.0);
                (state.last, state.purged, &state.vote) == (recovered.last, recovered.purged, &recovered.vote)
                    && state.entries.iter().filter(|(index, _)| above(index)).all(|(index, entry)| {
                        log.read_any(duolog_types::LogIndex(*index)).unwrap().as_ref() == Some(entry)
                    })
            });
            assert!(legal, "{context}, complete: {complete}");
            // And life goes on.
            let next = recovered.last.map_or(0, |(_, index)| index.0 + 1);
            append_and_wait(&log, next..next + 3, 1000);
            drop(log);
            disk.power_loss(at);
            let (_, recovered) = open(&disk);
            assert_eq!(recovered.last.map(|(_, index)| index.0), Some(next + 2), "{context}");
        }
    }
}
