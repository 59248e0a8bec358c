//! The window of an idempotent producer in a partition, and the judgement of a batch against it.
//!
//! As Kafka's `ProducerAppendInfo` and `ProducerStateEntry`: the last five batches are remembered with their offsets,
//! and all that are in flight. Sequences wrap after `i32::MAX` to 0.

use std::collections::VecDeque;

use duolog_record::entry::EntryHeader;
use duolog_state::rows::ProducerRow;
use duolog_state::sequence;
use duolog_types::{AckPoint, ProducerEpoch, limits};

use super::Produced;

/// An idempotent producer's claim on a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) epoch: ProducerEpoch,
    pub(super) base_sequence: i32,
    pub(super) record_count: u32,
}

impl Claim {
    fn last_sequence(&self) -> i32 {
        sequence::last_of(self.base_sequence, self.record_count)
    }
}

/// A remembered batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WindowBatch {
    first_sequence: i32,
    last_sequence: i32,
    pub(super) produced: Produced,
    /// How it was sequenced, when this run did it.
    pub(super) origin: Option<Origin>,
}

/// The entry that carries a batch, and what its producer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) entry: EntryHeader,
    pub(super) ack_point: AckPoint,
}

/// Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProducerWindow {
    epoch: ProducerEpoch,
    batches: VecDeque<WindowBatch>,
}

/// What a batch is to its producer's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing is known of the producer: any sequence may begin (Kafka accepts it since KIP-360).
    New,
    /// It follows.
    Next,
    /// There is a gap before it; `last` is −1 when the epoch is new.
    Ahead { last: i32 },
    /// This batch again.
    Duplicate(WindowBatch),
    /// It lies before everything that is remembered.
    OlderDuplicate,
    /// It overlaps what was accepted, and is not one of the batches remembered.
    Overlap { last: i32 },
    /// Another producer took over.
    StaleEpoch { current: ProducerEpoch },
}

impl ProducerWindow {
    /// The window as the applied state has it.
    pub(super) fn of(row: ProducerRow) -> Option<Self> {
        let batches: VecDeque<_> = row
            .batches
            .into_iter()
            .map(|batch| WindowBatch {
                first_sequence: batch.first_sequence,
                last_sequence: batch.last_sequence,
                produced: Produced {
                    base_offset: batch.base_offset,
                    max_timestamp: batch.max_timestamp,
                    hidden_slot: None,
                },
                origin: None,
            })
            .collect();
        (!batches.is_empty()).then_some(Self { epoch: row.epoch, batches })
    }

    /// A window that begins with a batch.
    pub(super) fn new(claim: &Claim, produced: Produced, origin: Origin) -> Self {
        let mut window = Self { epoch: claim.epoch, batches: VecDeque::new() };
        window.push(claim, produced, origin, |_| true);
        window
    }

    /// Remembers a batch that was accepted; forgets old ones that are not `is_in_flight` any more.
    pub(super) fn push(
        &mut self,
        claim: &Claim,
        produced: Produced,
        origin: Origin,
        is_in_flight: impl Fn(EntryHeader) -> bool,
    ) {
        if claim.epoch != self.epoch {
            self.epoch = claim.epoch;
            self.batches.clear();
        }
        self.batches.push_back(WindowBatch {
            first_sequence: claim.base_sequence,
            last_sequence: claim.last_sequence(),
            produced,
            origin: Some(origin),
        });
        while self.batches.len() > limits::PRODUCER_BATCHES_REMEMBERED
            && !self.batches[0].origin.is_some_and(|origin| is_in_flight(origin.entry))
        {
            self.batches.pop_front();
        }
    }

    /// Whether a batch of it is in flight: then the window must stay.
    pub(super) fn is_in_flight(&self, is_in_flight: impl Fn(EntryHeader) -> bool) -> bool {
        self.batches.iter().any(|batch| batch.origin.is_some_and(|origin| is_in_flight(origin.entry)))
    }

    fn last_sequence(&self) -> i32 {
        self.batches.back().expect("a window is never empty").last_sequence
    }

    fn judge(&self, claim: &Claim) -> Verdict {
        if claim.epoch < self.epoch {
            return Verdict::StaleEpoch { current: self.epoch };
        }
        if claim.epoch > self.epoch {
            return if claim.base_sequence == 0 { Verdict::Next } else { Verdict::Ahead { last: -1 } };
        }
        let is_same = |batch: &&WindowBatch| {
            (batch.first_sequence, batch.last_sequence) == (claim.base_sequence, claim.last_sequence())
        };
        if let Some(duplicate) = self.batches.iter().find(is_same) {
            return Verdict::Duplicate(*duplicate);
        }
        let last = self.last_sequence();
        let expected = sequence::advance(last, 1);
        if claim.base_sequence == expected {
            Verdict::Next
        } else if !sequence::is_before(claim.base_sequence, expected) {
            Verdict::Ahead { last }
        } else if sequence::is_before(claim.last_sequence(), self.batches[0].first_sequence) {
            Verdict::OlderDuplicate
        } else {
            Verdict::Overlap { last }
        }
    }
}

/// Judges a batch against a window, if there is one.
pub(super) fn judge(window: Option<&ProducerWindow>, claim: &Claim) -> Verdict {
    window.map_or(Verdict::New, |window| window.judge(claim))
}

#[cfg(test)]
mod tests {
    use duolog_types::{Offset, Term, TimestampMs};

    use super::*;

    fn claim(epoch: i16, base_sequence: i32, record_count: u32) -> Claim {
        Claim { epoch: ProducerEpoch(epoch), base_sequence, record_count }
    }

    fn origin(number: u64) -> Origin {
        let entry = EntryHeader { run_term: Term(1), run: 0, number };
        Origin { entry, ack_point: AckPoint::Committed }
    }

    fn produced(base_offset: i64) -> Produced {
        Produced { base_offset: Offset(base_offset), max_timestamp: TimestampMs(0), hidden_slot: None }
    }

    /// Batches of 10 records from sequence `first`, in epoch 1.
    fn window(first: i32, count: usize) -> ProducerWindow {
        let mut window = ProducerWindow::new(&claim(1, first, 10), produced(0), origin(0));
        for number in 1..count {
            let base = sequence::advance(first, 10 * number as u32);
            window.push(&claim(1, base, 10), produced(10 * number as i64), origin(number as u64), |_| false);
        }
        window
    }

    #[test]
    fn each_kind_of_batch_is_told_from_the_others() {
        // Remembers 20..70 of 0..70.
        let window = window(0, 7);
        for (claim, expected) in [
            (claim(1, 70, 1), Verdict::Next),
            (claim(1, 71, 1), Verdict::Ahead { last: 69 }),
            (claim(1, 60, 10), Verdict::Duplicate(window.batches[4])),
            (claim(1, 20, 10), Verdict::Duplicate(window.batches[0])),
            (claim(1, 60, 5), Verdict::Overlap { last: 69 }),
            (claim(1, 65, 10), Verdict::Overlap { last: 69 }),
            (claim(1, 10, 10), Verdict::OlderDuplicate),
            (claim(1, 15, 10), Verdict::Overlap { last: 69 }),
            (claim(0, 70, 1), Verdict::StaleEpoch { current: ProducerEpoch(1) }),
            (claim(2, 0, 1), Verdict::Next),
            (claim(2, 1, 1), Verdict::Ahead { last: -1 }),
        ] {
            assert_eq!(window.judge(&claim), expected, "{claim:?}");
        }
        assert_eq!(judge(None, &claim(3, 99, 1)), Verdict::New);
    }

    #[test]
    fn sequences_wrap_around() {
        let window = window(i32::MAX - 14, 2);
        assert_eq!(window.last_sequence(), 4);
        assert_eq!(window.judge(&claim(1, 5, 1)), Verdict::Next);
        assert_eq!(window.judge(&claim(1, i32::MAX - 4, 10)), Verdict::Duplicate(window.batches[1]));
        assert_eq!(window.judge(&claim(1, 6, 1)), Verdict::Ahead { last: 4 });
        assert_eq!(window.judge(&claim(1, i32::MAX - 24, 10)), Verdict::OlderDuplicate);
    }

    #[test]
    fn what_is_in_flight_is_remembered_beyond_five() {
        let mut window = window(0, 1);
        for number in 1..9 {
            window.push(&claim(1, 10 * number, 10), produced(0), origin(number as u64), |_| true);
        }
        assert_eq!(window.batches.len(), 9);
        window.push(&claim(1, 90, 10), produced(0), origin(9), |entry| entry.number >= 3);
        assert_eq!(window.batches.len(), 7);
    }
}
