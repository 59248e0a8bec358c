//! Goal: log and model agree after any operations, reopenings and kills. Method: proptest over seeds and lengths of
//! scripts; a failure shrinks to the shortest script.

mod common;

use common::*;
use duolog_commit_log::SimDisk;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn log_and_model_agree(seed in any::<u64>(), lives in prop::collection::vec((1usize..30, 0u8..3), 1..5)) {
        let disk = SimDisk::new();
        let mut history = History::new(seed);
        let mut was_killed = false;
        for (operations, end) in lives {
            let (log, recovered) = open(&disk);
            // No power was lost, but a kill may come between a new segment and its header: then there is nothing in it.
            let unborn = |torn: &duolog_commit_log::TornTail| was_killed && torn.reason.contains("header");
            prop_assert!(recovered.torn.as_ref().is_none_or(unborn), "{:?}", recovered.torn);
            was_killed = end != 0;
            history.check(&log).map_err(TestCaseError::fail)?;
            for _ in 0..operations {
                history.operate(&log).map_err(|error| TestCaseError::fail(error.to_string()))?;
            }
            // What was appended is readable at once, also what is not written yet.
            let shown = Model::of(&log, history.index_max).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let indexes = |model: &Model| model.entries.keys().copied().collect::<Vec<_>>();
            prop_assert_eq!(indexes(&shown), indexes(history.now()), "purged: {:?}, {:?}", shown.purged, history.now().purged);
            prop_assert_eq!(&shown, history.now());
            match end {
                0 => {
                    log.close().map_err(|error| TestCaseError::fail(error.to_string()))?;
                    history.flushed.store(history.states.len(), std::sync::atomic::Ordering::SeqCst);
                }
                1 => drop(log),
                _ => disk.kill(),
            }
        }
    }
}
