//! What can be wrong with the body of an entry.

use super::{VERSION_BATCHES, VERSION_KINDS};
use crate::BatchError;

/// An entry that cannot be read: it was written by another version or it is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Written by a version of the format that is not known here.
    #[error("unknown entry version {found}: expected {VERSION_BATCHES} or {VERSION_KINDS}")]
    Version {
        /// The version byte.
        found: u8,
    },
    /// Fewer bytes than header and table take.
    #[error("entry is truncated: expected {expected} bytes, found {found}")]
    Truncated {
        /// Bytes that should be there.
        expected: u64,
        /// Bytes that are there.
        found: usize,
    },
    /// Reserved bytes are set, or bytes are left behind the last slot's.
    #[error("entry is malformed: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// A row of the table is wrong or contradicts what its slot carries.
    #[error("slot {slot} of the entry is invalid: {what}")]
    Slot {
        /// Position in the table, from 0.
        slot: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// The batch of a slot is not framed as a batch.
    #[error("batch of slot {slot}: {source}")]
    Batch {
        /// Position in the table, from 0.
        slot: u32,
        /// What is wrong with it.
        source: BatchError,
    },
}
