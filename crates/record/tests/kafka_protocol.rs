//! The format is Kafka's: the `kafka-protocol` crate and this one read each other's batches, and write the same bytes.

mod common;

use bytes::{Bytes, BytesMut};
use common::{LIMIT, codec, filled, records, stamped};
use duolog_record::{BatchBuilder, Compression, Record, RecordBatch, split_batches};
use duolog_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression as TheirCodec, Record as TheirRecord, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions,
    TimestampType,
};
use proptest::prelude::*;

fn their_codec(codec: Compression) -> TheirCodec {
    match codec {
        Compression::None => TheirCodec::None,
        Compression::Gzip => TheirCodec::Gzip,
        Compression::Snappy => TheirCodec::Snappy,
        Compression::Lz4 => TheirCodec::Lz4,
        Compression::Zstd => TheirCodec::Zstd,
    }
}

/// Their headers are a map, so names are made unique.
fn unique_headers(mut records: Vec<Record>) -> Vec<Record> {
    for record in &mut records {
        for (n, header) in record.headers.iter_mut().enumerate() {
            header.key = Bytes::from(format!("header-{n}"));
        }
    }
    // Their base timestamp is the least, ours the first, as Java's.
    records.sort_by_key(|record| record.timestamp);
    for (n, record) in records.iter_mut().enumerate() {
        record.offset = Offset(n as i64);
    }
    records
}

fn theirs(records: &[Record], codec: Compression) -> Bytes {
    let records: Vec<_> = records
        .iter()
        .map(|record| TheirRecord {
            transactional: true,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: 3,
            producer_id: 42,
            producer_epoch: 1,
            sequence: 10 + record.offset.0 as i32,
            timestamp_type: TimestampType::Creation,
            offset: record.offset.0,
            timestamp: record.timestamp.0,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record
                .headers
                .iter()
                .map(|h| (StrBytes::try_from(h.key.clone()).expect("ASCII"), h.value.clone()))
                .collect::<IndexMap<_, _>>(),
        })
        .collect();
    let mut out = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: their_codec(codec) };
    RecordBatchEncoder::encode(&mut out, &records, &options).expect("their encoder takes their records");
    out.freeze()
}

fn ours(records: &[Record], codec: Compression) -> RecordBatch {
    let builder = BatchBuilder::new()
        .compression(codec)
        .leader_epoch(LeaderEpoch(3))
        .producer(ProducerId(42), ProducerEpoch(1), 10)
        .transactional();
    filled(builder, records)
}

/// Made once with kafka-protocol 0.18.0: two records at 5 and 6 ms, as `stamped` makes them.
const GOLDEN: &[u8] = include_bytes!("golden/kafka-protocol-0.18.0-none.bin");

#[test]
fn the_golden_batch_is_rebuilt_byte_for_byte() {
    assert_eq!(stamped(Compression::None, &[5, 6]).bytes(), GOLDEN);
}

#[test]
fn the_golden_batch_is_what_their_encoder_writes() {
    let mut out = BytesMut::new();
    let records = [5, 6].map(|ts| TheirRecord {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        // Without idempotence the base sequence is −1, and their encoder derives it from the first record.
        sequence: ts as i32 - 6,
        timestamp_type: TimestampType::Creation,
        offset: ts - 5,
        timestamp: ts,
        key: Some(Bytes::from(format!("key-{}", ts - 5))),
        value: Some(Bytes::from(format!("value-{}", ts - 5))),
        headers: [(StrBytes::from_static_str("h"), None)].into_iter().collect(),
    });
    let options = RecordEncodeOptions { version: 2, compression: TheirCodec::None };
    RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
    assert_eq!(out, GOLDEN);
}

proptest! {
    #[test]
    fn uncompressed_batches_are_the_same_bytes(records in records()) {
        let records = unique_headers(records);
        prop_assert_eq!(ours(&records, Compression::None).into_bytes(), theirs(&records, Compression::None));
    }

    #[test]
    fn their_batches_are_read(records in records(), codec in codec()) {
        let records = unique_headers(records);
        let batches = split_batches(theirs(&records, codec)).unwrap();
        prop_assert_eq!(batches.len(), 1);
        let read: Vec<_> = batches[0].records(LIMIT).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(read, records);
    }

    #[test]
    fn our_batches_are_read_by_them(records in records(), codec in codec()) {
        let records = unique_headers(records);
        let read = RecordBatchDecoder::decode(&mut ours(&records, codec).into_bytes()).unwrap();
        prop_assert_eq!(read.compression, their_codec(codec));
        prop_assert_eq!(read.records.len(), records.len());
        for (theirs, ours) in read.records.iter().zip(&records) {
            prop_assert_eq!((theirs.offset, theirs.timestamp), (ours.offset.0, ours.timestamp.0));
            prop_assert_eq!((&theirs.key, &theirs.value), (&ours.key, &ours.value));
            prop_assert_eq!(theirs.headers.len(), ours.headers.len());
            prop_assert_eq!(theirs.sequence, 10 + ours.offset.0 as i32);
        }
    }
}
