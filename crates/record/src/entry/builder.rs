//! Making the body of an entry.

use bytes::{BufMut, Bytes, BytesMut};
use duolog_types::{Durability, Offset, ProducerEpoch, ProducerId, TimestampMs, TopicPartition};

use super::hidden::{CLOSE_BYTES, Close, HIDDEN_HEAD_BYTES, Hidden, PAYLOAD_BYTES, Payload};
use super::slot::{KIND_BITS, Slot, SlotKind};
use super::{ENTRY_HEADER_BYTES, EntryHeader, NO_OFFSET, SLOT_BYTES, VERSION_BATCHES, VERSION_KINDS};
use crate::merge::MergedBatch;
use crate::patch::{patch_prefix, patch_timestamp};
use crate::{RecordBatch, TimestampKind};

/// What the sequencer decided about a slot; the rest comes from what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchMeta {
    /// The partition that it is about.
    pub partition: TopicPartition,
    /// Offset of its first record; [`NO_OFFSET`] of a hidden batch and of a close.
    pub base_offset: Offset,
    /// The topic's durability at the moment of sequencing.
    pub durability: Durability,
    /// Bits that the replicated state gives a meaning to; this crate only carries them. The lowest two are its own.
    pub flags: u8,
    /// The leader's clock, for topics with log append time: stamped while the batch is copied in.
    pub log_append_time: Option<TimestampMs>,
}

/// Collects slots for one entry; batches are copied once, by [`EntryBuilder::finish`].
#[derive(Debug)]
pub struct EntryBuilder {
    header: EntryHeader,
    parts: Vec<(BatchMeta, Part)>,
    size_bytes: usize,
}

#[derive(Debug)]
enum Part {
    Batch(RecordBatch),
    Merged(MergedBatch),
    Hidden(Hidden, RecordBatch),
    Reference(Payload, TimestampMs),
    Close(Close),
}

impl Part {
    fn size_bytes(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.size_bytes(),
            Self::Merged(merged) => merged.size_bytes(),
            Self::Hidden(_, batch) => HIDDEN_HEAD_BYTES + batch.size_bytes(),
            Self::Reference(..) => PAYLOAD_BYTES,
            Self::Close(_) => CLOSE_BYTES,
        }
    }
}

impl EntryBuilder {
    /// An entry without slots.
    #[must_use]
    pub fn new(header: EntryHeader) -> Self {
        Self { header, parts: Vec::new(), size_bytes: ENTRY_HEADER_BYTES }
    }

    /// Adds a batch that passed [`crate::split_batches`]; its bytes are shared, not copied.
    ///
    /// # Panics
    /// When the entry exceeds 4 GiB or the batch has no records: the sequencer's limits lie far below.
    pub fn push(&mut self, meta: BatchMeta, batch: &RecordBatch) {
        assert!(batch.view().record_count() >= 1, "a sequenced batch has records: {batch:?}");
        self.add(meta, Part::Batch(batch.clone()));
    }

    /// Adds a batch of one plain record to the batch of an earlier slot, whose next offset it has; gives what was decided about
    /// that slot. `None`, and nothing has happened, when the two have to stay apart.
    ///
    /// # Panics
    /// When the slot's next offset is another one.
    pub fn extend(&mut self, slot: usize, meta: &BatchMeta, batch: &RecordBatch) -> Option<BatchMeta> {
        let (known, part) = self.parts.get_mut(slot)?;
        let decided = |meta: &BatchMeta| (meta.partition, meta.durability, meta.flags, meta.log_append_time.is_some());
        if decided(known) != decided(meta) {
            return None;
        }
        let before = part.size_bytes();
        let next = match part {
            Part::Batch(first) => {
                *part = Part::Merged(MergedBatch::of(first, batch)?);
                1
            }
            Part::Merged(merged) => {
                let next = merged.record_count();
                merged.push(batch).then_some(next)?
            }
            Part::Hidden(..) | Part::Reference(..) | Part::Close(_) => return None,
        };
        assert_eq!(known.base_offset.plus(i64::from(next)), meta.base_offset, "of a batch that is joined: {batch:?}");
        self.size_bytes += part.size_bytes() - before;
        Some(*known)
    }

    /// Adds a batch that nobody may see yet.
    ///
    /// # Panics
    /// As [`EntryBuilder::push`]; when there is not exactly one record, or it has an offset.
    pub fn push_hidden(&mut self, meta: BatchMeta, hidden: Hidden, batch: &RecordBatch) {
        let view = batch.view();
        assert_eq!((meta.base_offset, view.record_count()), (NO_OFFSET, 1), "of a hidden batch: {batch:?}");
        self.add(meta, Part::Hidden(hidden, batch.clone()));
    }

    /// Adds a reference: the payload becomes visible at the base offset, at this time by the leader's clock.
    ///
    /// # Panics
    /// As [`EntryBuilder::push`]; when there is no offset.
    pub fn push_reference(&mut self, meta: BatchMeta, payload: Payload, visible_at: TimestampMs) {
        assert!(meta.base_offset >= Offset(0), "a reference has an offset: {payload:?}");
        self.add(meta, Part::Reference(payload, visible_at));
    }

    /// Adds the end of a hidden batch.
    ///
    /// # Panics
    /// As [`EntryBuilder::push`]; when there is an offset.
    pub fn push_close(&mut self, meta: BatchMeta, close: Close) {
        assert_eq!(meta.base_offset, NO_OFFSET, "of a close: {close:?}");
        self.add(meta, Part::Close(close));
    }

    fn add(&mut self, meta: BatchMeta, part: Part) {
        assert_eq!(meta.flags & KIND_BITS, 0, "the lowest bits of the flags belong to the format");
        self.size_bytes += SLOT_BYTES + part.size_bytes();
        assert!(u32::try_from(self.size_bytes).is_ok(), "an entry of {} bytes exceeds 4 GiB", self.size_bytes);
        self.parts.push((meta, part));
    }

    /// Slots so far: the number of the next one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether there is no slot yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Exact size of the body that [`EntryBuilder::finish`] makes, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// The body, in one buffer of exactly its size. Each batch carries its final base offset, the run's term as
    /// leader epoch and, where asked for, the log append time.
    #[must_use]
    pub fn finish(self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.size_bytes);
        let has_batches_alone = self.parts.iter().all(|(_, part)| matches!(part, Part::Batch(_) | Part::Merged(_)));
        out.put_u8(if has_batches_alone { VERSION_BATCHES } else { VERSION_KINDS });
        out.put_bytes(0, 3);
        out.put_u32(self.parts.len() as u32);
        out.put_u64(self.header.run_term.0);
        out.put_u64(self.header.run);
        out.put_u64(self.header.number);
        let mut start = ENTRY_HEADER_BYTES + SLOT_BYTES * self.parts.len();
        for (meta, part) in &self.parts {
            let end = start + part.size_bytes();
            slot_of(meta, part, start as u32, end as u32).put(&mut out);
            start = end;
        }
        for (meta, part) in &self.parts {
            match part {
                Part::Batch(batch) => self.put_batch(&mut out, meta, batch),
                Part::Merged(merged) => {
                    let start = out.len();
                    merged.put(&mut out);
                    self.patch(&mut out[start..], meta);
                }
                Part::Hidden(hidden, batch) => {
                    hidden.put(&mut out);
                    self.put_batch(&mut out, meta, batch);
                }
                Part::Reference(payload, _) => payload.put(&mut out),
                Part::Close(close) => close.put(&mut out),
            }
        }
        assert_eq!(out.len(), self.size_bytes, "an entry is sized exactly");
        out.freeze()
    }

    fn put_batch(&self, out: &mut BytesMut, meta: &BatchMeta, batch: &RecordBatch) {
        let start = out.len();
        out.put_slice(batch.bytes());
        self.patch(&mut out[start..], meta);
    }

    fn patch(&self, batch: &mut [u8], meta: &BatchMeta) {
        patch_prefix(batch, meta.base_offset, self.header.run_term.leader_epoch());
        if let Some(timestamp) = meta.log_append_time {
            patch_timestamp(batch, TimestampKind::LogAppendTime, timestamp);
        }
    }
}

fn slot_of(meta: &BatchMeta, part: &Part, start: u32, end: u32) -> Slot {
    let without_batch = Slot {
        kind: SlotKind::Batch,
        partition: meta.partition,
        base_offset: meta.base_offset,
        record_count: 0,
        start,
        end,
        max_timestamp: TimestampMs(-1),
        durability: meta.durability,
        flags: meta.flags,
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch(-1),
        base_sequence: -1,
    };
    match part {
        Part::Batch(batch) => of_batch(without_batch, meta, batch),
        Part::Merged(merged) => Slot {
            record_count: merged.record_count(),
            max_timestamp: meta.log_append_time.unwrap_or(merged.max_timestamp()),
            ..without_batch
        },
        Part::Hidden(hidden, batch) => Slot {
            kind: SlotKind::Hidden(*hidden),
            start: start + HIDDEN_HEAD_BYTES as u32,
            ..of_batch(without_batch, meta, batch)
        },
        Part::Reference(payload, visible_at) => {
            Slot { kind: SlotKind::Reference(*payload), record_count: 1, max_timestamp: *visible_at, ..without_batch }
        }
        Part::Close(close) => Slot { kind: SlotKind::Close(*close), ..without_batch },
    }
}

fn of_batch(slot: Slot, meta: &BatchMeta, batch: &RecordBatch) -> Slot {
    let view = batch.view();
    Slot {
        record_count: u32::try_from(view.record_count()).expect("checked when pushed"),
        max_timestamp: meta.log_append_time.unwrap_or(view.max_timestamp()),
        producer_id: view.producer_id(),
        producer_epoch: view.producer_epoch(),
        base_sequence: view.base_sequence(),
        ..slot
    }
}
