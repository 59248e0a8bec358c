//! Batches that no consumer may see yet, and what becomes of them.
//!
//! ```text
//! big endian
//! hidden, before its batch, 16 bytes    payload, 32 bytes              close, 24 bytes
//!  0 time i64, ms since the epoch        0 log index u64                0 log index u64
//!  8 reason u8                           8 term u64                     8 slot u32
//!  9 reserved [7] = 0                   16 slot u32                    12 closing u8
//!                                       20 start u32, size u32         13 reserved [3] = 0
//!                                       28 reserved [4] = 0            16 keep until i64, ms since the epoch
//! ```

use bytes::BufMut;
use duolog_types::{LogIndex, Term, TimestampMs};
use serde::{Deserialize, Serialize};

use super::{ENTRY_HEADER_BYTES, SLOT_BYTES, field};
use crate::BATCH_HEADER_BYTES;

/// Bytes of a [`Hidden`] before its batch.
pub const HIDDEN_HEAD_BYTES: usize = 16;
/// Bytes of a [`Payload`].
pub const PAYLOAD_BYTES: usize = 32;
/// Bytes of a [`Close`].
pub const CLOSE_BYTES: usize = 24;

/// Where a batch lies in the log of its broker group, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The entry.
    pub index: LogIndex,
    /// Its slot in the entry.
    pub slot: u32,
}

/// Why a batch is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HiddenReason {
    /// A half message: its transaction has not ended.
    Half,
    /// A delayed message: its time has not come.
    Delayed,
}

/// What a hidden batch waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden {
    /// Why it is hidden.
    pub reason: HiddenReason,
    /// Of a half message the first check-back, of a delayed one its delivery.
    pub time: TimestampMs,
}

/// A hidden batch that a reference makes visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// Where it lies.
    pub address: Address,
    /// The term of that entry.
    pub term: Term,
    /// First byte of the batch within that entry's body.
    pub start: u32,
    /// Size of the batch in bytes.
    pub size_bytes: u32,
}

/// How a hidden batch ends that never becomes visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Closing {
    /// Its transaction was rolled back.
    RolledBack,
    /// It was a delayed message and was taken back.
    Recalled,
    /// Its producer was asked for its fate as often as it may be, and never answered.
    GivenUp,
}

/// The end of a hidden batch that never becomes visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    /// Where the batch lies.
    pub address: Address,
    /// How it ends.
    pub closing: Closing,
    /// How long the state remembers that.
    pub keep_until: TimestampMs,
}

impl Hidden {
    pub(super) fn put(&self, out: &mut impl BufMut) {
        out.put_i64(self.time.0);
        out.put_u8(match self.reason {
            HiddenReason::Half => 0,
            HiddenReason::Delayed => 1,
        });
        out.put_bytes(0, 7);
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let head: &[u8; HIDDEN_HEAD_BYTES] = bytes.first_chunk().ok_or("no room for the head of a hidden batch")?;
        let reason = match head[8] {
            0 => HiddenReason::Half,
            1 => HiddenReason::Delayed,
            _ => return Err("unknown reason of a hidden batch"),
        };
        check_reserved(&head[9..])?;
        Ok(Self { reason, time: TimestampMs(i64::from_be_bytes(field(head, 0))) })
    }
}

impl Payload {
    pub(super) fn put(&self, out: &mut impl BufMut) {
        out.put_u64(self.address.index.0);
        out.put_u64(self.term.0);
        out.put_u32(self.address.slot);
        out.put_u32(self.start);
        out.put_u32(self.size_bytes);
        out.put_bytes(0, 4);
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let body: &[u8; PAYLOAD_BYTES] = bytes.try_into().map_err(|_| "a reference has 32 bytes")?;
        check_reserved(&body[28..])?;
        let address =
            Address { index: LogIndex(u64::from_be_bytes(field(body, 0))), slot: u32::from_be_bytes(field(body, 16)) };
        let (start, size_bytes) = (u32::from_be_bytes(field(body, 20)), u32::from_be_bytes(field(body, 24)));
        let is_behind_table = start as usize >= ENTRY_HEADER_BYTES + SLOT_BYTES + HIDDEN_HEAD_BYTES;
        let holds_a_batch = size_bytes as usize >= BATCH_HEADER_BYTES && start.checked_add(size_bytes).is_some();
        if !is_behind_table || !holds_a_batch {
            return Err("the byte range of the payload cannot be that of a hidden batch");
        }
        Ok(Self { address, term: Term(u64::from_be_bytes(field(body, 8))), start, size_bytes })
    }
}

impl Close {
    pub(super) fn put(&self, out: &mut impl BufMut) {
        out.put_u64(self.address.index.0);
        out.put_u32(self.address.slot);
        out.put_u8(match self.closing {
            Closing::RolledBack => 0,
            Closing::Recalled => 1,
            Closing::GivenUp => 2,
        });
        out.put_bytes(0, 3);
        out.put_i64(self.keep_until.0);
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let body: &[u8; CLOSE_BYTES] = bytes.try_into().map_err(|_| "a close has 24 bytes")?;
        let closing = match body[12] {
            0 => Closing::RolledBack,
            1 => Closing::Recalled,
            2 => Closing::GivenUp,
            _ => return Err("unknown end of a hidden batch"),
        };
        check_reserved(&body[13..16])?;
        let address =
            Address { index: LogIndex(u64::from_be_bytes(field(body, 0))), slot: u32::from_be_bytes(field(body, 8)) };
        Ok(Self { address, closing, keep_until: TimestampMs(i64::from_be_bytes(field(body, 16))) })
    }
}

fn check_reserved(bytes: &[u8]) -> Result<(), &'static str> {
    if bytes.iter().all(|byte| *byte == 0) { Ok(()) } else { Err("reserved bytes are set") }
}
