//! One row of the table.

use bytes::BufMut;
use duolog_types::{Durability, Offset, ProducerEpoch, ProducerId, TimestampMs, TopicId, TopicPartition};

use super::hidden::{Close, HIDDEN_HEAD_BYTES, Hidden, Payload};
use super::{NO_OFFSET, SLOT_BYTES, VERSION_BATCHES, field};

/// The bits of the flags that say what a slot carries.
pub(super) const KIND_BITS: u8 = 0b11;

/// What a slot carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// A record batch, visible at its base offset.
    Batch,
    /// A record batch of one record that no consumer may see yet. It has no offset.
    Hidden(Hidden),
    /// A hidden batch of an earlier entry becomes visible at the base offset; its bytes stay where they are.
    Reference(Payload),
    /// A hidden batch of an earlier entry never becomes visible.
    Close(Close),
}

impl SlotKind {
    fn to_bits(self) -> u8 {
        match self {
            Self::Batch => 0,
            Self::Hidden(_) => 1,
            Self::Reference(_) => 2,
            Self::Close(_) => 3,
        }
    }

    /// Bytes in the slot's range before its batch.
    fn head_bytes(self) -> u32 {
        match self {
            Self::Hidden(_) => HIDDEN_HEAD_BYTES as u32,
            Self::Batch | Self::Reference(_) | Self::Close(_) => 0,
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// What it carries.
    pub kind: SlotKind,
    /// The partition that it is about.
    pub partition: TopicPartition,
    /// Offset of its first record; [`NO_OFFSET`] of a hidden batch and of a close.
    pub base_offset: Offset,
    /// Records: at least 1 of a batch, 1 of a hidden batch and of a reference, 0 of a close.
    pub record_count: u32,
    /// First byte of its batch within the body; without a batch, of what it carries instead.
    pub start: u32,
    /// The byte after it.
    pub end: u32,
    /// The greatest timestamp, as in the batch's header; of a reference, when it became visible.
    pub max_timestamp: TimestampMs,
    /// The durability that was stamped on it.
    pub durability: Durability,
    /// Bits that the replicated state gives a meaning to, without those of the kind.
    pub flags: u8,
    /// The idempotent producer; −1 without idempotence.
    pub producer_id: ProducerId,
    /// The producer's epoch; −1 without idempotence.
    pub producer_epoch: ProducerEpoch,
    /// Sequence number of the first record; −1 without idempotence.
    pub base_sequence: i32,
}

impl Slot {
    /// Whether its records take offsets of the partition: those of a batch and of a reference do.
    #[must_use]
    pub fn takes_offsets(&self) -> bool {
        matches!(self.kind, SlotKind::Batch | SlotKind::Reference(_))
    }

    /// Whether a batch lies in its bytes.
    #[must_use]
    pub fn holds_batch(&self) -> bool {
        matches!(self.kind, SlotKind::Batch | SlotKind::Hidden(_))
    }

    /// The offset after the last record; of no use when it takes no offsets.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.record_count)))
    }

    /// Size of its batch in bytes; without a batch, of what it carries instead.
    #[must_use]
    pub fn size_bytes(&self) -> u32 {
        self.end - self.start
    }

    /// First byte of its range, where the range of the slot before ends.
    #[must_use]
    pub fn range_start(&self) -> u32 {
        self.start - self.kind.head_bytes()
    }

    pub(super) fn put(&self, out: &mut impl BufMut) {
        out.put_slice(&self.partition.topic.0);
        out.put_u32(self.partition.partition);
        out.put_i64(self.base_offset.0);
        out.put_u32(self.record_count);
        out.put_u32(self.range_start());
        out.put_u32(self.end);
        out.put_i64(self.max_timestamp.0);
        out.put_u8(self.durability.to_bits());
        out.put_u8(self.flags | self.kind.to_bits());
        out.put_i64(self.producer_id.0);
        out.put_i16(self.producer_epoch.0);
        out.put_i32(self.base_sequence);
    }

    pub(super) fn read(version: u8, row: &[u8; SLOT_BYTES], body: &[u8]) -> Result<Self, &'static str> {
        let (range_start, end) = (u32::from_be_bytes(field(row, 32)), u32::from_be_bytes(field(row, 36)));
        let range = body.get(range_start as usize..end as usize).ok_or("byte range out of place")?;
        let (kind, flags) = match (version, row[49] & KIND_BITS) {
            // Version 1 knew no kinds.
            (VERSION_BATCHES, _) | (_, 0) => (SlotKind::Batch, row[49]),
            (_, 1) => (SlotKind::Hidden(Hidden::read(range)?), row[49] & !KIND_BITS),
            (_, 2) => (SlotKind::Reference(Payload::read(range)?), row[49] & !KIND_BITS),
            (_, _) => (SlotKind::Close(Close::read(range)?), row[49] & !KIND_BITS),
        };
        let slot = Self {
            kind,
            partition: TopicPartition { topic: TopicId(field(row, 0)), partition: u32::from_be_bytes(field(row, 16)) },
            base_offset: Offset(i64::from_be_bytes(field(row, 20))),
            record_count: u32::from_be_bytes(field(row, 28)),
            start: range_start + kind.head_bytes(),
            end,
            max_timestamp: TimestampMs(i64::from_be_bytes(field(row, 40))),
            durability: Durability::from_bits(row[48]).ok_or("unknown durability bits")?,
            flags,
            producer_id: ProducerId(i64::from_be_bytes(field(row, 50))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(field(row, 58))),
            base_sequence: i32::from_be_bytes(field(row, 60)),
        };
        slot.check()?;
        Ok(slot)
    }

    /// What each kind fixes; base offset and count of a batch are compared with its header.
    fn check(&self) -> Result<(), &'static str> {
        let is_without_producer =
            (self.producer_id, self.producer_epoch.0, self.base_sequence) == (ProducerId::NONE, -1, -1);
        match self.kind {
            SlotKind::Batch => Ok(()),
            SlotKind::Hidden(_) if (self.base_offset, self.record_count) != (NO_OFFSET, 1) => {
                Err("a hidden batch has one record and no offset")
            }
            SlotKind::Reference(_) if self.base_offset < Offset(0) || self.record_count != 1 => {
                Err("a reference has one record and an offset")
            }
            SlotKind::Close(_) if (self.base_offset, self.record_count) != (NO_OFFSET, 0) => {
                Err("a close has no record and no offset")
            }
            SlotKind::Reference(_) | SlotKind::Close(_) if !is_without_producer => {
                Err("only what carries a batch can be of an idempotent producer")
            }
            SlotKind::Hidden(_) | SlotKind::Reference(_) | SlotKind::Close(_) => Ok(()),
        }
    }
}
