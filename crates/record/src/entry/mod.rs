//! The body of a log entry of kind "batches": which run of the sequencer made it, a table, and what its slots carry.
//!
//! ```text
//! big endian; the CRC is the log record's, outside of this body
//!
//! entry header, 32 bytes                          slot, 64 bytes
//!  0  version u8 = 1 or 2                          0 topic id [16]
//!  1  reserved [3] = 0                            16 partition u32
//!  4  slot count u32                              20 base offset i64; −1: none
//!  8  run term u64                                28 record count u32
//! 16  run u64                                     32 start u32 ┐ byte range in this body, end exclusive
//! 24  number in the run u64                       36 end u32   ┘
//!                                                 40 max timestamp i64
//! 32            slots: 64 × slot count            48 mode u8 (durability), flags u8
//! 32 + 64 n     the byte ranges, without a gap    50 producer id i64, producer epoch i16, base sequence i32
//!
//! version 2: bits 0 and 1 of the flags say what lies in the byte range ([`SlotKind`])
//!  0 batch       a record batch                                                       base offset, count ≥ 1
//!  1 hidden      16 bytes ([`Hidden`]), then a record batch without an offset         −1,          count = 1
//!  2 reference   32 bytes ([`Payload`]): a hidden batch, which becomes visible here   base offset, count = 1
//!  3 close       24 bytes ([`Close`]): a hidden batch, which never becomes visible    −1,          count = 0
//! ```
//!
//! Invariants of a parsed entry: the byte ranges follow each other without a gap to the end of the body; base offset and
//! count of a slot with a batch are those of the batch's header, whose length is the range's.
//! Version rule: a reader refuses a version that it does not know; a change of the layout takes a new version. An entry
//! of batches alone is written as version 1, so that an older build can read it.

mod builder;
mod error;
mod hidden;
mod slot;
mod view;

use duolog_types::{Offset, Term};

pub use builder::{BatchMeta, EntryBuilder};
pub use error::EntryError;
pub use hidden::{
    Address, CLOSE_BYTES, Close, Closing, HIDDEN_HEAD_BYTES, Hidden, HiddenReason, PAYLOAD_BYTES, Payload,
};
pub use slot::{Slot, SlotKind};
pub use view::EntryView;

/// Bytes of the entry header.
pub const ENTRY_HEADER_BYTES: usize = 32;
/// Bytes of one slot of the table.
pub const SLOT_BYTES: usize = 64;
/// Base offset of what has none: a hidden batch, in its slot and in its own header.
pub const NO_OFFSET: Offset = Offset(-1);

/// The version of an entry of batches alone.
const VERSION_BATCHES: u8 = 1;
/// The version of an entry with a slot of another kind.
const VERSION_KINDS: u8 = 2;

/// Which run of the sequencer made the entry, and its place in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryHeader {
    /// The term whose leader ran the sequencer; the leader epoch of the batches.
    pub run_term: Term,
    /// The run within the term.
    pub run: u64,
    /// Position of the entry in the run, from 0.
    pub number: u64,
}

fn field<const N: usize>(row: &[u8], at: usize) -> [u8; N] {
    row[at..at + N].try_into().expect("every field lies in its row")
}
