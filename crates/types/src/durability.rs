//! The durability of a topic, and what follows from it: when a producer is answered, when consumers may see.
//!
//! This is the one file that decides it; the contract is the table of `docs/durability.md`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether an acknowledgement waits for a quorum of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum ReplicationMode {
    /// The acknowledgement waits for a quorum.
    #[default]
    Sync,
    /// The acknowledgement waits for the leader alone.
    Async,
}

/// Whether an acknowledgement waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum FlushMode {
    /// The acknowledgement waits for fdatasync.
    #[default]
    Sync,
    /// The acknowledgement waits for the page cache only; the flush comes within `flush.ms`.
    Async,
}

/// Durability of a topic: replication × flush. The default is the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Durability {
    /// Whether a quorum is waited for.
    pub replication: ReplicationMode,
    /// Whether the disk is waited for.
    pub flush: FlushMode,
}

/// The watermark that an acknowledgement waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AckPoint {
    /// Written to the leader's log (page cache).
    Appended,
    /// Flushed by the leader.
    Flushed,
    /// Written to the log (page cache) of a quorum.
    Received,
    /// Flushed by a quorum: Raft's commit index.
    Committed,
}

/// The watermark that makes a batch visible to consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum VisibilityPoint {
    /// Written to the log of a quorum.
    Received,
    /// Flushed by a quorum.
    Committed,
}

/// How an entry wants to be flushed; it travels with the entry, so that followers need no topic configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FlushWish {
    /// At once.
    Now,
    /// At the latest this many milliseconds after the append.
    WithinMs(u32),
}

impl FlushWish {
    /// The stricter of two wishes: the entry that carries both batches asks for it.
    #[must_use]
    pub fn strictest(self, other: Self) -> Self {
        self.min(other)
    }
}

impl Durability {
    /// All four modes, strictest first.
    pub const ALL: [Self; 4] = [
        Self { replication: ReplicationMode::Sync, flush: FlushMode::Sync },
        Self { replication: ReplicationMode::Sync, flush: FlushMode::Async },
        Self { replication: ReplicationMode::Async, flush: FlushMode::Sync },
        Self { replication: ReplicationMode::Async, flush: FlushMode::Async },
    ];

    /// When a producer is answered.
    #[must_use]
    pub fn ack_point(self) -> AckPoint {
        match (self.replication, self.flush) {
            (ReplicationMode::Sync, FlushMode::Sync) => AckPoint::Committed,
            (ReplicationMode::Sync, FlushMode::Async) => AckPoint::Received,
            (ReplicationMode::Async, FlushMode::Sync) => AckPoint::Flushed,
            (ReplicationMode::Async, FlushMode::Async) => AckPoint::Appended,
        }
    }

    /// When consumers may see a record. Never earlier than what the loss of one node could take back.
    #[must_use]
    pub fn visibility_point(self) -> VisibilityPoint {
        match self.flush {
            FlushMode::Sync => VisibilityPoint::Committed,
            FlushMode::Async => VisibilityPoint::Received,
        }
    }

    /// The mode as one byte of the batch table: bit 0 replication async, bit 1 flush async.
    #[must_use]
    pub fn to_bits(self) -> u8 {
        u8::from(self.replication == ReplicationMode::Async) | (u8::from(self.flush == FlushMode::Async) << 1)
    }

    /// The inverse of [`Durability::to_bits`]; `None` when other bits are set.
    #[must_use]
    pub fn from_bits(bits: u8) -> Option<Self> {
        if bits > 3 {
            return None;
        }
        Some(Self {
            replication: if bits & 1 == 0 { ReplicationMode::Sync } else { ReplicationMode::Async },
            flush: if bits & 2 == 0 { FlushMode::Sync } else { FlushMode::Async },
        })
    }
}

impl fmt::Display for ReplicationMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sync => "sync",
            Self::Async => "async",
        })
    }
}

impl fmt::Display for FlushMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sync => "sync",
            Self::Async => "async",
        })
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.replication, self.flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_table_holds() {
        let points: Vec<_> = Durability::ALL.iter().map(|d| (d.to_string(), d.ack_point())).collect();
        assert_eq!(
            points,
            [
                ("sync/sync".to_owned(), AckPoint::Committed),
                ("sync/async".to_owned(), AckPoint::Received),
                ("async/sync".to_owned(), AckPoint::Flushed),
                ("async/async".to_owned(), AckPoint::Appended),
            ]
        );
    }

    #[test]
    fn bits_round_trip_and_unknown_bits_are_refused() {
        for mode in Durability::ALL {
            assert_eq!(Durability::from_bits(mode.to_bits()), Some(mode));
        }
        assert_eq!(Durability::from_bits(4), None);
    }

    #[test]
    fn the_strictest_wish_wins() {
        assert_eq!(FlushWish::Now.strictest(FlushWish::WithinMs(0)), FlushWish::Now);
        assert_eq!(FlushWish::WithinMs(100).strictest(FlushWish::WithinMs(5)), FlushWish::WithinMs(5));
    }
}
