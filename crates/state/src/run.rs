//! Which entries of the sequencer count: the one judge, for apply and for the leader's append hook (DESIGN 3.2).
//!
//! A *run* is (term, n). Its leader opens it with a barrier and numbers its entries 0, 1, 2 …
//!
//! ```text
//! log:   barrier(t=3,n=0)   #0   #1   #3   barrier(t=3,n=1)   #0   barrier(t=3,n=0)   #1
//! judge: opens run          ✓    ✓    ✗    opens run          ✓    ✗ older             ✓
//!                                     └ #2 was refused by Raft: the rest of the run does not count
//! ```
//!
//! An entry counts only if its run's term is the entry's own term, its run is the open one, its number is the next one,
//! and every base offset equals the log end offset. Slots that take no offsets (hidden batches and their closes) do not
//! touch log ends. A slot for a partition that is unknown or deleted here is void by itself and spoils nothing. The
//! judgement depends on nothing but the log.

use std::collections::BTreeMap;

use bytes::Bytes;
use duolog_record::entry::{EntryHeader, Slot};
use duolog_types::{Offset, Term, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::StateError;
use crate::codec::{self, versioned};

/// The body of an entry of kind `RunBarrier`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunBarrier {
    /// The term whose leader opens the run.
    pub term: Term,
    /// The run within the term.
    pub run: u64,
}

impl RunBarrier {
    /// The body of an entry.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        Bytes::from(codec::encode(self))
    }

    /// Reads the body of an entry.
    ///
    /// # Errors
    /// `UnknownVersion`, `Undecodable`.
    pub fn decode(body: &[u8]) -> Result<Self, StateError> {
        codec::decode(body)
    }
}

/// The open run. `next_number` entries of it have counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRun {
    /// Its barrier.
    pub barrier: RunBarrier,
    /// The number of the next entry that may count.
    pub next_number: u64,
}
versioned!(RunBarrier = 1, OpenRun = 1);

/// Why an entry does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The entry's term is not its run's: another leader's proposal that came through late.
    OtherTerm,
    /// Its run is not the open one.
    RunNotOpen,
    /// An earlier entry of the run is missing.
    WrongNumber {
        /// The number of the entry.
        found: u64,
        /// The number that could count.
        expected: u64,
    },
    /// A base offset is not the log end offset.
    WrongOffset {
        /// The slot.
        slot: u32,
        /// Its base offset.
        found: Offset,
        /// The log end offset.
        expected: Offset,
    },
}

/// What the judge says of an entry of kind `Batches`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It counts, apart from these slots (mostly none).
    Counts {
        /// Slots whose partition is unknown or deleted here, ascending.
        void_slots: Vec<u32>,
    },
    /// It does not count.
    Refused(Refusal),
}

/// The log end offsets that the judge compares with and moves.
pub trait LogEnds {
    /// The log end offset; `None` when the partition is unknown or deleted here.
    ///
    /// # Errors
    /// When the tables fail.
    fn log_end(&mut self, partition: TopicPartition) -> Result<Option<Offset>, StateError>;

    /// An entry that counts moved the log end offset.
    fn advance(&mut self, partition: TopicPartition, end: Offset);
}

/// The judge. Its only state is the open run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RunJudge {
    open: Option<OpenRun>,
}

impl RunJudge {
    /// A judge that goes on where another one stood.
    #[must_use]
    pub fn new(open: Option<OpenRun>) -> Self {
        Self { open }
    }

    /// The open run.
    #[must_use]
    pub fn open(&self) -> Option<OpenRun> {
        self.open
    }

    /// Judges a barrier in an entry of term `entry_term`; whether it opens its run.
    pub fn barrier(&mut self, entry_term: Term, barrier: RunBarrier) -> bool {
        let opens = barrier.term == entry_term && self.open.is_none_or(|open| barrier > open.barrier);
        if opens {
            self.open = Some(OpenRun { barrier, next_number: 0 });
        }
        opens
    }

    /// Judges an entry of kind `Batches`; when it counts, moves the run and the log ends.
    ///
    /// # Errors
    /// When `ends` fails; then nothing was moved.
    pub fn batches(
        &mut self,
        entry_term: Term,
        header: EntryHeader,
        slots: impl Iterator<Item = Slot>,
        ends: &mut impl LogEnds,
    ) -> Result<Verdict, StateError> {
        let open = match self.check_run(entry_term, header) {
            Ok(open) => open,
            Err(refusal) => return Ok(Verdict::Refused(refusal)),
        };
        let (moved, void_slots) = match check_offsets(slots, ends)? {
            Ok(checked) => checked,
            Err(refusal) => return Ok(Verdict::Refused(refusal)),
        };
        for (partition, end) in moved {
            ends.advance(partition, end);
        }
        self.open = Some(OpenRun { next_number: open.next_number + 1, ..open });
        Ok(Verdict::Counts { void_slots })
    }

    fn check_run(&self, entry_term: Term, header: EntryHeader) -> Result<OpenRun, Refusal> {
        if header.run_term != entry_term {
            return Err(Refusal::OtherTerm);
        }
        let barrier = RunBarrier { term: header.run_term, run: header.run };
        let open = self.open.filter(|open| open.barrier == barrier).ok_or(Refusal::RunNotOpen)?;
        if header.number != open.next_number {
            return Err(Refusal::WrongNumber { found: header.number, expected: open.next_number });
        }
        Ok(open)
    }
}

type Checked = (BTreeMap<TopicPartition, Offset>, Vec<u32>);

/// Follows the entry's batches per partition without moving anything yet.
fn check_offsets(
    slots: impl Iterator<Item = Slot>,
    ends: &mut impl LogEnds,
) -> Result<Result<Checked, Refusal>, StateError> {
    let mut moved = BTreeMap::new();
    let mut void_slots = Vec::new();
    for (slot, number) in slots.zip(0_u32..) {
        let end = match moved.get(&slot.partition) {
            Some(end) => Some(*end),
            None => ends.log_end(slot.partition)?,
        };
        match end {
            None => void_slots.push(number),
            Some(_) if !slot.takes_offsets() => {}
            // The sequencer never makes one; it would share its base offset with the next batch.
            Some(_) if slot.record_count == 0 => void_slots.push(number),
            Some(end) if end != slot.base_offset => {
                return Ok(Err(Refusal::WrongOffset { slot: number, found: slot.base_offset, expected: end }));
            }
            Some(_) => {
                moved.insert(slot.partition, slot.end_offset());
            }
        }
    }
    Ok(Ok((moved, void_slots)))
}

/// Log ends of entries that are appended and not yet applied, over a look-up of the applied ones.
///
/// Made when the run's barrier is applied: then nothing of an earlier run is in flight, so at the first use of a
/// partition the applied log end offset is exact, and from then on this map follows every entry of the run.
pub struct PendingEnds<F> {
    pending: BTreeMap<TopicPartition, Offset>,
    applied: F,
}

impl<F> PendingEnds<F>
where
    F: FnMut(TopicPartition) -> Result<Option<Offset>, StateError>,
{
    /// Nothing pending; `applied` looks up the applied log end offset.
    pub fn new(applied: F) -> Self {
        Self { pending: BTreeMap::new(), applied }
    }

    /// Forgets a partition that was deleted.
    pub fn forget(&mut self, partition: TopicPartition) {
        self.pending.remove(&partition);
    }
}

impl<F> LogEnds for PendingEnds<F>
where
    F: FnMut(TopicPartition) -> Result<Option<Offset>, StateError>,
{
    fn log_end(&mut self, partition: TopicPartition) -> Result<Option<Offset>, StateError> {
        if let Some(end) = self.pending.get(&partition) {
            return Ok(Some(*end));
        }
        // A partition that is unknown now may be created later, so only a known end is remembered.
        (self.applied)(partition)
    }

    fn advance(&mut self, partition: TopicPartition, end: Offset) {
        self.pending.insert(partition, end);
    }
}

#[cfg(test)]
mod tests {
    use duolog_record::entry::{Address, Close, Closing, Hidden, HiddenReason, NO_OFFSET, Payload, SlotKind};
    use duolog_types::{Durability, LogIndex, ProducerEpoch, ProducerId, TimestampMs, TopicId};

    use super::*;

    fn tp(partition: u32) -> TopicPartition {
        TopicPartition { topic: TopicId([1; 16]), partition }
    }

    fn slot(partition: u32, base_offset: i64, record_count: u32) -> Slot {
        Slot {
            kind: SlotKind::Batch,
            partition: tp(partition),
            base_offset: Offset(base_offset),
            record_count,
            start: 0,
            end: 0,
            max_timestamp: TimestampMs(0),
            durability: Durability::default(),
            flags: 0,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(-1),
            base_sequence: -1,
        }
    }

    fn header(term: u64, run: u64, number: u64) -> EntryHeader {
        EntryHeader { run_term: Term(term), run, number }
    }

    /// Partitions 0..10 exist and are empty.
    fn ends() -> PendingEnds<impl FnMut(TopicPartition) -> Result<Option<Offset>, StateError>> {
        PendingEnds::new(|tp: TopicPartition| Ok((tp.partition < 10).then_some(Offset(0))))
    }

    fn barrier(term: u64, run: u64) -> RunBarrier {
        RunBarrier { term: Term(term), run }
    }

    fn counts() -> Verdict {
        Verdict::Counts { void_slots: Vec::new() }
    }

    #[test]
    fn a_run_counts_in_order_and_a_gap_refuses_the_rest() {
        let (mut judge, mut ends) = (RunJudge::default(), ends());
        assert!(judge.barrier(Term(3), barrier(3, 0)));
        for (entry, expected) in [
            (header(3, 0, 0), counts()),
            (header(3, 0, 1), counts()),
            (header(3, 0, 3), Verdict::Refused(Refusal::WrongNumber { found: 3, expected: 2 })),
            (header(3, 0, 1), Verdict::Refused(Refusal::WrongNumber { found: 1, expected: 2 })),
            (header(3, 1, 2), Verdict::Refused(Refusal::RunNotOpen)),
            (header(2, 0, 2), Verdict::Refused(Refusal::OtherTerm)),
        ] {
            let found = judge.batches(Term(3), entry, std::iter::empty(), &mut ends).unwrap();
            assert_eq!(found, expected, "{entry:?}");
        }
    }

    #[test]
    fn only_a_newer_run_of_the_entrys_own_term_opens() {
        let mut judge = RunJudge::default();
        for (entry_term, barrier, opens) in [
            (2, barrier(3, 0), false),
            (3, barrier(3, 1), true),
            (3, barrier(3, 1), false),
            (3, barrier(3, 0), false),
            (3, barrier(3, 2), true),
            (4, barrier(4, 0), true),
            (4, barrier(3, 9), false),
        ] {
            assert_eq!(judge.barrier(Term(entry_term), barrier), opens, "{barrier:?} in term {entry_term}");
        }
    }

    #[test]
    fn base_offsets_follow_the_log_end_within_and_between_entries() {
        let (mut judge, mut ends) = (RunJudge::default(), ends());
        judge.barrier(Term(1), barrier(1, 0));
        let mut judged = |number, slots: Vec<Slot>| {
            judge.batches(Term(1), header(1, 0, number), slots.into_iter(), &mut ends).unwrap()
        };
        assert_eq!(judged(0, vec![slot(0, 0, 2), slot(1, 0, 1), slot(0, 2, 3)]), counts());
        let refusal = Refusal::WrongOffset { slot: 1, found: Offset(4), expected: Offset(5) };
        assert_eq!(judged(1, vec![slot(1, 1, 1), slot(0, 4, 1)]), Verdict::Refused(refusal));
        assert_eq!(judged(1, vec![slot(1, 1, 1), slot(0, 5, 1)]), counts());
    }

    #[test]
    fn a_reference_takes_an_offset_and_a_hidden_batch_none() {
        let (mut judge, mut ends) = (RunJudge::default(), ends());
        judge.barrier(Term(1), barrier(1, 0));
        let address = Address { index: LogIndex(3), slot: 0 };
        let without = |partition, kind| Slot { kind, ..slot(partition, NO_OFFSET.0, 1) };
        let hidden = SlotKind::Hidden(Hidden { reason: HiddenReason::Half, time: TimestampMs(5) });
        let close = SlotKind::Close(Close { address, closing: Closing::Recalled, keep_until: TimestampMs(6) });
        let payload = SlotKind::Reference(Payload { address, term: Term(1), start: 112, size_bytes: 70 });
        let reference = |offset| Slot { kind: payload, ..slot(0, offset, 1) };
        let slots = vec![
            slot(0, 0, 2),
            without(0, hidden),
            without(99, hidden),
            reference(2),
            without(0, close),
            slot(0, 3, 1),
        ];
        let found = judge.batches(Term(1), header(1, 0, 0), slots.into_iter(), &mut ends).unwrap();
        assert_eq!(found, Verdict::Counts { void_slots: vec![2] });
        assert_eq!(ends.log_end(tp(0)), Ok(Some(Offset(4))));
        let again = judge.batches(Term(1), header(1, 0, 1), [reference(2)].into_iter(), &mut ends).unwrap();
        let refusal = Refusal::WrongOffset { slot: 0, found: Offset(2), expected: Offset(4) };
        assert_eq!(again, Verdict::Refused(refusal));
    }

    #[test]
    fn a_batch_for_an_unknown_partition_is_void_by_itself() {
        let (mut judge, mut ends) = (RunJudge::default(), ends());
        judge.barrier(Term(1), barrier(1, 0));
        let slots = vec![slot(0, 0, 1), slot(99, 7, 1), slot(0, 1, 1)];
        let found = judge.batches(Term(1), header(1, 0, 0), slots.into_iter(), &mut ends).unwrap();
        assert_eq!(found, Verdict::Counts { void_slots: vec![1] });
        assert_eq!(ends.log_end(tp(0)), Ok(Some(Offset(2))));
    }
}
