//! An entry as the log sees it: an opaque body with its place in the Raft log.

use bytes::Bytes;
use duolog_types::{FlushWish, LogIndex, Term};

/// One Raft log entry. Cloning copies no payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its position; the first entry of a log has index 0.
    pub index: LogIndex,
    /// The term of the leader that proposed it.
    pub term: Term,
    /// What the body is; the log stores it and never looks at it.
    pub kind: u8,
    /// How it wants to be flushed.
    pub flush: FlushWish,
    /// The payload, at most [`BODY_BYTES_MAX`] bytes.
    pub body: Bytes,
}

/// Largest body of an entry.
pub const BODY_BYTES_MAX: usize = 256 << 20;

/// Largest vote.
pub const VOTE_BYTES_MAX: usize = 256;

/// Term and index of an entry, in the order in which Raft compares them.
pub type LogId = (Term, LogIndex);
