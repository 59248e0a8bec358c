//! What can be wrong with a batch, and what a front end should make of it.

use crate::Compression;

/// A batch that was refused. `expected` and `found` are in the unit that the message names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than the header or the length field promises.
    #[error("record batch is truncated: expected {expected} bytes, found {found}")]
    Truncated {
        /// Bytes that should be there.
        expected: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// More bytes than the length field says, where exactly one batch was expected.
    #[error("{excess} bytes follow the record batch")]
    TrailingBytes {
        /// Bytes behind the batch.
        excess: usize,
    },
    /// The length field is too small for a header.
    #[error("record batch length {length} bytes is smaller than its header")]
    Length {
        /// The length field.
        length: i32,
    },
    /// Message format 0, 1 or an unknown one.
    #[error("unsupported message format {found}: expected 2")]
    UnsupportedMagic {
        /// The magic byte.
        found: i8,
    },
    /// The CRC-32C of attributes to the end of the batch does not match.
    #[error("record batch is corrupt: expected CRC-32C {expected:#010x}, found {found:#010x}")]
    Crc {
        /// As the header says.
        expected: u32,
        /// As computed.
        found: u32,
    },
    /// The compression bits name no codec.
    #[error("unknown compression codec {id}")]
    UnknownCompression {
        /// Attribute bits 0–2.
        id: u8,
    },
    /// The count is below one, or the last offset delta is not count − 1.
    #[error("record count {count} does not match last offset delta {last_offset_delta}")]
    Count {
        /// The count of the header.
        count: i32,
        /// The last offset delta of the header.
        last_offset_delta: i32,
    },
    /// A client sent a control batch.
    #[error("clients may not write control batches")]
    ControlBatch,
    /// A client sent a base offset other than 0.
    #[error("base offset of a produced batch must be 0, found {found}")]
    BaseOffset {
        /// The base offset.
        found: i64,
    },
    /// A producer id without a sequence number.
    #[error("batch of producer {producer_id} has base sequence {base_sequence}")]
    BaseSequence {
        /// The producer id.
        producer_id: i64,
        /// The base sequence.
        base_sequence: i32,
    },
    /// A client claims log append time, which only the broker may stamp.
    #[error("producers may not set the timestamp type to LogAppendTime")]
    LogAppendTime,
    /// A record's framing is wrong.
    #[error("record {index} of the batch is invalid: {what}")]
    Record {
        /// Position in the batch, from 0.
        index: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// The compressed records cannot be decompressed.
    #[error("{compression} records cannot be decompressed: {what}")]
    Decompress {
        /// The codec.
        compression: Compression,
        /// The codec's words.
        what: String,
    },
    /// The records are larger than the caller accepts.
    #[error("records exceed {limit} bytes once decompressed")]
    OutputTooLarge {
        /// The caller's limit, in bytes.
        limit: usize,
    },
}

/// The family of a [`BatchError`]: one Kafka error code each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchErrorKind {
    /// CORRUPT_MESSAGE: damaged on the way; the producer may send it again.
    Corrupt,
    /// INVALID_RECORD: the producer is wrong.
    Invalid,
    /// UNSUPPORTED_FOR_MESSAGE_FORMAT.
    UnsupportedMagic,
    /// UNSUPPORTED_COMPRESSION_TYPE.
    UnsupportedCompression,
    /// INVALID_TIMESTAMP.
    InvalidTimestamp,
    /// MESSAGE_TOO_LARGE.
    TooLarge,
}

impl BatchError {
    /// The family of this error.
    #[must_use]
    pub fn kind(&self) -> BatchErrorKind {
        match self {
            Self::Truncated { .. }
            | Self::TrailingBytes { .. }
            | Self::Length { .. }
            | Self::Crc { .. }
            | Self::Decompress { .. } => BatchErrorKind::Corrupt,
            Self::Count { .. }
            | Self::ControlBatch
            | Self::BaseOffset { .. }
            | Self::BaseSequence { .. }
            | Self::Record { .. } => BatchErrorKind::Invalid,
            Self::UnsupportedMagic { .. } => BatchErrorKind::UnsupportedMagic,
            Self::UnknownCompression { .. } => BatchErrorKind::UnsupportedCompression,
            Self::LogAppendTime => BatchErrorKind::InvalidTimestamp,
            Self::OutputTooLarge { .. } => BatchErrorKind::TooLarge,
        }
    }
}
