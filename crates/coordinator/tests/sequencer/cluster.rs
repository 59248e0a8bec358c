//! A cluster of one around the sequencer: a log, the real judge as append hook, the real state machine.

use std::collections::{BTreeMap, VecDeque};

use duolog_coordinator::sequencer::{
    Answer, EndItem, HiddenEnd, Output, ProduceItem, ProduceRefusal, Proposal, Reply, Sequencer, TableState, WaiterId,
};
use duolog_record::entry::{Address, EntryView, Hidden, HiddenReason};
use duolog_record::{BatchBuilder, RecordBatch};
use duolog_state::command::PartitionCommand;
use duolog_state::run::{PendingEnds, RunBarrier, RunJudge, Verdict};
use duolog_state::{AppliedEntry, Command, EntryKind, Machine, MemoryTables, Response, reader};
use duolog_types::{
    Durability, FlushWish, LogIndex, Offset, ProducerEpoch, ProducerId, Term, TimestampMs, TopicConfig, TopicId,
    TopicPartition,
};

pub const TOPIC: TopicId = TopicId([5; 16]);
pub const PARTITIONS: u32 = 2;
pub const SYNC: Durability = Durability::ALL[0];
pub const ASYNC: Durability = Durability::ALL[3];

pub fn tp(partition: u32) -> TopicPartition {
    TopicPartition { topic: TOPIC, partition }
}

/// A producer's place: id, epoch, base sequence.
pub type Stamp = (i64, i16, i32);

pub fn batch(stamp: Option<Stamp>, count: u32, value_bytes: usize) -> RecordBatch {
    let mut batch = BatchBuilder::new();
    if let Some((id, epoch, sequence)) = stamp {
        batch = batch.producer(ProducerId(id), ProducerEpoch(epoch), sequence);
    }
    let value = vec![0; value_bytes];
    for _ in 0..count {
        batch.push(TimestampMs(1), None, Some(&value)).unwrap();
    }
    batch.build().unwrap()
}

/// A broker group of one replica around the sequencer.
pub struct Cluster {
    pub sequencer: Sequencer,
    pub term: Term,
    pub machine: Machine<MemoryTables>,
    pub log: Vec<AppliedEntry>,
    /// Judge and log ends of the append hook, from the barrier's apply on.
    pub hook: Option<(RunJudge, BTreeMap<TopicPartition, Offset>)>,
    pub proposals: VecDeque<Proposal>,
    pub next_waiter: u64,
    pub answers: BTreeMap<WaiterId, Answer>,
    pub ahead: usize,
}

impl Cluster {
    /// Topic and partitions exist; the sequencer is stopped.
    pub fn new() -> Self {
        let mut cluster = Self {
            sequencer: Sequencer::new(),
            term: Term(0),
            machine: Machine::open(MemoryTables::new()).unwrap(),
            log: Vec::new(),
            hook: None,
            proposals: VecDeque::new(),
            next_waiter: 0,
            answers: BTreeMap::new(),
            ahead: 0,
        };
        let upsert = PartitionCommand::UpsertTopic {
            topic_id: TOPIC,
            catalog_version: 1,
            partitions: (0..PARTITIONS).collect(),
            config: TopicConfig::default(),
        };
        cluster.append(EntryKind::Command, Command::Partitions(upsert).encode());
        cluster.apply(1);
        cluster
    }

    /// As [`Cluster::new`], leading in term 1 with an open run.
    pub fn leading() -> Self {
        let mut cluster = Self::new();
        cluster.elect(1);
        cluster.settle();
        cluster
    }

    pub fn elect(&mut self, term: u64) {
        self.term = Term(term);
        self.hook = None;
        let output = self.sequencer.start(self.term, 0);
        self.take(output);
    }

    pub fn take(&mut self, output: Output) {
        assert_eq!(output.failed, None);
        for Reply { waiter, answer } in output.replies {
            let before = self.answers.insert(waiter, answer);
            assert_eq!(before, None, "{waiter:?} was answered twice, now {answer:?}");
        }
        self.ahead += output.ahead.len();
        self.proposals.extend(output.proposals);
    }

    pub fn submit(&mut self, partition: u32, stamp: Option<Stamp>, count: u32, durability: Durability) -> WaiterId {
        self.submit_batch(partition, batch(stamp, count, 10), durability)
    }

    pub fn submit_batch(&mut self, partition: u32, batch: RecordBatch, durability: Durability) -> WaiterId {
        self.submit_item(partition, batch, None, durability)
    }

    pub fn hide(&mut self, partition: u32, reason: HiddenReason) -> WaiterId {
        let hidden = Hidden { reason, time: TimestampMs(50) };
        self.submit_item(partition, batch(None, 1, 10), Some(hidden), SYNC)
    }

    fn submit_item(
        &mut self,
        partition: u32,
        batch: RecordBatch,
        hidden: Option<Hidden>,
        durability: Durability,
    ) -> WaiterId {
        let waiter = self.new_waiter();
        let item = ProduceItem {
            waiter,
            partition: tp(partition),
            batch,
            hidden,
            durability,
            flush: FlushWish::WithinMs(100),
            flush_records: None,
            log_append_time: None,
        };
        let output = self.sequencer.submit(item);
        self.take(output);
        waiter
    }

    pub fn end(&mut self, partition: u32, (address, term): (Address, Term), end: HiddenEnd) -> WaiterId {
        let waiter = self.new_waiter();
        let item = EndItem {
            waiter,
            partition: tp(partition),
            address,
            term,
            end,
            now: TimestampMs(60),
            keep_until: TimestampMs(90),
            durability: SYNC,
            flush: FlushWish::WithinMs(100),
            flush_records: None,
        };
        let output = self.sequencer.submit(item);
        self.take(output);
        waiter
    }

    fn new_waiter(&mut self) -> WaiterId {
        let waiter = WaiterId(self.next_waiter);
        self.next_waiter += 1;
        waiter
    }

    /// What names a hidden batch, once its producer knows where it lies.
    pub fn handle(&self, waiter: WaiterId) -> Option<(Address, Term)> {
        match self.answers.get(&waiter)? {
            Answer::WaitFor { term, index, produced, .. } => {
                Some((Address { index: *index, slot: produced.hidden_slot? }, *term))
            }
            Answer::Done(_) | Answer::Refused(_) => None,
        }
    }

    pub fn propose(&mut self) {
        if self.sequencer.ready_to_propose() {
            let tables = self.machine.tables().clone();
            let output = self.sequencer.propose(&TableState(&tables));
            self.take(output);
        }
    }

    pub fn append(&mut self, kind: EntryKind, body: bytes::Bytes) -> LogIndex {
        let index = LogIndex(self.log.len() as u64);
        self.log.push(AppliedEntry { index, term: self.term, kind, body });
        index
    }

    /// Raft takes or refuses the oldest proposal.
    pub fn deliver(&mut self, is_taken: bool) {
        match self.proposals.pop_front() {
            None => {}
            Some(Proposal::Barrier(barrier)) if is_taken => {
                self.append(EntryKind::RunBarrier, barrier.encode());
            }
            Some(Proposal::Barrier(barrier)) => {
                self.sequencer.barrier_refused(barrier);
                let output = self.sequencer.reopen();
                self.take(output);
            }
            Some(Proposal::Batches(entry)) => {
                let counts = is_taken && self.append_batches(&entry.body);
                let output = if counts {
                    let index = LogIndex(self.log.len() as u64 - 1);
                    self.sequencer.proposal_appended(entry.header, index)
                } else {
                    self.sequencer.proposal_refused(entry.header)
                };
                self.take(output);
            }
        }
    }

    /// The append hook: whether the entry counts.
    pub fn append_batches(&mut self, body: &bytes::Bytes) -> bool {
        self.append(EntryKind::Batches, body.clone());
        let Some((judge, ends)) = &mut self.hook else {
            return false;
        };
        let view = EntryView::parse(body.clone()).unwrap();
        let tables = self.machine.tables();
        let mut pending = PendingEnds::new(|tp| match ends.get(&tp) {
            Some(end) => Ok(Some(*end)),
            None => reader::log_end(tables, tp),
        });
        let verdict = judge.batches(self.term, view.header(), view.slots(), &mut pending).unwrap();
        let counts = matches!(verdict, Verdict::Counts { .. });
        if counts {
            let placed = view.slots().filter(|slot| slot.takes_offsets());
            ends.extend(placed.map(|slot| (slot.partition, slot.end_offset())));
        }
        counts
    }

    pub fn apply(&mut self, count: usize) {
        let from = self.machine.applied().map_or(0, |applied| applied.index.0 as usize + 1);
        for entry in self.log[from..].iter().take(count).cloned().collect::<Vec<_>>() {
            let applied = self.machine.apply(std::slice::from_ref(&entry)).unwrap();
            self.sequencer.applied(entry.index);
            if entry.kind == EntryKind::RunBarrier && applied.responses == [Response::RunOpened] {
                self.hook = Some((self.machine.judge(), BTreeMap::new()));
                let output = self.sequencer.barrier_applied(RunBarrier::decode(&entry.body).unwrap());
                self.take(output);
            }
        }
    }

    /// A new term: what is not applied may be lost, the node itself leads again.
    pub fn fail_over(&mut self, kept: usize) {
        let output = self.sequencer.stop();
        self.take(output);
        self.proposals.clear();
        let applied = self.machine.applied().map_or(0, |applied| applied.index.0 as usize + 1);
        self.log.truncate(applied + kept);
        // A new leader applies everything that it has before it serves.
        self.apply(usize::MAX);
        self.elect(self.term.0 + 1);
    }

    /// Lets everything happen, without refusals.
    pub fn settle(&mut self) {
        loop {
            while !self.proposals.is_empty() {
                self.deliver(true);
            }
            self.apply(usize::MAX);
            self.propose();
            if self.proposals.is_empty() && !self.sequencer.ready_to_propose() {
                return;
            }
        }
    }

    pub fn base_offset(&self, waiter: WaiterId) -> Option<i64> {
        match self.answers.get(&waiter)? {
            Answer::WaitFor { produced, .. } | Answer::Done(produced) => Some(produced.base_offset.0),
            Answer::Refused(_) => None,
        }
    }

    pub fn refusal(&self, waiter: WaiterId) -> Option<ProduceRefusal> {
        match self.answers.get(&waiter)? {
            Answer::Refused(refusal) => Some(*refusal),
            _ => None,
        }
    }

    /// Whether the producer was told to retry: refused, or what it waited for was lost with its term.
    pub fn has_failed(&self, waiter: WaiterId) -> bool {
        match self.answers.get(&waiter) {
            Some(Answer::Refused(_)) => true,
            Some(Answer::WaitFor { term, index, .. }) => {
                self.log.get(index.0 as usize).is_none_or(|entry| entry.term != *term)
            }
            Some(Answer::Done(_)) | None => false,
        }
    }

    /// Offsets at which hidden batches became visible.
    pub fn references(&self, partition: u32) -> Vec<(i64, Address)> {
        let batches = reader::scan_batches(self.machine.tables(), tp(partition), Offset(0), 100_000).unwrap();
        let references = batches.iter().filter(|batch| batch.row.is_reference());
        let payload = |row: &duolog_state::rows::BatchRow| Address { index: row.index, slot: row.slot };
        references.map(|batch| (batch.base_offset.0, payload(&batch.row))).collect()
    }

    /// All offsets of a partition, and the log index at which each lies; of a reference that of its payload.
    pub fn offsets(&self, partition: u32) -> Vec<(i64, LogIndex)> {
        let batches = reader::scan_batches(self.machine.tables(), tp(partition), Offset(0), 100_000).unwrap();
        let of = |batch: &reader::Batch| {
            let index = batch.row.index;
            (batch.base_offset.0..batch.end_offset().0).map(move |offset| (offset, index))
        };
        batches.iter().flat_map(of).collect()
    }

    /// What is stored of a partition: offset, log index, producer stamp; of a reference those of its payload.
    pub fn stored(&self, partition: u32) -> Vec<(i64, LogIndex, Stamp)> {
        let batches = reader::scan_batches(self.machine.tables(), tp(partition), Offset(0), 100_000).unwrap();
        let stamp = |batch: &reader::Batch| {
            let view = EntryView::parse(self.log[batch.row.index.0 as usize].body.clone()).unwrap();
            let slot = view.slot(batch.row.slot).unwrap();
            (slot.producer_id.0, slot.producer_epoch.0, slot.base_sequence)
        };
        batches.iter().map(|batch| (batch.base_offset.0, batch.row.index, stamp(batch))).collect()
    }
}
