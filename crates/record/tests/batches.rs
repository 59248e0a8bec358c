//! What a producer may send, what is found in it, what the broker writes into it, and that no damage passes.

mod common;

use bytes::Bytes;
use common::{LIMIT, codec, filled, records, stamped};
use duolog_record::{
    BatchBuilder, BatchError, BatchErrorKind, Compression, RecordBatch, TimestampKind, first_record_at_or_after,
    max_timestamp_record, patch, split_batches, validate_records,
};
use duolog_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs};
use proptest::prelude::*;

fn patched(batch: &RecordBatch, at: usize, bytes: &[u8]) -> Bytes {
    let mut copy = batch.bytes().to_vec();
    copy[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&copy[21..]);
    copy[17..21].copy_from_slice(&crc.to_be_bytes());
    copy.into()
}

#[test]
fn each_rule_of_a_produced_batch_is_kept() {
    let good = stamped(Compression::None, &[5, 6]);
    let check = |at: usize, bytes: &[u8], kind: BatchErrorKind| {
        let error = split_batches(patched(&good, at, bytes)).unwrap_err();
        assert_eq!(error.kind(), kind, "byte {at} set to {bytes:?}: {error}");
    };
    check(0, &1i64.to_be_bytes(), BatchErrorKind::Invalid);
    check(8, &48i32.to_be_bytes(), BatchErrorKind::Corrupt);
    check(8, &(-1i32).to_be_bytes(), BatchErrorKind::Corrupt);
    check(8, &i32::MAX.to_be_bytes(), BatchErrorKind::Corrupt);
    check(16, &[1], BatchErrorKind::UnsupportedMagic);
    check(16, &[0], BatchErrorKind::UnsupportedMagic);
    check(21, &[0, 5], BatchErrorKind::UnsupportedCompression);
    check(21, &[0, 1 << 3], BatchErrorKind::InvalidTimestamp);
    check(21, &[0, 1 << 5], BatchErrorKind::Invalid);
    check(23, &2i32.to_be_bytes(), BatchErrorKind::Invalid);
    check(43, &7i64.to_be_bytes(), BatchErrorKind::Invalid);
    check(57, &0i32.to_be_bytes(), BatchErrorKind::Invalid);
    check(57, &(-1i32).to_be_bytes(), BatchErrorKind::Invalid);
    check(57, &3i32.to_be_bytes(), BatchErrorKind::Invalid);
    // Count and delta agree, the records do not: one too many, one too few.
    check(23, &[0, 0, 0, 0], BatchErrorKind::Invalid);
    for count in [1i32, 3] {
        let claimed = patched(&good, 57, &count.to_be_bytes());
        let claimed = patched(&RecordBatch::parse(claimed).unwrap(), 23, &(count - 1).to_be_bytes());
        assert!(matches!(split_batches(claimed).unwrap_err(), BatchError::Record { .. }), "{count} records claimed");
    }
}

#[test]
fn records_that_contradict_themselves_are_found_behind_every_codec() {
    // The second record's offset delta is 2 instead of 1.
    let mut raw = stamped(Compression::None, &[5, 6]).record_bytes().to_vec();
    let second = 1 + raw[0] as usize / 2;
    assert_eq!(raw[second + 3], 2, "the varint of offset delta 1");
    raw[second + 3] = 4;
    for codec in Compression::ALL {
        let batch = stamped(codec, &[5, 6]);
        let mut bytes = batch.bytes()[..61].to_vec();
        bytes.extend(match codec {
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                std::io::Write::write_all(&mut encoder, &raw).unwrap();
                encoder.finish().unwrap()
            }
            Compression::None => raw.clone(),
            Compression::Snappy => snap::raw::Encoder::new().compress_vec(&raw).unwrap(),
            Compression::Lz4 => {
                let mut encoder = lz4::EncoderBuilder::new().build(Vec::new()).unwrap();
                std::io::Write::write_all(&mut encoder, &raw).unwrap();
                encoder.finish().0
            }
            Compression::Zstd => zstd::stream::encode_all(&raw[..], 3).unwrap(),
        });
        let length = bytes.len() as i32 - 12;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let batch = RecordBatch::parse(bytes.into()).unwrap();
        let what = "offset deltas are not consecutive from 0";
        assert_eq!(validate_records(&batch, LIMIT), Err(BatchError::Record { index: 1, what }), "{codec}");
    }
}

#[test]
fn damage_at_every_byte_and_every_cut_is_found() {
    for codec in Compression::ALL {
        let good = stamped(codec, &[1, 2, 3]);
        for at in 0..good.size_bytes() {
            for bit in 0..8 {
                let mut bad = good.bytes().to_vec();
                bad[at] ^= 1 << bit;
                // The leader epoch is the broker's to write: outside of the CRC, and ignored in a producer's batch.
                let passes = split_batches(bad.into()).is_ok();
                assert_eq!(passes, (12..16).contains(&at), "{codec}: bit {bit} of byte {at} flipped");
            }
        }
        for end in 1..good.size_bytes() {
            split_batches(good.bytes().slice(..end)).expect_err("a truncated batch");
            RecordBatch::parse(good.bytes().slice(..end)).expect_err("a truncated batch");
        }
    }
}

#[test]
fn several_batches_are_split_without_copying() {
    let (a, b) = (stamped(Compression::None, &[1]), stamped(Compression::Zstd, &[2, 3]));
    let both = Bytes::from([&a.bytes()[..], &b.bytes()[..]].concat());
    let split = split_batches(both.clone()).unwrap();
    assert_eq!(split, [a.clone(), b]);
    assert_eq!(split[0].bytes().as_ptr(), both.as_ptr());
    assert_eq!(split_batches(Bytes::new()).unwrap(), []);
    let tail = split_batches(Bytes::from([&a.bytes()[..], &[0; 5]].concat())).unwrap_err();
    assert_eq!(tail.kind(), BatchErrorKind::Corrupt);
    assert_eq!(
        RecordBatch::parse(Bytes::from([&a.bytes()[..], &[0; 5]].concat())),
        Err(BatchError::TrailingBytes { excess: 5 })
    );
}

#[test]
fn a_patched_prefix_leaves_the_crc_valid() {
    let batch = stamped(Compression::Lz4, &[1, 2]);
    let prefix = patch::patched_header(&batch, Offset(1_000), LeaderEpoch(7));
    let body = patch::body_after_header(&batch);
    assert_eq!(body.as_ptr(), batch.bytes()[16..].as_ptr(), "the body is not copied");
    let patched = RecordBatch::parse([&prefix[..], &body].concat().into()).unwrap();
    patched.check_crc().unwrap();
    assert_eq!((patched.view().base_offset(), patched.view().leader_epoch()), (Offset(1_000), LeaderEpoch(7)));
    assert_eq!(patched.end_offset(), Offset(1_002));
    assert_eq!(patched.records(LIMIT).unwrap().last().unwrap().unwrap().offset, Offset(1_001));
}

#[test]
fn log_append_time_stamps_every_record() {
    for codec in Compression::ALL {
        let shared = stamped(codec, &[1, 2]);
        let stamped = patch::set_log_append_time(shared.clone(), TimestampMs(99));
        stamped.check_crc().unwrap();
        assert_eq!(stamped.view().timestamp_kind(), TimestampKind::LogAppendTime);
        assert_eq!(stamped.view().compression(), Ok(codec));
        assert!(stamped.records(LIMIT).unwrap().all(|r| r.unwrap().timestamp == TimestampMs(99)));
        assert_eq!(shared.view().timestamp_kind(), TimestampKind::CreateTime, "other owners see no change");
        let corrected = patch::set_max_timestamp(shared, TimestampMs(3));
        corrected.check_crc().unwrap();
        assert_eq!(validate_records(&corrected, LIMIT).unwrap().max_timestamp, TimestampMs(2), "records keep theirs");
    }
}

#[test]
fn records_are_found_by_timestamp() {
    for codec in Compression::ALL {
        let batch = stamped(codec, &[10, 30, 20, 30]);
        let found_from = |from, ts| {
            let found = first_record_at_or_after(&batch, Offset(from), TimestampMs(ts), LIMIT).unwrap();
            found.map(|(offset, _)| offset.0)
        };
        assert_eq!([-1, 10, 11, 30, 31].map(|ts| found_from(0, ts)), [Some(0), Some(0), Some(1), Some(1), None]);
        assert_eq!([10, 21, 31].map(|ts| found_from(2, ts)), [Some(2), Some(3), None]);
        assert_eq!(found_from(4, 0), None);
        let greatest_from = |from| max_timestamp_record(&batch, Offset(from), LIMIT).unwrap();
        assert_eq!(greatest_from(0), Some((Offset(1), TimestampMs(30))));
        assert_eq!(greatest_from(2), Some((Offset(3), TimestampMs(30))));
        assert_eq!(greatest_from(4), None);
        let summary = validate_records(&batch, LIMIT).unwrap();
        assert_eq!((summary.min_timestamp.0, summary.max_timestamp.0, summary.max_timestamp_index), (10, 30, 1));
    }
}

#[test]
fn the_output_limit_holds() {
    let mut builder = BatchBuilder::new().compression(Compression::Zstd);
    builder.push(TimestampMs(0), None, Some(&vec![0; 1 << 20])).unwrap();
    let bomb = builder.build().unwrap();
    assert!(bomb.size_bytes() < 1_000);
    assert_eq!(validate_records(&bomb, 1 << 20).unwrap_err().kind(), BatchErrorKind::TooLarge);
    validate_records(&bomb, (1 << 20) + 100).unwrap();
}

proptest! {
    #[test]
    fn what_is_built_is_read(records in records(), codec in codec(), id in 0i64..100, epoch in 0i16..9, sequence in 0i32..99) {
        let builder = BatchBuilder::new()
            .compression(codec)
            .producer(ProducerId(id), ProducerEpoch(epoch), sequence)
            .transactional();
        let batch = filled(builder, &records);
        prop_assert_eq!(&split_batches(batch.bytes().clone()).unwrap()[..], std::slice::from_ref(&batch));
        let view = batch.view();
        prop_assert_eq!((view.producer_id().0, view.producer_epoch().0, view.base_sequence()), (id, epoch, sequence));
        prop_assert!(view.is_transactional() && !view.is_control() && !view.has_delete_horizon());
        prop_assert_eq!(batch.records(LIMIT).unwrap().collect::<Result<Vec<_>, _>>().unwrap(), records.clone());
        let greatest = records.iter().map(|r| r.timestamp).max().unwrap();
        prop_assert_eq!(view.max_timestamp(), greatest);
        prop_assert_eq!(validate_records(&batch, LIMIT).unwrap().max_timestamp, greatest);
    }

    #[test]
    fn garbage_never_panics(garbage in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = split_batches(garbage.into());
    }

    /// Damage with a right CRC: what a broken or hostile client can send.
    #[test]
    fn damaged_records_never_panic(
        records in records(),
        codec in codec(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let good = filled(BatchBuilder::new().compression(codec), &records);
        let mut bad = good.bytes().to_vec();
        for (at, byte) in damage {
            let at = at.index(bad.len());
            bad[at] = byte;
        }
        let crc = crc32c::crc32c(&bad[21..]);
        bad[17..21].copy_from_slice(&crc.to_be_bytes());
        let bad = Bytes::from(bad);
        let _ = split_batches(bad.clone());
        if let Ok(batch) = RecordBatch::parse(bad) {
            let _ = validate_records(&batch, LIMIT);
            let _ = max_timestamp_record(&batch, Offset(0), LIMIT);
            let _ = batch.end_offset();
            if let Ok(records) = batch.records(LIMIT) {
                records.for_each(drop);
            }
        }
    }
}
