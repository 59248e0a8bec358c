//! The first sequence of each producer that was refused and that the state does not know.
//!
//! Why: a producer that the state does not know may begin at any sequence, and in `async` modes the first batch of a
//! term may be ahead. When batch 0 was refused, its producer has sent batch 1 already. Without this note batch 1 would
//! be taken as the first one, and the retry of batch 0 as a duplicate: a lost record.

use std::collections::BTreeMap;

use duolog_state::sequence;
use duolog_types::{ProducerEpoch, ProducerId, TopicPartition};

use super::producer::Claim;

/// Notes at most; when full all are forgotten, and the state alone decides, as in Kafka.
const NOTES_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct RefusedSequences {
    first: BTreeMap<(TopicPartition, ProducerId), (ProducerEpoch, i32)>,
}

impl RefusedSequences {
    /// A batch was refused. The earliest one of the newest epoch is kept: a later run may have been refused first.
    pub(super) fn note(&mut self, key: (TopicPartition, ProducerId), claim: &Claim) {
        if self.first.len() >= NOTES_MAX {
            self.first.clear();
        }
        let noted = self.first.entry(key).or_insert((claim.epoch, claim.base_sequence));
        let is_earlier = noted.0 == claim.epoch && sequence::is_before(claim.base_sequence, noted.1);
        if is_earlier || noted.0 < claim.epoch {
            *noted = (claim.epoch, claim.base_sequence);
        }
    }

    /// The sequence that has to come before this batch, if one is known.
    pub(super) fn missing_before(&self, key: (TopicPartition, ProducerId), claim: &Claim) -> Option<i32> {
        self.first
            .get(&key)
            .filter(|(epoch, first)| *epoch == claim.epoch && sequence::is_before(*first, claim.base_sequence))
            .map(|(_, first)| *first)
    }

    /// Whether the batch is the earliest one that was refused.
    pub(super) fn is_noted(&self, key: (TopicPartition, ProducerId), claim: &Claim) -> bool {
        self.first.get(&key) == Some(&(claim.epoch, claim.base_sequence))
    }

    /// A batch of the producer was accepted.
    pub(super) fn forget(&mut self, key: (TopicPartition, ProducerId)) {
        self.first.remove(&key);
    }

    pub(super) fn clear(&mut self) {
        self.first.clear();
    }
}
