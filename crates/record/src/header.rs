//! The 61-byte header of a record batch v2.
//!
//! ```text
//! big endian; the CRC-32C covers bytes 21 to the end of the batch
//!
//!  0        8      12      16 17    21    23      27         35         43         51    53      57     61
//!  ┌────────┬───────┬───────┬──┬─────┬─────┬───────┬──────────┬──────────┬──────────┬─────┬───────┬──────┐
//!  │ base   │length │leader │2 │ CRC │attri│ last  │ base     │ max      │ producer │epoch│ base  │record│
//!  │ offset │ after │ epoch │  │-32C │butes│ delta │ timestamp│ timestamp│ id       │     │  seq. │count │
//!  │ i64    │ i32   │ i32   │i8│ u32 │ i16 │ i32   │ i64      │ i64      │ i64      │ i16 │ i32   │ i32  │
//!  └────────┴───────┴───────┴──┴─────┴─────┴───────┴──────────┴──────────┴──────────┴─────┴───────┴──────┘
//!                   │◀─ length counts from here ─▶   │◀─ the CRC covers from byte 21 to the end ─▶
//!
//! attributes: bits 0–2 compression, 3 log append time, 4 transactional, 5 control, 6 delete horizon
//! ```
//!
//! Bytes 0–15 may be patched without a new CRC: base offset and leader epoch are the broker's.

use duolog_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs};

use crate::{BatchError, Compression};

/// Bytes of the header.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes at the start of a batch that are outside its CRC and may be patched: base offset, length, leader epoch.
pub const BATCH_PREFIX_BYTES: usize = 16;

/// Bytes that the length field does not count: base offset and the length itself.
pub(crate) const LENGTH_OVERHEAD_BYTES: usize = 12;
pub(crate) const LENGTH_AT: usize = 8;
pub(crate) const LEADER_EPOCH_AT: usize = 12;
pub(crate) const MAGIC_AT: usize = 16;
pub(crate) const CRC_AT: usize = 17;
pub(crate) const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
pub(crate) const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const RECORD_COUNT_AT: usize = 57;

pub(crate) const COMPRESSION_MASK: i16 = 0b111;
pub(crate) const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
pub(crate) const TRANSACTIONAL_BIT: i16 = 1 << 4;
pub(crate) const CONTROL_BIT: i16 = 1 << 5;
const DELETE_HORIZON_BIT: i16 = 1 << 6;
pub(crate) const MAGIC: i8 = 2;

/// Whose clock the timestamps of a batch come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampKind {
    /// The producer's; each record has its own.
    CreateTime,
    /// The leader's; every record has the batch's max timestamp.
    LogAppendTime,
}

/// The header of a batch, read where it lies. The numbers are as found: only [`crate::split_batches`] judges them.
#[derive(Clone, Copy)]
pub struct BatchView<'a> {
    header: &'a [u8; BATCH_HEADER_BYTES],
}

impl<'a> BatchView<'a> {
    /// A view of the header at the start of `bytes`.
    ///
    /// # Errors
    /// [`BatchError::Truncated`] when there are fewer than 61 bytes.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header =
            bytes.first_chunk().ok_or(BatchError::Truncated { expected: BATCH_HEADER_BYTES, found: bytes.len() })?;
        Ok(Self { header })
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        self.header[at..at + N].try_into().expect("every field lies in the 61 bytes")
    }

    /// Offset of the first record.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        Offset(i64::from_be_bytes(self.field(0)))
    }

    /// The length field: bytes of the batch after this field.
    #[must_use]
    pub fn length(&self) -> i32 {
        i32::from_be_bytes(self.field(LENGTH_AT))
    }

    /// The leader epoch under which the batch was appended; −1 in a producer's batch.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(i32::from_be_bytes(self.field(LEADER_EPOCH_AT)))
    }

    /// The message format; 2 is the only one served.
    #[must_use]
    pub fn magic(&self) -> i8 {
        i8::from_be_bytes(self.field(MAGIC_AT))
    }

    /// The CRC-32C as the header says.
    #[must_use]
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(self.field(CRC_AT))
    }

    /// The raw attributes.
    #[must_use]
    pub fn attributes(&self) -> i16 {
        i16::from_be_bytes(self.field(ATTRIBUTES_AT))
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// [`BatchError::UnknownCompression`].
    pub fn compression(&self) -> Result<Compression, BatchError> {
        let id = (self.attributes() & COMPRESSION_MASK) as u8;
        Compression::from_id(id).ok_or(BatchError::UnknownCompression { id })
    }

    /// Whose clock stamped the records.
    #[must_use]
    pub fn timestamp_kind(&self) -> TimestampKind {
        match self.attributes() & LOG_APPEND_TIME_BIT {
            0 => TimestampKind::CreateTime,
            _ => TimestampKind::LogAppendTime,
        }
    }

    /// Whether the batch belongs to a Kafka transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch holds transaction markers instead of records.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL_BIT != 0
    }

    /// Whether the base timestamp is a delete horizon (KIP-534).
    #[must_use]
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes() & DELETE_HORIZON_BIT != 0
    }

    /// Offset of the last record minus the base offset.
    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(self.field(LAST_OFFSET_DELTA_AT))
    }

    /// What the records' timestamp deltas are added to.
    #[must_use]
    pub fn base_timestamp(&self) -> TimestampMs {
        TimestampMs(i64::from_be_bytes(self.field(BASE_TIMESTAMP_AT)))
    }

    /// The greatest timestamp, as whoever wrote the header says.
    #[must_use]
    pub fn max_timestamp(&self) -> TimestampMs {
        TimestampMs(i64::from_be_bytes(self.field(MAX_TIMESTAMP_AT)))
    }

    /// The idempotent producer; −1 without idempotence.
    #[must_use]
    pub fn producer_id(&self) -> ProducerId {
        ProducerId(i64::from_be_bytes(self.field(PRODUCER_ID_AT)))
    }

    /// The producer's epoch; −1 without idempotence.
    #[must_use]
    pub fn producer_epoch(&self) -> ProducerEpoch {
        ProducerEpoch(i16::from_be_bytes(self.field(PRODUCER_EPOCH_AT)))
    }

    /// Sequence number of the first record; −1 without idempotence.
    #[must_use]
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(self.field(BASE_SEQUENCE_AT))
    }

    /// Number of records, as the header says.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        i32::from_be_bytes(self.field(RECORD_COUNT_AT))
    }
}

impl std::fmt::Debug for BatchView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchView")
            .field("base_offset", &self.base_offset())
            .field("length", &self.length())
            .field("leader_epoch", &self.leader_epoch())
            .field("attributes", &self.attributes())
            .field("record_count", &self.record_count())
            .field("producer_id", &self.producer_id())
            .field("base_sequence", &self.base_sequence())
            .finish_non_exhaustive()
    }
}

/// All fields of a header that is being written; the builder's side of [`BatchView`].
pub(crate) struct HeaderFields {
    pub base_offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub attributes: i16,
    pub base_timestamp: TimestampMs,
    pub max_timestamp: TimestampMs,
    pub producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl HeaderFields {
    /// The header of a batch with these record bytes, with its CRC.
    pub(crate) fn encode(&self, length: i32, records: &[u8]) -> [u8; BATCH_HEADER_BYTES] {
        let mut header = [0; BATCH_HEADER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.base_offset.0.to_be_bytes());
        put(LENGTH_AT, &length.to_be_bytes());
        put(LEADER_EPOCH_AT, &self.leader_epoch.0.to_be_bytes());
        put(MAGIC_AT, &MAGIC.to_be_bytes());
        put(ATTRIBUTES_AT, &self.attributes.to_be_bytes());
        put(LAST_OFFSET_DELTA_AT, &(self.record_count - 1).to_be_bytes());
        put(BASE_TIMESTAMP_AT, &self.base_timestamp.0.to_be_bytes());
        put(MAX_TIMESTAMP_AT, &self.max_timestamp.0.to_be_bytes());
        put(PRODUCER_ID_AT, &self.producer_id.0.to_be_bytes());
        put(PRODUCER_EPOCH_AT, &self.producer_epoch.0.to_be_bytes());
        put(BASE_SEQUENCE_AT, &self.base_sequence.to_be_bytes());
        put(RECORD_COUNT_AT, &self.record_count.to_be_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[ATTRIBUTES_AT..]), records);
        header[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        header
    }
}
