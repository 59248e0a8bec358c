//! The body of a log entry of kind "batches": which run of the sequencer made it, a table, and the batches.
//!
//! ```text
//! big endian; the CRC is the log record's, outside of this body
//!
//! entry header, 32 bytes                          slot, 64 bytes, one per batch
//!  0  version u8 = 1                               0 topic id [16]
//!  1  reserved [3] = 0                            16 partition u32
//!  4  slot count u32                              20 base offset i64
//!  8  run term u64                                28 record count u32
//! 16  run u64                                     32 start u32 ┐ byte range in this body, end exclusive
//! 24  number in the run u64                       36 end u32   ┘
//!                                                 40 max timestamp i64
//! 32            slots: 64 × slot count            48 mode u8 (durability), flags u8
//! 32 + 64 n     the batches, without a gap        50 producer id i64, producer epoch i16, base sequence i32
//! ```
//!
//! Invariants of a parsed entry: the byte ranges follow each other without a gap to the end of the body; each slot's
//! base offset and count are those of its batch's header, whose length is the range's.
//! Version rule: a reader refuses a version that it does not know; a change of the layout takes a new version.

use bytes::{BufMut, Bytes, BytesMut};
use duolog_types::{Durability, Offset, ProducerEpoch, ProducerId, Term, TimestampMs, TopicId, TopicPartition};

use crate::patch::{patch_prefix, patch_timestamp};
use crate::{BATCH_HEADER_BYTES, BatchError, RecordBatch, TimestampKind};

/// Bytes of the entry header.
pub const ENTRY_HEADER_BYTES: usize = 32;
/// Bytes of one slot of the batch table.
pub const SLOT_BYTES: usize = 64;
const VERSION: u8 = 1;

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

/// What the sequencer decided about a batch; the rest of its slot comes from the batch's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchMeta {
    /// Where it goes.
    pub partition: TopicPartition,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// The topic's durability at the moment of sequencing.
    pub durability: Durability,
    /// Bits that the replicated state gives a meaning to; this crate only carries them.
    pub flags: u8,
    /// The leader's clock, for topics with log append time: stamped while the batch is copied in.
    pub log_append_time: Option<TimestampMs>,
}

/// One row of the batch table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Where the batch goes.
    pub partition: TopicPartition,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Records in it, at least 1.
    pub record_count: u32,
    /// First byte of the batch within the body.
    pub start: u32,
    /// The byte after the batch within the body.
    pub end: u32,
    /// The greatest timestamp, as in the batch's header.
    pub max_timestamp: TimestampMs,
    /// The durability that was stamped on it.
    pub durability: Durability,
    /// Bits that the replicated state gives a meaning to.
    pub flags: u8,
    /// The idempotent producer; −1 without idempotence.
    pub producer_id: ProducerId,
    /// The producer's epoch; −1 without idempotence.
    pub producer_epoch: ProducerEpoch,
    /// Sequence number of the first record; −1 without idempotence.
    pub base_sequence: i32,
}

impl Slot {
    /// The offset after the last record.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.record_count)))
    }

    /// Size of the batch in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u32 {
        self.end - self.start
    }

    fn put(&self, out: &mut impl BufMut) {
        out.put_slice(&self.partition.topic.0);
        out.put_u32(self.partition.partition);
        out.put_i64(self.base_offset.0);
        out.put_u32(self.record_count);
        out.put_u32(self.start);
        out.put_u32(self.end);
        out.put_i64(self.max_timestamp.0);
        out.put_u8(self.durability.to_bits());
        out.put_u8(self.flags);
        out.put_i64(self.producer_id.0);
        out.put_i16(self.producer_epoch.0);
        out.put_i32(self.base_sequence);
    }

    fn read(row: &[u8; SLOT_BYTES]) -> Result<Self, &'static str> {
        Ok(Self {
            partition: TopicPartition { topic: TopicId(field(row, 0)), partition: u32::from_be_bytes(field(row, 16)) },
            base_offset: Offset(i64::from_be_bytes(field(row, 20))),
            record_count: u32::from_be_bytes(field(row, 28)),
            start: u32::from_be_bytes(field(row, 32)),
            end: u32::from_be_bytes(field(row, 36)),
            max_timestamp: TimestampMs(i64::from_be_bytes(field(row, 40))),
            durability: Durability::from_bits(row[48]).ok_or("unknown durability bits")?,
            flags: row[49],
            producer_id: ProducerId(i64::from_be_bytes(field(row, 50))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(field(row, 58))),
            base_sequence: i32::from_be_bytes(field(row, 60)),
        })
    }
}

fn field<const N: usize>(row: &[u8], at: usize) -> [u8; N] {
    row[at..at + N].try_into().expect("every field lies in its row")
}

/// An entry that cannot be read: it was written by another version or it is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Written by a version of the format that is not known here.
    #[error("unknown entry version {found}: expected {VERSION}")]
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
    /// Reserved bytes are set, or bytes are left behind the last batch.
    #[error("entry is malformed: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// A row of the table is wrong or contradicts its batch.
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

/// Collects batches for one entry; they are copied once, by [`EntryBuilder::finish`].
#[derive(Debug)]
pub struct EntryBuilder {
    header: EntryHeader,
    batches: Vec<(BatchMeta, RecordBatch)>,
    size_bytes: usize,
}

impl EntryBuilder {
    /// An entry without batches.
    #[must_use]
    pub fn new(header: EntryHeader) -> Self {
        Self { header, batches: Vec::new(), size_bytes: ENTRY_HEADER_BYTES }
    }

    /// Adds a batch that passed [`crate::split_batches`]; its bytes are shared, not copied.
    ///
    /// # Panics
    /// When the entry exceeds 4 GiB or the batch has no records: the sequencer's limits lie far below.
    pub fn push(&mut self, meta: BatchMeta, batch: &RecordBatch) {
        assert!(batch.view().record_count() >= 1, "a sequenced batch has records: {batch:?}");
        self.size_bytes += SLOT_BYTES + batch.size_bytes();
        assert!(u32::try_from(self.size_bytes).is_ok(), "an entry of {} bytes exceeds 4 GiB", self.size_bytes);
        self.batches.push((meta, batch.clone()));
    }

    /// Batches so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Whether there is no batch yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
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
        out.put_u8(VERSION);
        out.put_bytes(0, 3);
        out.put_u32(self.batches.len() as u32);
        out.put_u64(self.header.run_term.0);
        out.put_u64(self.header.run);
        out.put_u64(self.header.number);
        let mut start = ENTRY_HEADER_BYTES + SLOT_BYTES * self.batches.len();
        for (meta, batch) in &self.batches {
            let end = start + batch.size_bytes();
            slot_of(meta, batch, start as u32, end as u32).put(&mut out);
            start = end;
        }
        let leader_epoch = self.header.run_term.leader_epoch();
        for (meta, batch) in &self.batches {
            let start = out.len();
            out.put_slice(batch.bytes());
            patch_prefix(&mut out[start..], meta.base_offset, leader_epoch);
            if let Some(timestamp) = meta.log_append_time {
                patch_timestamp(&mut out[start..], TimestampKind::LogAppendTime, timestamp);
            }
        }
        assert_eq!(out.len(), self.size_bytes, "an entry is sized exactly");
        out.freeze()
    }
}

fn slot_of(meta: &BatchMeta, batch: &RecordBatch, start: u32, end: u32) -> Slot {
    let view = batch.view();
    Slot {
        partition: meta.partition,
        base_offset: meta.base_offset,
        record_count: u32::try_from(view.record_count()).expect("checked when pushed"),
        start,
        end,
        max_timestamp: meta.log_append_time.unwrap_or(view.max_timestamp()),
        durability: meta.durability,
        flags: meta.flags,
        producer_id: view.producer_id(),
        producer_epoch: view.producer_epoch(),
        base_sequence: view.base_sequence(),
    }
}

/// A parsed entry; slots and batches are read where they lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryView {
    header: EntryHeader,
    slot_count: u32,
    body: Bytes,
}

impl EntryView {
    /// Reads a body and checks every invariant of the format.
    ///
    /// # Errors
    /// See [`EntryError`]; none of them panics, whatever the bytes are.
    pub fn parse(body: Bytes) -> Result<Self, EntryError> {
        let truncated = |expected: u64| EntryError::Truncated { expected, found: body.len() };
        let header: &[u8; ENTRY_HEADER_BYTES] = body.first_chunk().ok_or(truncated(ENTRY_HEADER_BYTES as u64))?;
        if header[0] != VERSION {
            return Err(EntryError::Version { found: header[0] });
        }
        if header[1..4] != [0; 3] {
            return Err(EntryError::Malformed { what: "reserved bytes are set" });
        }
        let slot_count = u32::from_be_bytes(field(header, 4));
        let table_end = ENTRY_HEADER_BYTES as u64 + SLOT_BYTES as u64 * u64::from(slot_count);
        if table_end > body.len() as u64 {
            return Err(truncated(table_end));
        }
        let header = EntryHeader {
            run_term: Term(u64::from_be_bytes(field(header, 8))),
            run: u64::from_be_bytes(field(header, 16)),
            number: u64::from_be_bytes(field(header, 24)),
        };
        let view = Self { header, slot_count, body };
        view.check_slots(table_end)?;
        Ok(view)
    }

    fn check_slots(&self, table_end: u64) -> Result<(), EntryError> {
        let mut expected_start = table_end;
        for number in 0..self.slot_count {
            let invalid = |what| EntryError::Slot { slot: number, what };
            let slot = Slot::read(self.row(number)).map_err(invalid)?;
            if u64::from(slot.start) != expected_start || slot.end < slot.start || slot.end as usize > self.body.len() {
                return Err(invalid("byte range out of place"));
            }
            if (slot.size_bytes() as usize) < BATCH_HEADER_BYTES {
                return Err(invalid("byte range smaller than a batch header"));
            }
            let batch = RecordBatch::parse(self.batch_bytes(&slot))
                .map_err(|source| EntryError::Batch { slot: number, source })?;
            let batch = batch.view();
            if batch.base_offset() != slot.base_offset || u32::try_from(batch.record_count()) != Ok(slot.record_count) {
                return Err(invalid("base offset or record count differs from the batch"));
            }
            expected_start = u64::from(slot.end);
        }
        if expected_start != self.body.len() as u64 {
            return Err(EntryError::Malformed { what: "bytes are left after the last batch" });
        }
        Ok(())
    }

    fn row(&self, number: u32) -> &[u8; SLOT_BYTES] {
        let at = ENTRY_HEADER_BYTES + SLOT_BYTES * number as usize;
        self.body[at..].first_chunk().expect("the table was checked when parsed")
    }

    /// Run and number.
    #[must_use]
    pub fn header(&self) -> EntryHeader {
        self.header
    }

    /// The whole body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Batches in the entry.
    #[must_use]
    pub fn slot_count(&self) -> u32 {
        self.slot_count
    }

    /// Row `number` of the table, from 0; `None` beyond its end.
    #[must_use]
    pub fn slot(&self, number: u32) -> Option<Slot> {
        (number < self.slot_count).then(|| Slot::read(self.row(number)).expect("checked when parsed"))
    }

    /// All rows, in order.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = Slot> + '_ {
        (0..self.slot_count as usize).map(|number| self.slot(number as u32).expect("below the count"))
    }

    /// The bytes of a slot's batch, without a copy.
    ///
    /// # Panics
    /// When the slot is another entry's and lies outside of this body.
    #[must_use]
    pub fn batch_bytes(&self, slot: &Slot) -> Bytes {
        self.body.slice(slot.start as usize..slot.end as usize)
    }

    /// A slot's batch, without a copy.
    ///
    /// # Panics
    /// When the slot is another entry's.
    #[must_use]
    pub fn batch(&self, slot: &Slot) -> RecordBatch {
        RecordBatch::parse(self.batch_bytes(slot)).expect("checked when parsed")
    }
}
