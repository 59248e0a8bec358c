//! Goal: retention lets go of what is known to be old or too much, and of nothing else.
//! Method: one partition whose batches have one record each, so that the batch at offset n is the n-th; a small model.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use duolog_record::BatchBuilder;
use duolog_record::entry::{BatchMeta, EntryBuilder, EntryHeader};
use duolog_state::command::{Command, PartitionCommand};
use duolog_state::run::RunBarrier;
use duolog_state::tables::{MemorySnapshot, Row};
use duolog_state::{AppliedEntry, EntryKind, Machine, MemoryTables, StateError, TableId, TableReader, reader};
use duolog_types::{Durability, LogIndex, Offset, Term, TimestampMs, TopicConfig, TopicId, TopicPartition};
use proptest::prelude::*;

const TP: TopicPartition = TopicPartition { topic: TopicId([5; 16]), partition: 0 };
/// What is younger than this is kept.
const KEEP_FROM: i64 = 100;

struct Log {
    machine: Machine<MemoryTables>,
    next_index: u64,
    batches: u64,
}

impl Log {
    /// With the partition, and nothing in it.
    fn new() -> Self {
        let mut log = Self { machine: Machine::open(MemoryTables::new()).unwrap(), next_index: 0, batches: 0 };
        log.apply(EntryKind::RunBarrier, RunBarrier { term: Term(1), run: 0 }.encode());
        log.command(PartitionCommand::UpsertTopic {
            topic_id: TP.topic,
            catalog_version: 1,
            partitions: vec![TP.partition],
            config: TopicConfig::default(),
        });
        log
    }

    fn apply(&mut self, kind: EntryKind, body: Bytes) {
        let index = LogIndex(self.next_index);
        self.next_index += 1;
        self.machine.apply(&[AppliedEntry { index, term: Term(1), kind, body }]).unwrap();
    }

    fn command(&mut self, command: PartitionCommand) {
        self.apply(EntryKind::Command, Command::Partitions(command).encode());
    }

    fn append(&mut self, time: i64, value_bytes: usize) {
        let mut builder = EntryBuilder::new(EntryHeader { run_term: Term(1), run: 0, number: self.batches });
        let mut batch = BatchBuilder::new();
        batch.push(TimestampMs(time), None, Some(&vec![b'x'; value_bytes])).unwrap();
        let base_offset = Offset(self.batches.cast_signed());
        let durability = Durability::ALL[0];
        let meta = BatchMeta { partition: TP, base_offset, durability, flags: 0, log_append_time: None };
        builder.push(meta, &batch.build().unwrap());
        self.apply(EntryKind::Batches, builder.finish());
        self.batches += 1;
        assert_eq!(reader::log_end(self.tables(), TP), Ok(Some(Offset(self.batches.cast_signed()))));
    }

    fn start_at(&mut self, offset: i64) {
        self.command(PartitionCommand::AdvanceLogStart { partition: TP, offset: Offset(offset) });
    }

    fn tables(&self) -> &MemoryTables {
        self.machine.tables()
    }
}

/// Where the log begins once retention has looked at batches of these times.
fn expired_end(times: &[i64], log_start: usize, value_bytes: usize) -> Option<i64> {
    let mut log = Log::new();
    for time in times {
        log.append(*time, value_bytes);
    }
    log.start_at(log_start as i64);
    reader::expired_end(log.tables(), TP, TimestampMs(KEEP_FROM)).unwrap().map(|end| end.0)
}

#[test]
fn a_batch_without_a_time_goes_only_with_an_old_one_behind_it() {
    let cases: [(&[i64], Option<i64>); 11] = [
        (&[], None),
        (&[-1], None),
        (&[200], None),
        (&[50, 60], Some(2)),
        // A young batch behind it says nothing about its age, an old one before it neither.
        (&[-1, 200], None),
        (&[50, -1, -1], Some(1)),
        (&[50, -1, 200], Some(1)),
        (&[-1, 50], Some(2)),
        (&[50, -1, 60, 200], Some(3)),
        (&[200, 50], None),
        (&[50, 200, -1, 60], Some(1)),
    ];
    for (times, expected) in cases {
        assert_eq!(expired_end(times, 0, 10), expected, "{times:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Large batches have more than one row in the time index.
    #[test]
    fn what_expires_is_what_the_model_says(
        times in prop::collection::vec(prop_oneof![Just(-1_i64), 0..KEEP_FROM, KEEP_FROM..200], 0..24),
        start in 0_usize..24, is_large in any::<bool>(),
    ) {
        let start = start.min(times.len());
        let is_young = |time: i64| time >= KEEP_FROM;
        let young = times[start..].iter().position(|time| is_young(*time)).map_or(times.len(), |at| start + at);
        let old = (start..young).rev().find(|at| times[*at] >= 0);
        let expected = old.map(|at| at as i64 + 1);
        prop_assert_eq!(expired_end(&times, start, if is_large { 40_000 } else { 10 }), expected);
    }
}

/// Tables that change between two reads.
struct Changing {
    before: MemorySnapshot,
    after: MemorySnapshot,
    /// Reads of the tables as they were before.
    reads_before: usize,
    reads: AtomicUsize,
}

impl Changing {
    fn now(&self) -> &MemorySnapshot {
        let is_before = self.reads.fetch_add(1, Ordering::Relaxed) < self.reads_before;
        if is_before { &self.before } else { &self.after }
    }
}

impl TableReader for Changing {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.now().get(table, key)
    }

    fn before(&self, table: TableId, key_exclusive: &[u8]) -> Result<Option<Row>, StateError> {
        self.now().before(table, key_exclusive)
    }

    fn scan(
        &self,
        table: TableId,
        from: &[u8],
        to_exclusive: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>, StateError> {
        self.now().scan(table, from, to_exclusive, limit)
    }
}

/// An administrator deletes records while retention by size looks: it must not take what is left for too large.
#[test]
fn a_log_start_that_moves_meanwhile_does_not_make_what_is_left_too_large() {
    for log_start in 1..=10 {
        let mut log = Log::new();
        for _ in 0..10 {
            log.append(1, 1_000);
        }
        let before = log.tables().snapshot();
        log.start_at(log_start);
        log.append(1, 1_000);
        log.append(1, 1_000);
        let after = log.tables().snapshot();
        for reads_before in 0..12 {
            let reads = AtomicUsize::new(0);
            let tables = Changing { before: before.clone(), after: after.clone(), reads_before, reads };
            let kept = reader::find_batch_by_size(&tables, TP, 1 << 30).unwrap().expect("there are batches");
            assert!(kept.base_offset <= Offset(log_start), "{kept:?} from {log_start}, {reads_before} reads before");
        }
    }
}
