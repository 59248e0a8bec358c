//! The body of a log entry: round trips, final offsets, and that no damaged body is taken for a good one or panics.

mod common;

use bytes::Bytes;
use common::{LIMIT, codec, filled, records, stamped};
use duolog_record::entry::{
    BatchMeta, ENTRY_HEADER_BYTES, EntryBuilder, EntryError, EntryHeader, EntryView, SLOT_BYTES,
};
use duolog_record::{BatchBuilder, Compression, TimestampKind};
use duolog_types::{
    Durability, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Term, TimestampMs, TopicId, TopicPartition,
};
use proptest::prelude::*;

const HEADER: EntryHeader = EntryHeader { run_term: Term(9), run: 2, number: 77 };

fn meta(partition: u32, base_offset: i64) -> BatchMeta {
    BatchMeta {
        partition: TopicPartition { topic: TopicId([partition as u8; 16]), partition },
        base_offset: Offset(base_offset),
        durability: Durability::ALL[partition as usize % 4],
        flags: 0x80 | (partition as u8) << 2,
        log_append_time: None,
    }
}

fn entry() -> Bytes {
    let mut builder = EntryBuilder::new(HEADER);
    builder.push(meta(1, 100), &stamped(Compression::None, &[5, 6]));
    builder.push(meta(2, 0), &stamped(Compression::Zstd, &[7]));
    builder.finish()
}

#[test]
fn batches_lie_in_the_entry_as_consumers_get_them() {
    let view = EntryView::parse(entry()).unwrap();
    assert_eq!((view.header(), view.slot_count()), (HEADER, 2));
    let slot = view.slot(0).unwrap();
    assert_eq!((slot.base_offset, slot.end_offset(), slot.record_count), (Offset(100), Offset(102), 2));
    assert_eq!(slot.start as usize, ENTRY_HEADER_BYTES + 2 * SLOT_BYTES);
    assert_eq!((slot.max_timestamp, slot.flags), (TimestampMs(6), 0x84));
    assert_eq!((slot.producer_id, slot.producer_epoch, slot.base_sequence), (ProducerId::NONE, ProducerEpoch(-1), -1));
    let batch = view.batch(&slot);
    batch.check_crc().unwrap();
    assert_eq!((batch.view().base_offset(), batch.view().leader_epoch()), (Offset(100), LeaderEpoch(9)));
    assert_eq!(batch.bytes().as_ptr(), view.body()[slot.start as usize..].as_ptr(), "no copy");
    assert_eq!(view.slot(2), None);
}

#[test]
fn log_append_time_is_stamped_while_copying() {
    let mut builder = EntryBuilder::new(HEADER);
    let produced = stamped(Compression::Gzip, &[5, 6]);
    builder.push(BatchMeta { log_append_time: Some(TimestampMs(99)), ..meta(0, 4) }, &produced);
    let view = EntryView::parse(builder.finish()).unwrap();
    let slot = view.slot(0).unwrap();
    let batch = view.batch(&slot);
    batch.check_crc().unwrap();
    assert_eq!((slot.max_timestamp, batch.view().timestamp_kind()), (TimestampMs(99), TimestampKind::LogAppendTime));
    assert!(batch.records(LIMIT).unwrap().all(|record| record.unwrap().timestamp == TimestampMs(99)));
}

#[test]
fn an_entry_without_batches_is_one_too() {
    let empty = EntryBuilder::new(HEADER);
    assert!(empty.is_empty());
    let body = empty.finish();
    assert_eq!(body.len(), ENTRY_HEADER_BYTES);
    assert_eq!(EntryView::parse(body).unwrap().slots().len(), 0);
}

#[test]
fn the_layout_is_the_documented_one() {
    let body = entry();
    let (header, table) = body.split_at(ENTRY_HEADER_BYTES);
    assert_eq!(
        header,
        [1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 77]
    );
    assert_eq!(table[..16], [1; 16]);
    assert_eq!(table[16..20], 1u32.to_be_bytes());
    assert_eq!(table[20..28], 100i64.to_be_bytes());
    assert_eq!(table[28..32], 2u32.to_be_bytes());
    assert_eq!(table[32..36], 160u32.to_be_bytes());
    assert_eq!(table[40..48], 6i64.to_be_bytes());
    assert_eq!(table[48..50], [Durability::ALL[1].to_bits(), 0x84]);
    assert_eq!(table[50..64], [0xff; 14]);
}

#[test]
fn truncated_and_extended_entries_are_refused() {
    let body = entry();
    for end in 0..body.len() {
        EntryView::parse(body.slice(..end)).expect_err("a truncated entry");
    }
    let longer = EntryView::parse([&body[..], &[0]].concat().into());
    assert!(matches!(longer, Err(EntryError::Malformed { .. })), "{longer:?}");
}

#[test]
fn what_the_table_says_is_checked_against_the_batches() {
    let check = |at: usize, what: &str| {
        let mut bad = entry().to_vec();
        bad[at] ^= 0x40;
        let error = EntryView::parse(bad.into()).expect_err(what).to_string();
        assert!(error.contains(what), "byte {at}: {error}");
    };
    check(0, "unknown entry version 65: expected 1 or 2");
    check(1, "reserved bytes");
    check(4, "truncated");
    let slot = ENTRY_HEADER_BYTES;
    check(slot + 27, "base offset or record count differs");
    check(slot + 31, "base offset or record count differs");
    check(slot + 35, "byte range out of place");
    check(slot + 36, "byte range out of place");
    check(slot + 48, "unknown durability bits");
    check(slot + 2 * SLOT_BYTES + 16, "unsupported message format");
}

proptest! {
    #[test]
    fn round_trip(batches in proptest::collection::vec((records(), codec(), 0u32..4, 0i64..1 << 40), 0..6)) {
        let batches: Vec<_> = batches
            .into_iter()
            .map(|(records, codec, partition, base)| {
                let builder = BatchBuilder::new().compression(codec).producer(ProducerId(base), ProducerEpoch(1), 3);
                (meta(partition, base), filled(builder, &records), records)
            })
            .collect();
        let mut builder = EntryBuilder::new(HEADER);
        for (meta, batch, _) in &batches {
            builder.push(*meta, batch);
        }
        let size = builder.size_bytes();
        let body = builder.finish();
        prop_assert_eq!(body.len(), size);
        let view = EntryView::parse(body).unwrap();
        prop_assert_eq!(view.slots().len(), batches.len());
        for (slot, (meta, batch, records)) in view.slots().zip(&batches) {
            prop_assert_eq!((slot.partition, slot.base_offset, slot.durability, slot.flags),
                (meta.partition, meta.base_offset, meta.durability, meta.flags));
            prop_assert_eq!((slot.producer_id.0, slot.base_sequence), (meta.base_offset.0, 3));
            let stored = view.batch(&slot);
            stored.check_crc().unwrap();
            prop_assert_eq!(&stored.bytes()[16..], &batch.bytes()[16..]);
            for (read, sent) in stored.records(LIMIT).unwrap().map(Result::unwrap).zip(records) {
                prop_assert_eq!(read.offset, meta.base_offset.plus(sent.offset.0));
                prop_assert_eq!((read.key, read.value), (sent.key.clone(), sent.value.clone()));
            }
        }
    }

    #[test]
    fn damage_never_panics(damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut: prop::sample::Index) {
        let mut bad = entry().to_vec();
        for (at, byte) in damage {
            let at = at.index(bad.len());
            bad[at] = byte;
        }
        let bad = Bytes::from(bad);
        for bytes in [bad.clone(), bad.slice(..cut.index(bad.len()))] {
            if let Ok(view) = EntryView::parse(bytes) {
                for slot in view.slots() {
                    let _ = view.batch(&slot).check_crc();
                }
            }
        }
    }
}
