//! Values of the tables about hidden batches: half and delayed messages, before and after they became visible.

use duolog_record::BatchFilter;
use duolog_record::entry::{Address, Hidden, HiddenReason, Payload, Slot};
use duolog_types::{Offset, Term, TimestampMs, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::StateError;
use crate::codec::{self, versioned};
use crate::keys::TimerKind;

/// A hidden batch. As long as there is a row, its entry must stay in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiddenRow {
    /// The term of its entry.
    pub term: Term,
    /// First byte of the batch within the entry's body.
    pub start: u32,
    /// Size of the batch in bytes.
    pub size_bytes: u32,
    /// What has become of it.
    pub state: HiddenState,
    /// What its records may hold.
    pub filter: BatchFilter,
}

/// What has become of a hidden batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HiddenState {
    /// A half message: its transaction has not ended.
    Half {
        /// When its producer is asked next.
        check_at: TimestampMs,
        /// How often its producer was asked.
        checks: u32,
    },
    /// A delayed message: its time has not come.
    Delayed {
        /// When it becomes visible.
        deliver_at: TimestampMs,
    },
    /// It is visible. The row lives as long as its row in the consume queue.
    Visible {
        /// Why it was hidden.
        reason: HiddenReason,
        /// Its offset.
        offset: Offset,
    },
    /// Its transaction was rolled back; remembered for a while.
    RolledBack {
        /// When it may be forgotten.
        keep_until: TimestampMs,
    },
    /// Its producer never answered; kept for a while, so that it can be looked at.
    GivenUp {
        /// When it may be forgotten.
        keep_until: TimestampMs,
    },
}

/// The hidden batch that an offset of a partition stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReferenceRow(pub Address);

/// What becomes due at the key's time: something about a hidden batch of this partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimerRow(pub TopicPartition);

impl HiddenRow {
    /// Of a batch that was just stored.
    #[must_use]
    pub fn new(slot: &Slot, term: Term, hidden: Hidden, filter: BatchFilter) -> Self {
        let state = match hidden.reason {
            HiddenReason::Half => HiddenState::Half { check_at: hidden.time, checks: 0 },
            HiddenReason::Delayed => HiddenState::Delayed { deliver_at: hidden.time },
        };
        Self { term, start: slot.start, size_bytes: slot.size_bytes(), state, filter }
    }

    /// Reads a row of either version: nothing is known of the records in version 1.
    ///
    /// # Errors
    /// `UnknownVersion`, `Undecodable`.
    pub fn decode(row: &[u8]) -> Result<Self, StateError> {
        match row.first() {
            Some(1) => codec::decode_shorter(row, &BatchFilter::ANY),
            _ => codec::decode(row),
        }
    }

    /// What a reference to it says.
    #[must_use]
    pub fn payload(&self, address: Address) -> Payload {
        Payload { address, term: self.term, start: self.start, size_bytes: self.size_bytes }
    }
}

impl HiddenState {
    /// Its row among the timers; `None` when nothing becomes due.
    #[must_use]
    pub fn timer(&self) -> Option<(TimerKind, TimestampMs)> {
        match self {
            Self::Half { check_at, .. } => Some((TimerKind::CheckBack, *check_at)),
            Self::Delayed { deliver_at } => Some((TimerKind::Delivery, *deliver_at)),
            Self::Visible { .. } => None,
            Self::RolledBack { keep_until } | Self::GivenUp { keep_until } => Some((TimerKind::Expiry, *keep_until)),
        }
    }

    /// Why it is hidden, while it waits for its end.
    #[must_use]
    pub fn waiting(&self) -> Option<HiddenReason> {
        match self {
            Self::Half { .. } => Some(HiddenReason::Half),
            Self::Delayed { .. } => Some(HiddenReason::Delayed),
            Self::Visible { .. } | Self::RolledBack { .. } | Self::GivenUp { .. } => None,
        }
    }
}

versioned!(HiddenRow = 2, ReferenceRow = 1, TimerRow = 1);
