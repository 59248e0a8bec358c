//! The kinds of log entries, and an entry as the state machine receives it.

use bytes::Bytes;
use duolog_types::{LogIndex, Term};

/// What an entry of the log carries. The number is part of the log's format: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// Nothing: a new leader's first entry.
    Blank = 0,
    /// A membership of the Raft group; opaque here.
    Membership = 1,
    /// Record batches, as `duolog_record::entry` lays them out.
    Batches = 2,
    /// A [`crate::Command`].
    Command = 3,
    /// Opens a run of the sequencer; a [`crate::run::RunBarrier`].
    RunBarrier = 4,
}

impl EntryKind {
    /// The kind as one byte of the log.
    #[must_use]
    pub fn to_byte(self) -> u8 {
        self as u8
    }

    /// The inverse of [`EntryKind::to_byte`]; `None` for a kind that this build does not know.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Blank),
            1 => Some(Self::Membership),
            2 => Some(Self::Batches),
            3 => Some(Self::Command),
            4 => Some(Self::RunBarrier),
            _ => None,
        }
    }
}

/// A committed and locally flushed entry, ready to be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedEntry {
    /// Its position in the log.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// What the body is.
    pub kind: EntryKind,
    /// The body.
    pub body: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_round_trip_and_unknown_ones_are_refused() {
        for kind in
            [EntryKind::Blank, EntryKind::Membership, EntryKind::Batches, EntryKind::Command, EntryKind::RunBarrier]
        {
            assert_eq!(EntryKind::from_byte(kind.to_byte()), Some(kind));
        }
        assert_eq!(EntryKind::from_byte(5), None);
    }
}
