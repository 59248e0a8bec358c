//! Bugs that the checkers must find.

use duolog_record::entry::HiddenReason;
use duolog_replication::testing::Early;
use duolog_state::rows::{HiddenRow, HiddenState};
use duolog_state::{TableId, WriteSet, codec};

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Plant {
    /// fdatasync answers and does nothing.
    LyingDisk,
    /// A node that lost power votes as if nothing had happened: the guard is told the same boot id.
    NoGuard,
    /// A leader that restarts goes on as leader of its term: openraft's default.
    LeaderRestore,
    /// Producers are answered when the leader has written their records, whatever the mode.
    EarlyAck,
    /// The state is ahead of the log: entries are applied that are not flushed here.
    EarlyApply,
    /// A commit of offsets is answered when it is proposed.
    EarlyCommit,
    /// Deliveries of single messages and their acknowledgements are answered when they are proposed.
    EarlyDelivery,
    /// A new leader knows no idempotent producer.
    ForgottenProducers,
    /// Some half messages are open again after their commit.
    ForgottenDecision,
}

impl Plant {
    /// What is done too early.
    pub fn early(plant: Option<Self>) -> Early {
        Early {
            acks: plant == Some(Self::EarlyAck),
            apply: plant == Some(Self::EarlyApply),
            offset_commits: plant == Some(Self::EarlyCommit),
            deliveries: plant == Some(Self::EarlyDelivery),
        }
    }
}

/// What is left of changes of the state when some commits of half messages are forgotten, the same ones by every replica.
pub fn forget_decisions(changes: &WriteSet) -> WriteSet {
    let is_forgotten = |table: TableId, key: &[u8], value: Option<&[u8]>| {
        let is_one_in_eight = key.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).is_multiple_of(8);
        let row = value.filter(|_| table == TableId::HiddenMessages && is_one_in_eight);
        let state = row.and_then(|bytes| codec::decode::<HiddenRow>(bytes).ok()).map(|row| row.state);
        matches!(state, Some(HiddenState::Visible { reason: HiddenReason::Half, .. }))
    };
    let is_any_forgotten = changes.rows().any(|(table, key, value)| is_forgotten(table, key, value));
    let mut left = WriteSet::default();
    for (table, from, to_exclusive) in changes.ranges() {
        left.delete_range(*table, from.clone(), to_exclusive.clone());
    }
    for (table, key, value) in changes.rows() {
        match value {
            _ if is_forgotten(table, key, value) => {}
            Some(value) => left.put(table, key.to_owned(), value.to_owned()),
            // Their producers are asked again.
            None if is_any_forgotten && table == TableId::Timers => {}
            None => left.delete(table, key.to_owned()),
        }
    }
    left
}
