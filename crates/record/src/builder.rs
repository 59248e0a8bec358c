//! Building a batch from records: tests, single sends, transaction markers, batches rebuilt on reading.

use bytes::{BufMut, Bytes, BytesMut};
use duolog_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs};

use crate::header::{CONTROL_BIT, HeaderFields, LENGTH_OVERHEAD_BYTES, TRANSACTIONAL_BIT};
use crate::varint::{write_i32, write_i64};
use crate::{BATCH_HEADER_BYTES, Compression, RecordBatch, RecordHeader};

/// A batch that cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A batch has at least one record.
    #[error("a record batch needs at least one record")]
    Empty,
    /// Larger than the 32-bit fields of the format.
    #[error("record batch of {size} bytes is too large: expected at most {limit} bytes")]
    TooLarge {
        /// Size in bytes.
        size: usize,
        /// The format's limit in bytes.
        limit: usize,
    },
    /// A timestamp too far from the first one.
    #[error("timestamp {timestamp} ms is out of range of the first record's")]
    Timestamp {
        /// The timestamp.
        timestamp: i64,
    },
    /// The codec failed.
    #[error("records cannot be compressed: {0}")]
    Compress(String),
}

/// Collects records and makes a batch of them. As Java's producer, the first record's timestamp is the base.
#[derive(Debug)]
pub struct BatchBuilder {
    compression: Compression,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: i32,
    flags: i16,
    records: Vec<u8>,
    record: Vec<u8>,
    record_count: i32,
    base_timestamp: TimestampMs,
    max_timestamp: TimestampMs,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// A batch as a producer without idempotence sends it: base offset 0, no leader epoch, no compression.
    #[must_use]
    pub fn new() -> Self {
        Self {
            compression: Compression::None,
            base_offset: Offset(0),
            leader_epoch: LeaderEpoch(-1),
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(-1),
            base_sequence: -1,
            flags: 0,
            records: Vec::new(),
            record: Vec::new(),
            record_count: 0,
            base_timestamp: TimestampMs(0),
            max_timestamp: TimestampMs(0),
        }
    }

    /// Compresses the records with this codec.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Offset of the first record.
    #[must_use]
    pub fn base_offset(mut self, base_offset: Offset) -> Self {
        self.base_offset = base_offset;
        self
    }

    /// The leader epoch.
    #[must_use]
    pub fn leader_epoch(mut self, leader_epoch: LeaderEpoch) -> Self {
        self.leader_epoch = leader_epoch;
        self
    }

    /// The idempotent producer and the sequence number of the first record.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (id, epoch, base_sequence);
        self
    }

    /// Makes the batch part of a Kafka transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.flags |= TRANSACTIONAL_BIT;
        self
    }

    /// Makes it a batch of transaction markers.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.flags |= CONTROL_BIT;
        self
    }

    /// Records pushed so far.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Size of the batch so far, in bytes, before compression.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.records.len()
    }

    /// Adds a record without headers.
    ///
    /// # Errors
    /// As [`BatchBuilder::push_with_headers`].
    pub fn push(
        &mut self,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<&mut Self, BuildError> {
        self.push_with_headers(timestamp, key, value, &[])
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`BuildError::TooLarge`] or [`BuildError::Timestamp`]; the builder is as before then.
    pub fn push_with_headers(
        &mut self,
        timestamp: TimestampMs,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader],
    ) -> Result<&mut Self, BuildError> {
        let base = if self.record_count == 0 { timestamp } else { self.base_timestamp };
        let delta = timestamp.0.checked_sub(base.0).ok_or(BuildError::Timestamp { timestamp: timestamp.0 })?;
        let headers_bytes: usize =
            headers.iter().map(|h| h.key.len() + h.value.as_ref().map_or(0, Bytes::len) + 10).sum();
        let parts = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + headers_bytes + 64;
        check_size(self.size_bytes() + parts)?;

        self.record.clear();
        self.record.push(0);
        write_i64(&mut self.record, delta);
        write_i32(&mut self.record, self.record_count);
        put_blob(&mut self.record, key);
        put_blob(&mut self.record, value);
        write_i32(&mut self.record, headers.len() as i32);
        for header in headers {
            put_blob(&mut self.record, Some(&header.key));
            put_blob(&mut self.record, header.value.as_deref());
        }
        write_i32(&mut self.records, self.record.len() as i32);
        self.records.extend_from_slice(&self.record);

        self.max_timestamp = if self.record_count == 0 { timestamp } else { self.max_timestamp.max(timestamp) };
        self.base_timestamp = base;
        self.record_count += 1;
        Ok(self)
    }

    /// The batch.
    ///
    /// # Errors
    /// [`BuildError::Empty`], [`BuildError::TooLarge`] or [`BuildError::Compress`].
    pub fn build(self) -> Result<RecordBatch, BuildError> {
        if self.record_count == 0 {
            return Err(BuildError::Empty);
        }
        let records = match self.compression {
            Compression::None => self.records,
            codec => codec.compress(&self.records).map_err(|error| BuildError::Compress(error.to_string()))?,
        };
        let size = BATCH_HEADER_BYTES + records.len();
        check_size(size)?;
        let fields = HeaderFields {
            base_offset: self.base_offset,
            leader_epoch: self.leader_epoch,
            attributes: i16::from(self.compression.id()) | self.flags,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.record_count,
        };
        let mut out = BytesMut::with_capacity(size);
        out.put_slice(&fields.encode((size - LENGTH_OVERHEAD_BYTES) as i32, &records));
        out.put_slice(&records);
        Ok(RecordBatch::parse(out.freeze()).expect("built with magic 2 and the right length"))
    }
}

fn check_size(size: usize) -> Result<(), BuildError> {
    let limit = i32::MAX as usize;
    if size > limit { Err(BuildError::TooLarge { size, limit }) } else { Ok(()) }
}

fn put_blob(out: &mut Vec<u8>, blob: Option<&[u8]>) {
    match blob {
        None => write_i32(out, -1),
        Some(blob) => {
            write_i32(out, blob.len() as i32);
            out.extend_from_slice(blob);
        }
    }
}
