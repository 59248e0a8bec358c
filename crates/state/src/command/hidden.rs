//! Commands about hidden batches. Their ends are slots of the sequencer, so that none ends twice.

use duolog_record::entry::Address;
use duolog_types::{TimestampMs, TopicPartition};
use serde::{Deserialize, Serialize};

/// A change of what is known of hidden batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HiddenCommand {
    /// Producers of half messages were asked. Answered with those that nobody else has counted meanwhile.
    CheckBack {
        /// The half messages.
        due: Vec<CheckBack>,
    },
    /// Forgets what was rolled back or given up and whose time is over; the oldest first, not all at once.
    Forget {
        /// The leader's clock.
        now: TimestampMs,
    },
    /// A leader looks for producers of half messages that are due, and nobody else does so meanwhile. It counts as no question.
    /// Answered as [`HiddenCommand::CheckBack`].
    Claim {
        /// The half messages.
        due: Vec<CheckBack>,
    },
}

/// A half message whose producer is to be asked, or was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckBack {
    /// The partition that it is for.
    pub partition: TopicPartition,
    /// Where it lies.
    pub address: Address,
    /// How often its producer had been asked, as the proposer saw it.
    pub checks: u32,
    /// When the producer is to be asked again.
    pub next: TimestampMs,
}
