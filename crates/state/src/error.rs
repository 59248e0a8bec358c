//! What stops a replica. Whatever a client can cause is a [`crate::Response`] instead.

use std::io;

use duolog_types::{LogIndex, Term};

/// The replica cannot go on: its log or its tables are not what they must be. Never retried, never guessed around.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// A value carries a version that this build does not read.
    #[error("{what}: unknown version {found}, expected {expected}")]
    UnknownVersion {
        /// The type of the value.
        what: &'static str,
        /// The version byte that was found.
        found: u8,
        /// The version that this build writes.
        expected: u8,
    },
    /// A value cannot be decoded.
    #[error("{what}: cannot be decoded: {reason}")]
    Undecodable {
        /// The type of the value.
        what: &'static str,
        /// What the codec says.
        reason: String,
    },
    /// A row's key does not have the shape of its table.
    #[error("table {table}: key of {found} bytes, expected {expected}")]
    BadKey {
        /// The table's name.
        table: &'static str,
        /// Length that was found.
        found: usize,
        /// Shape that was expected.
        expected: &'static str,
    },
    /// An entry does not follow the last applied one.
    #[error("log index {found} does not follow the applied state, expected {expected}")]
    Gap {
        /// Index that was found.
        found: LogIndex,
        /// Index that was expected.
        expected: LogIndex,
    },
    /// An entry's term is older than that of the last applied one.
    #[error("term {found} at log index {index} is older than the applied term {applied}")]
    TermWentBack {
        /// Index of the entry.
        index: LogIndex,
        /// Its term.
        found: Term,
        /// Term of the last applied entry.
        applied: Term,
    },
    /// An entry cannot be decoded.
    #[error("entry at log index {index}: {reason}")]
    BadEntry {
        /// Index of the entry.
        index: LogIndex,
        /// What is wrong with it.
        reason: String,
    },
    /// The tables failed; the text names the path.
    #[error("state tables: {0}")]
    Storage(String),
    /// The tables are damaged; the text names the path.
    #[error("state tables are damaged: {0}")]
    Damaged(String),
    /// An earlier apply failed; this replica applies nothing more until it is opened again.
    #[error("this replica's state machine stopped after an earlier error")]
    Stopped,
}

impl StateError {
    /// Whether what is stored is not what was written once. A newer version, a full disk and a bad entry are no damage.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Undecodable { .. } | Self::BadKey { .. })
    }
}

impl From<StateError> for io::Error {
    /// Damage is [`io::ErrorKind::InvalidData`].
    fn from(error: StateError) -> Self {
        let kind = if error.is_damage() { io::ErrorKind::InvalidData } else { io::ErrorKind::Other };
        Self::new(kind, error)
    }
}
