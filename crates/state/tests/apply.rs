//! Goal: the state is a pure function of the log, and says what a small model says.
//! Method: logs of random seeds (`SampleLog`), cut into runs at random, with crashes in between.

use std::collections::{BTreeMap, BTreeSet};

use duolog_state::conformance::{self, ModelPartition, SampleLog};
use duolog_state::keys::TimerKind;
use duolog_state::reader::{self, CurrentEpoch};
use duolog_state::rows::HiddenState;
use duolog_state::{AppliedEntry, Machine, MemoryTables, StateError, TableId, TableReader, state_hash};
use duolog_types::{LeaderEpoch, LogIndex, Offset, Term, TimestampMs, TopicPartition};
use proptest::prelude::*;

fn replay(log: &[AppliedEntry]) -> Machine<MemoryTables> {
    let mut machine = Machine::open(MemoryTables::new()).unwrap();
    for entry in log {
        machine.apply(std::slice::from_ref(entry)).unwrap();
    }
    machine
}

fn hash(machine: &Machine<MemoryTables>) -> u64 {
    state_hash(machine.tables()).unwrap()
}

/// Cuts a log into runs of the given lengths, over and over.
fn runs<'a>(log: &'a [AppliedEntry], lengths: &'a [usize]) -> impl Iterator<Item = &'a [AppliedEntry]> {
    let mut rest = log;
    lengths.iter().cycle().map_while(move |length| {
        let (run, after) = rest.split_at((*length).min(rest.len()));
        rest = after;
        (!run.is_empty()).then_some(run)
    })
}

#[test]
fn memory_tables_conform() {
    conformance::check(MemoryTables::new).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_cut_into_runs_gives_the_same_state_and_events(
        seed in any::<u64>(), length in 1_usize..250, lengths in prop::collection::vec(1_usize..40, 1..6),
    ) {
        let log: Vec<_> = SampleLog::new(seed).take(length).collect();
        let (mut machine, mut one_by_one) =
            (Machine::open(MemoryTables::new()).unwrap(), Machine::open(MemoryTables::new()).unwrap());
        for run in runs(&log, &lengths) {
            let together = machine.apply(run).unwrap();
            let mut apart = (Vec::new(), Vec::new());
            for entry in run {
                let applied = one_by_one.apply(std::slice::from_ref(entry)).unwrap();
                apart.0.extend(applied.responses);
                apart.1.extend(applied.events);
            }
            prop_assert_eq!((together.responses, together.events), apart);
            prop_assert_eq!(hash(&machine), hash(&one_by_one));
        }
    }

    #[test]
    fn a_crash_goes_on_from_the_persisted_applied_index(
        seed in any::<u64>(), length in 1_usize..250, durable in 0_usize..250, lengths in prop::collection::vec(1_usize..40, 1..6),
    ) {
        let log: Vec<_> = SampleLog::new(seed).take(length).collect();
        let mut machine = Machine::open(MemoryTables::new()).unwrap();
        let mut on_disk = machine.tables().snapshot();
        for run in runs(&log, &lengths) {
            machine.apply(run).unwrap();
            if run[0].index.0 as usize <= durable {
                on_disk = machine.tables().snapshot();
            }
        }
        let mut recovered = Machine::open(MemoryTables::restore(on_disk)).unwrap();
        let from = recovered.applied().map_or(0, |applied| applied.index.0 as usize + 1);
        recovered.apply(&log[from..]).unwrap();
        prop_assert_eq!(hash(&recovered), hash(&machine));
    }

    #[test]
    fn partitions_say_what_the_model_says(seed in any::<u64>(), length in 1_usize..300) {
        let mut sample = SampleLog::new(seed);
        let log: Vec<_> = sample.by_ref().take(length).collect();
        let machine = replay(&log);
        for tp in sample.all_partitions() {
            match sample.model().get(&tp) {
                Some(model) => check_partition(machine.tables(), tp, model),
                None => {
                    assert_eq!(reader::partition_state(machine.tables(), tp), Ok(None));
                    assert_eq!(reader::last_batch(machine.tables(), tp), Ok(None));
                    assert_eq!(reader::producers(machine.tables(), tp), Ok(Vec::new()));
                }
            }
        }
        check_hidden(machine.tables(), &sample);
    }
}

/// A row per hidden batch, a timer per row that waits for one, a reference per visible one, and nothing else.
fn check_hidden(tables: &dyn TableReader, sample: &SampleLog) {
    let topics: BTreeSet<_> = sample.all_partitions().map(|tp| tp.topic).collect();
    let mut found = BTreeMap::new();
    for topic in topics {
        for (tp, address, row) in reader::hidden_of_topic(tables, topic).unwrap() {
            found.insert((tp, address), row);
        }
    }
    assert_eq!(&found, sample.hidden());
    let mut expected: Vec<_> = found
        .iter()
        .filter_map(|((partition, address), row)| {
            let (kind, time) = row.state.timer()?;
            Some((kind, time, *address, *partition))
        })
        .collect();
    expected.sort_unstable();
    let mut timers = Vec::new();
    for kind in [TimerKind::Delivery, TimerKind::CheckBack, TimerKind::Expiry] {
        let of_kind = reader::timers(tables, kind, TimestampMs(i64::MIN), 10_000).unwrap();
        timers.extend(of_kind.iter().map(|timer| (kind, timer.time, timer.address, timer.partition)));
    }
    assert_eq!(timers, expected);
    let mut references = 0;
    for ((tp, address), row) in &found {
        let HiddenState::Visible { offset, .. } = row.state else { continue };
        let batch = reader::find_batch(tables, *tp, offset).unwrap().expect("its row in the consume queue");
        let place = (batch.row.index, batch.row.slot, batch.row.start, batch.row.size_bytes);
        assert!(batch.row.is_reference());
        assert_eq!(place, (address.index, address.slot, row.start, row.size_bytes), "{tp} at {offset}");
        references += 1;
    }
    assert_eq!(tables.scan(TableId::References, b"", None, 10_000).unwrap().len(), references);
    for (tp, _) in found.keys() {
        let first = found.keys().find(|(other, _)| other == tp).map(|(_, address)| address.index);
        assert_eq!(reader::first_hidden_index(tables, *tp).unwrap(), first);
    }
}

fn check_partition(tables: &dyn TableReader, tp: TopicPartition, model: &ModelPartition) {
    let state = reader::partition_state(tables, tp).unwrap().expect("the model has the partition");
    assert_eq!((state.log_start.0, state.log_end.0), (model.log_start, model.log_end()), "{tp}");
    let kept: Vec<_> =
        model.batches.iter().copied().filter(|(base, count, ..)| base + i64::from(*count) > model.log_start).collect();
    let found: Vec<_> = reader::scan_batches(tables, tp, Offset(0), 10_000)
        .unwrap()
        .iter()
        .map(|batch| (batch.base_offset.0, batch.row.record_count, batch.row.max_timestamp.0, batch.row.term.0))
        .collect();
    assert_eq!(found, kept, "{tp}");
    for offset in -1..=model.log_end() {
        let expected = kept.iter().find(|(base, count, ..)| (*base..base + i64::from(*count)).contains(&offset));
        let found = reader::find_batch(tables, tp, Offset(offset)).unwrap();
        assert_eq!(found.map(|batch| batch.base_offset.0), expected.map(|(base, ..)| *base), "{tp} at {offset}");
    }
    let bytes: u64 = reader::scan_batches(tables, tp, state.log_start, 10_000)
        .unwrap()
        .iter()
        .map(|batch| u64::from(batch.row.size_bytes))
        .sum();
    assert_eq!(reader::partition_size_bytes(tables, tp).unwrap(), Some(bytes), "{tp}");
    check_times(tables, tp, &kept);
    check_sizes(tables, tp, model);
    check_epochs(tables, tp, model);
}

fn check_times(tables: &dyn TableReader, tp: TopicPartition, kept: &[(i64, u32, i64, u64)]) {
    let base = |batches: &[(i64, u32, i64, u64)], at: usize| batches.get(at).map_or(i64::MAX - 1, |(base, ..)| *base);
    for from in [0, kept.len() / 2, kept.len()] {
        let rest = &kept[from..];
        let from = Offset(if from == 0 { 0 } else { base(kept, from) });
        for time in kept.iter().flat_map(|(_, _, time, _)| [*time - 1, *time, *time + 1]) {
            let expected = rest.iter().find(|(_, _, max, _)| *max >= time).map(|(base, ..)| *base);
            let found = reader::find_batch_by_time(tables, tp, from, TimestampMs(time)).unwrap();
            assert_eq!(found.map(|batch| batch.base_offset.0), expected, "{tp} from {from} at time {time}");
        }
        for count in [0, rest.len() / 2, rest.len()] {
            // The last of the greatest in reverse is the first of them.
            let greatest = rest[..count].iter().rev().max_by_key(|(_, _, time, _)| *time).map(|(base, ..)| *base);
            let below = Offset(base(rest, count));
            let found = reader::max_timestamp_batch(tables, tp, from, below).unwrap();
            assert_eq!(found.map(|batch| batch.base_offset.0), greatest, "{tp} from {from} to {below}");
        }
    }
}

fn check_sizes(tables: &dyn TableReader, tp: TopicPartition, model: &ModelPartition) {
    let batches = reader::scan_batches(tables, tp, Offset(0), 10_000).unwrap();
    for bytes_max in [0, 100, 1_000, 50_000, 100_000, 1 << 30] {
        let mut size = 0;
        let fitting = batches.iter().rev().take_while(|batch| {
            size += u64::from(batch.row.size_bytes);
            size <= bytes_max
        });
        let expected = fitting.last().or(batches.last()).copied();
        let found = reader::find_batch_by_size(tables, tp, bytes_max).unwrap();
        assert_eq!(found, expected, "{tp}, {bytes_max} bytes, {model:?}");
    }
}

fn check_epochs(tables: &dyn TableReader, tp: TopicPartition, model: &ModelPartition) {
    let current = CurrentEpoch { epoch: LeaderEpoch(1_000), log_end: Offset(1_000_000) };
    let last = model.batches.last().map_or(0, |(.., term)| *term);
    for term in 0..=last + 1 {
        let epoch = Term(term).leader_epoch();
        let found = reader::epoch_end_offset(tables, tp, epoch, current).unwrap().expect("below the current epoch");
        let first_above = model.batches.iter().find(|(.., other)| *other > term).map(|(base, ..)| *base);
        let expected = first_above.unwrap_or(model.log_end()).max(model.log_start);
        // Below the first epoch that is kept, Kafka answers where that one begins.
        assert_eq!(found.end_offset.0, expected, "{tp} epoch {term} {model:?}");
        assert!(found.epoch <= epoch);
    }
    assert_eq!(reader::epoch_end_offset(tables, tp, LeaderEpoch(1_001), current), Ok(None));
    let own = reader::epoch_end_offset(tables, tp, current.epoch, current).unwrap().unwrap();
    assert_eq!((own.epoch, own.end_offset), (current.epoch, current.log_end));
}

#[test]
fn a_gap_stops_the_replica() {
    let log: Vec<_> = SampleLog::new(1).take(5).collect();
    let mut machine = Machine::open(MemoryTables::new()).unwrap();
    machine.apply(&log[..2]).unwrap();
    let error = machine.apply(&log[3..]).unwrap_err();
    assert_eq!(error, StateError::Gap { found: LogIndex(3), expected: LogIndex(2) });
    assert_eq!(machine.apply(&log[2..]).unwrap_err(), StateError::Stopped);
}
