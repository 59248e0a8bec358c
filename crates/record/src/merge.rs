//! Batches of one record each that become one batch: single sends that lie side by side in a partition.
//!
//! ```text
//! record: length varint ┊ attributes i8 ┊ timestamp delta varlong ┊ offset delta varint ┊ key, value, headers
//!         └────────────────────── written anew: the head ─────────────────────────────┘   └─ shared: the rest
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use duolog_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs};

use crate::header::{HeaderFields, LENGTH_OVERHEAD_BYTES};
use crate::varint::{read_i32, read_i64, write_i32, write_i64};
use crate::{BATCH_HEADER_BYTES, RecordBatch};

/// A merged batch stays small: whoever wants one of its records reads all of it.
const MERGED_BYTES_MAX: usize = 32 << 10;
/// The longest head: two varints of five bytes, one of ten, and the attributes.
const HEAD_BYTES_MAX: usize = 21;

/// The one record of a batch.
#[derive(Debug, Clone)]
struct Single {
    attributes: u8,
    timestamp: i64,
    /// Key, value and headers, as they came.
    rest: Bytes,
}

impl Single {
    /// `None` when the batch is something else than one plain record: several, compressed, of an idempotent producer or of a
    /// transaction.
    fn of(batch: &RecordBatch) -> Option<Self> {
        let view = batch.view();
        // No bit of the attributes: uncompressed, with the producer's time.
        let is_plain = view.record_count() == 1 && view.attributes() == 0 && view.producer_id() == ProducerId::NONE;
        if !is_plain {
            return None;
        }
        let record = batch.record_bytes();
        let mut bytes = &record[..];
        let length = usize::try_from(read_i32(&mut bytes)?).ok()?;
        if length != bytes.len() {
            return None;
        }
        let (attributes, after) = bytes.split_first()?;
        bytes = after;
        let delta = read_i64(&mut bytes)?;
        let timestamp = view.base_timestamp().0.checked_add(delta)?;
        let offset_delta = read_i32(&mut bytes)?;
        let rest = record.slice(record.len() - bytes.len()..);
        (offset_delta == 0).then_some(Self { attributes: *attributes, timestamp, rest })
    }
}

/// A record of a merged batch.
#[derive(Debug)]
struct Piece {
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: usize,
    rest: Bytes,
}

impl Piece {
    fn size_bytes(&self) -> usize {
        self.head_bytes + self.rest.len()
    }
}

/// Records of several batches of one record, which become one batch.
#[derive(Debug)]
pub(crate) struct MergedBatch {
    pieces: Vec<Piece>,
    size_bytes: usize,
    base_timestamp: TimestampMs,
    max_timestamp: TimestampMs,
    scratch: Vec<u8>,
}

impl MergedBatch {
    /// Two batches as one; `None` when they have to stay apart.
    pub(crate) fn of(first: &RecordBatch, second: &RecordBatch) -> Option<Self> {
        let single = Single::of(first)?;
        let timestamp = TimestampMs(single.timestamp);
        let mut merged = Self {
            pieces: Vec::new(),
            size_bytes: BATCH_HEADER_BYTES,
            base_timestamp: timestamp,
            max_timestamp: timestamp,
            scratch: Vec::new(),
        };
        (merged.add(single) && merged.push(second)).then_some(merged)
    }

    /// Whether the batch's record was taken in.
    pub(crate) fn push(&mut self, batch: &RecordBatch) -> bool {
        Single::of(batch).is_some_and(|single| self.add(single))
    }

    fn add(&mut self, single: Single) -> bool {
        let Some(delta) = single.timestamp.checked_sub(self.base_timestamp.0) else { return false };
        let body = &mut self.scratch;
        body.clear();
        body.push(single.attributes);
        write_i64(body, delta);
        write_i32(body, self.pieces.len() as i32);
        let Ok(length) = i32::try_from(body.len() + single.rest.len()) else { return false };
        let mut head = Vec::with_capacity(HEAD_BYTES_MAX);
        write_i32(&mut head, length);
        head.extend_from_slice(body);
        let mut piece = Piece { head: [0; HEAD_BYTES_MAX], head_bytes: head.len(), rest: single.rest };
        piece.head[..head.len()].copy_from_slice(&head);
        if !self.pieces.is_empty() && self.size_bytes + piece.size_bytes() > MERGED_BYTES_MAX {
            return false;
        }
        self.size_bytes += piece.size_bytes();
        self.max_timestamp = self.max_timestamp.max(TimestampMs(single.timestamp));
        self.pieces.push(piece);
        true
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub(crate) fn record_count(&self) -> u32 {
        self.pieces.len() as u32
    }

    pub(crate) fn max_timestamp(&self) -> TimestampMs {
        self.max_timestamp
    }

    /// Writes the batch, with base offset 0 and without a leader epoch.
    pub(crate) fn put(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_bytes(0, BATCH_HEADER_BYTES);
        for piece in &self.pieces {
            out.put_slice(&piece.head[..piece.head_bytes]);
            out.put_slice(&piece.rest);
        }
        let fields = HeaderFields {
            base_offset: Offset(0),
            leader_epoch: LeaderEpoch(-1),
            attributes: 0,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(-1),
            base_sequence: -1,
            record_count: self.pieces.len() as i32,
        };
        let length = (self.size_bytes - LENGTH_OVERHEAD_BYTES) as i32;
        let header = fields.encode(length, &out[start + BATCH_HEADER_BYTES..]);
        out[start..start + BATCH_HEADER_BYTES].copy_from_slice(&header);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{BatchBuilder, Compression, Record, RecordHeader};

    fn single(timestamp: i64, key: Option<&[u8]>, value: &[u8]) -> RecordBatch {
        let headers = [RecordHeader { key: "h".into(), value: Some(Bytes::copy_from_slice(value)) }];
        let mut builder = BatchBuilder::new();
        builder.push_with_headers(TimestampMs(timestamp), key, Some(value), &headers).unwrap();
        builder.build().unwrap()
    }

    fn records(batch: &RecordBatch) -> Vec<Record> {
        batch.records(usize::MAX).unwrap().collect::<Result<_, _>>().unwrap()
    }

    proptest! {
        #[test]
        fn every_record_is_as_it_was_but_for_its_offset(
            parts in proptest::collection::vec((any::<i32>(), proptest::option::of("[a-z]{0,9}"), "[a-z]{0,200}"), 2..20),
        ) {
            let batches: Vec<RecordBatch> = parts
                .iter()
                .map(|(time, key, value)| single(i64::from(*time), key.as_ref().map(|k| k.as_bytes()), value.as_bytes()))
                .collect();
            let mut merged = MergedBatch::of(&batches[0], &batches[1]).unwrap();
            prop_assert!(batches[2..].iter().all(|batch| merged.push(batch)));
            let mut out = BytesMut::new();
            merged.put(&mut out);
            prop_assert_eq!(out.len(), merged.size_bytes());
            let batch = crate::split_batches(out.freeze()).unwrap().remove(0);
            crate::validate_records(&batch, usize::MAX).unwrap();
            prop_assert_eq!(batch.view().max_timestamp(), merged.max_timestamp());
            let expected = batches.iter().zip(0..).map(|(batch, offset)| {
                Record { offset: Offset(offset), ..records(batch).remove(0) }
            });
            prop_assert_eq!(records(&batch), expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_not_one_plain_record_stays_apart() {
        let plain = single(1, None, b"v");
        let build = |builder: BatchBuilder, count: usize| {
            let mut builder = builder;
            for _ in 0..count {
                builder
                    .push(TimestampMs(1), None, Some(b"a value that can be compressed, compressed, compressed"))
                    .unwrap();
            }
            builder.build().unwrap()
        };
        let stamped = crate::patch::set_log_append_time(single(1, None, b"v"), TimestampMs(2));
        for other in [
            build(BatchBuilder::new(), 2),
            build(BatchBuilder::new().compression(Compression::Lz4), 1),
            build(BatchBuilder::new().producer(ProducerId(1), ProducerEpoch(0), 0), 1),
            build(BatchBuilder::new().transactional(), 1),
            build(BatchBuilder::new().control(), 1),
            stamped,
            single(i64::MAX, None, b"too far from -2"),
        ] {
            let first = if other.view().max_timestamp().0 == i64::MAX { single(-2, None, b"v") } else { plain.clone() };
            assert!(MergedBatch::of(&first, &other).is_none(), "{other:?}");
        }
        let large = single(1, None, &[b'x'; MERGED_BYTES_MAX]);
        assert!(MergedBatch::of(&plain, &large).is_none());
        assert!(MergedBatch::of(&large, &plain).is_none());
    }
}
