//! Version 2 of the body of a log entry: hidden batches, references and closes beside batches.

mod common;

use bytes::Bytes;
use common::stamped;
use duolog_record::entry::{
    Address, BatchMeta, CLOSE_BYTES, Close, Closing, ENTRY_HEADER_BYTES, EntryBuilder, EntryHeader, EntryView,
    HIDDEN_HEAD_BYTES, Hidden, HiddenReason, NO_OFFSET, PAYLOAD_BYTES, Payload, SLOT_BYTES, Slot, SlotKind,
};
use duolog_record::{BatchBuilder, Compression};
use duolog_types::{
    Durability, LeaderEpoch, LogIndex, Offset, ProducerEpoch, ProducerId, Term, TimestampMs, TopicId, TopicPartition,
};
use proptest::prelude::*;

const HEADER: EntryHeader = EntryHeader { run_term: Term(9), run: 2, number: 77 };
const ADDRESS: Address = Address { index: LogIndex(0x0102), slot: 0x0304 };
const HIDDEN: Hidden = Hidden { reason: HiddenReason::Delayed, time: TimestampMs(5_000) };
const PAYLOAD: Payload = Payload { address: ADDRESS, term: Term(7), start: 112, size_bytes: 90 };
const CLOSE: Close = Close { address: ADDRESS, closing: Closing::GivenUp, keep_until: TimestampMs(6_000) };

fn meta(base_offset: Offset) -> BatchMeta {
    BatchMeta {
        partition: TopicPartition { topic: TopicId([3; 16]), partition: 1 },
        base_offset,
        durability: Durability::ALL[2],
        flags: 0x40,
        log_append_time: None,
    }
}

/// One slot of each kind.
fn entry() -> Bytes {
    let mut builder = EntryBuilder::new(HEADER);
    builder.push(meta(Offset(100)), &stamped(Compression::None, &[5, 6]));
    builder.push_hidden(meta(NO_OFFSET), HIDDEN, &stamped(Compression::Lz4, &[8]));
    builder.push_reference(meta(Offset(102)), PAYLOAD, TimestampMs(5_001));
    builder.push_close(meta(NO_OFFSET), CLOSE);
    let size_bytes = builder.size_bytes();
    let body = builder.finish();
    assert_eq!(body.len(), size_bytes);
    body
}

fn slots(body: Bytes) -> Vec<Slot> {
    EntryView::parse(body).unwrap().slots().collect()
}

#[test]
fn every_kind_comes_out_as_it_went_in() {
    let view = EntryView::parse(entry()).unwrap();
    let slots: Vec<_> = view.slots().collect();
    let kinds = [SlotKind::Batch, SlotKind::Hidden(HIDDEN), SlotKind::Reference(PAYLOAD), SlotKind::Close(CLOSE)];
    assert_eq!(slots.iter().map(|slot| slot.kind).collect::<Vec<_>>(), kinds);
    let offsets: Vec<_> = slots.iter().map(|slot| (slot.base_offset.0, slot.record_count)).collect();
    assert_eq!(offsets, [(100, 2), (-1, 1), (102, 1), (-1, 0)]);
    assert_eq!(slots.iter().map(Slot::takes_offsets).collect::<Vec<_>>(), [true, false, true, false]);
    assert_eq!(slots.iter().map(|slot| slot.max_timestamp.0).collect::<Vec<_>>(), [6, 8, 5_001, -1]);
    assert!(slots.iter().all(|slot| slot.flags == 0x40 && slot.durability == Durability::ALL[2]));
    let hidden = view.batch(&slots[1]);
    hidden.check_crc().unwrap();
    assert_eq!((hidden.view().base_offset(), hidden.view().leader_epoch()), (NO_OFFSET, LeaderEpoch(9)));
    assert_eq!(slots[1].size_bytes() as usize, hidden.size_bytes());
    assert_eq!(slots[1].range_start() + HIDDEN_HEAD_BYTES as u32, slots[1].start);
    assert_eq!([&slots[2], &slots[3]].map(|slot| slot.size_bytes() as usize), [PAYLOAD_BYTES, CLOSE_BYTES]);
}

#[test]
fn the_layout_is_the_documented_one() {
    let body = entry();
    let slots = slots(body.clone());
    assert_eq!(body[..4], [2, 0, 0, 0], "the version");
    let flags: Vec<_> = (0..4).map(|slot| body[ENTRY_HEADER_BYTES + slot * SLOT_BYTES + 49]).collect();
    assert_eq!(flags, [0x40, 0x41, 0x42, 0x43]);
    let at = |slot: &Slot| &body[slot.range_start() as usize..slot.end as usize];
    assert_eq!(at(&slots[1])[..16], [0, 0, 0, 0, 0, 0, 0x13, 0x88, 1, 0, 0, 0, 0, 0, 0, 0]);
    let payload = [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 3, 4, 0, 0, 0, 112, 0, 0, 0, 90, 0, 0, 0, 0];
    assert_eq!(at(&slots[2]), payload);
    assert_eq!(at(&slots[3]), [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 3, 4, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x17, 0x70]);
}

#[test]
fn an_entry_of_batches_alone_is_one_that_older_builds_read() {
    let mut builder = EntryBuilder::new(HEADER);
    builder.push(meta(Offset(100)), &stamped(Compression::None, &[5]));
    let body = builder.finish();
    assert_eq!(body[0], 1);
    // There the lowest bits of the flags said nothing.
    let mut flagged = body.to_vec();
    flagged[ENTRY_HEADER_BYTES + 49] = 0xff;
    let slots = slots(flagged.into());
    assert_eq!((slots[0].kind, slots[0].flags), (SlotKind::Batch, 0xff));
}

#[test]
fn a_batch_of_several_records_cannot_be_hidden() {
    let batch = stamped(Compression::None, &[5, 6]);
    let pushed = std::panic::catch_unwind(|| {
        EntryBuilder::new(HEADER).push_hidden(meta(NO_OFFSET), HIDDEN, &batch);
    });
    assert!(pushed.is_err());
}

#[test]
fn a_hidden_batch_may_be_of_an_idempotent_producer() {
    let mut idempotent = BatchBuilder::new().producer(ProducerId(4), ProducerEpoch(1), 7);
    idempotent.push(TimestampMs(1), None, Some(b"value")).unwrap();
    let mut builder = EntryBuilder::new(HEADER);
    builder.push_hidden(meta(NO_OFFSET), HIDDEN, &idempotent.build().unwrap());
    let slot = slots(builder.finish()).remove(0);
    assert_eq!((slot.producer_id, slot.producer_epoch, slot.base_sequence), (ProducerId(4), ProducerEpoch(1), 7));
}

#[test]
fn truncated_and_extended_entries_are_refused() {
    let body = entry();
    for end in 0..body.len() {
        EntryView::parse(body.slice(..end)).expect_err("a truncated entry");
    }
    EntryView::parse([&body[..], &[0]].concat().into()).expect_err("an extended entry");
}

#[test]
fn what_a_kind_fixes_is_checked() {
    let parsed = slots(entry());
    let row = |slot: usize| ENTRY_HEADER_BYTES + slot * SLOT_BYTES;
    let range = |slot: usize| parsed[slot].range_start() as usize;
    for (at, bits, what) in [
        (row(1) + 20, 0x80, "a hidden batch has one record and no offset"),
        (row(1) + 31, 2, "a hidden batch has one record and no offset"),
        (range(1) + 8, 2, "unknown reason of a hidden batch"),
        (range(1) + 9, 1, "reserved bytes"),
        (row(2) + 20, 0x80, "a reference has one record and an offset"),
        (row(2) + 31, 2, "a reference has one record and an offset"),
        (row(2) + 60, 1, "only what carries a batch can be of an idempotent producer"),
        (row(2) + 49, 1, "a close has 24 bytes"),
        (row(2) + 49, 3, "reserved bytes"),
        (range(2) + 23, 0x10, "byte range of the payload"),
        (range(2) + 27, 0x40, "byte range of the payload"),
        (range(2) + 28, 1, "reserved bytes"),
        (row(3) + 20, 0x80, "a close has no record and no offset"),
        (row(3) + 31, 1, "a close has no record and no offset"),
        (range(3) + 12, 1, "unknown end of a hidden batch"),
        (range(3) + 13, 1, "reserved bytes"),
        (row(3) + 35, 1, "a close has 24 bytes"),
    ] {
        let mut bad = entry().to_vec();
        bad[at] ^= bits;
        let error = EntryView::parse(bad.into()).expect_err(what).to_string();
        assert!(error.contains(what), "byte {at}: {error}, expected {what}");
    }
}

proptest! {
    #[test]
    fn damage_never_panics(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut: prop::sample::Index,
    ) {
        let mut bad = entry().to_vec();
        for (at, byte) in damage {
            let at = at.index(bad.len());
            bad[at] = byte;
        }
        let bad = Bytes::from(bad);
        for bytes in [bad.clone(), bad.slice(..cut.index(bad.len()))] {
            if let Ok(view) = EntryView::parse(bytes) {
                for slot in view.slots().filter(Slot::holds_batch) {
                    let _ = view.batch(&slot).check_crc();
                }
            }
        }
    }
}
