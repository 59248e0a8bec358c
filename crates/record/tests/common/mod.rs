//! What the tests of this crate share: arbitrary records and batches made of them.
#![allow(dead_code)] // Each test binary uses its own part.

use bytes::Bytes;
use duolog_record::{BatchBuilder, Compression, Record, RecordBatch, RecordHeader};
use duolog_types::{Offset, TimestampMs};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

/// More than any test's records take.
pub const LIMIT: usize = 1 << 20;

fn blob() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn header() -> impl Strategy<Value = RecordHeader> {
    (blob(), of(blob())).prop_map(|(key, value)| RecordHeader { key, value })
}

/// Records with offsets from 0.
pub fn records() -> impl Strategy<Value = Vec<Record>> {
    let record = (0i64..2_000_000_000_000, of(blob()), of(blob()), vec(header(), 0..4));
    vec(record, 1..12).prop_map(|records| {
        let numbered = records.into_iter().enumerate();
        numbered
            .map(|(n, (timestamp, key, value, headers))| Record {
                offset: Offset(n as i64),
                timestamp: TimestampMs(timestamp),
                key,
                value,
                headers,
            })
            .collect()
    })
}

pub fn codec() -> impl Strategy<Value = Compression> {
    (0u8..5).prop_map(|id| Compression::from_id(id).expect("five codecs"))
}

/// Pushes records into a builder.
pub fn filled(mut builder: BatchBuilder, records: &[Record]) -> RecordBatch {
    for record in records {
        builder
            .push_with_headers(record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers)
            .expect("small records fit");
    }
    builder.build().expect("there are records")
}

/// A batch of records with these timestamps, keys and values by position.
pub fn stamped(codec: Compression, timestamps: &[i64]) -> RecordBatch {
    let records: Vec<_> = (0i64..)
        .zip(timestamps)
        .map(|(n, timestamp)| Record {
            offset: Offset(n),
            timestamp: TimestampMs(*timestamp),
            key: Some(Bytes::from(format!("key-{n}"))),
            value: Some(Bytes::from(format!("value-{n}"))),
            headers: vec![RecordHeader { key: Bytes::from_static(b"h"), value: None }],
        })
        .collect();
    filled(BatchBuilder::new().compression(codec), &records)
}
