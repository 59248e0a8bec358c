//! Bugs that the checkers must find.

use duolog_record::entry::{Address, HiddenReason};
use duolog_replication::testing::Early;
use duolog_state::keys::{self, TimerKind};
use duolog_state::rows::{HiddenRow, HiddenState};
use duolog_state::{StateError, TableId, WriteSet};
use duolog_types::TimestampMs;

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
    /// A leader answers although no quorum has confirmed it lately: its lease is over.
    EarlyLease,
    /// Changes of the members are answered when they are proposed.
    EarlyChange,
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
            leases: plant == Some(Self::EarlyLease),
            changes: plant == Some(Self::EarlyChange),
        }
    }
}

/// What is left of changes of the state when some commits of half messages are forgotten, the same ones by every replica.
pub fn forget_decisions(changes: &WriteSet) -> WriteSet {
    let forgotten: Vec<Address> =
        changes.rows().filter_map(|(table, key, value)| self::forgotten(table, key, value)).collect();
    let is_forgotten = |address: Result<Address, StateError>| address.is_ok_and(|address| forgotten.contains(&address));
    let mut left = WriteSet::default();
    for (table, from, to_exclusive) in changes.ranges() {
        left.delete_range(*table, from.clone(), to_exclusive.clone());
    }
    for (table, key, value) in changes.rows() {
        match value {
            Some(_) if self::forgotten(table, key, value).is_some() => {}
            Some(value) => left.put(table, key.to_owned(), value.to_owned()),
            // Their producers are asked again.
            None if is_check_back(table, key) && is_forgotten(keys::split_timer(key).map(|(_, address)| address)) => {}
            None => left.delete(table, key.to_owned()),
        }
    }
    left
}

/// Where the half message lies whose commit is forgotten, if this change is one.
fn forgotten(table: TableId, key: &[u8], value: Option<&[u8]>) -> Option<Address> {
    let bytes = value.filter(|_| table == TableId::HiddenMessages)?;
    let (_, address) = keys::split_hidden(key).ok()?;
    let state = HiddenRow::decode(bytes).ok()?.state;
    let is_half = matches!(state, HiddenState::Visible { reason: HiddenReason::Half, .. });
    (is_half && address.index.0.is_multiple_of(8)).then_some(address)
}

fn is_check_back(table: TableId, key: &[u8]) -> bool {
    table == TableId::Timers && key.starts_with(&keys::timers_from(TimerKind::CheckBack, TimestampMs(i64::MIN))[..1])
}
