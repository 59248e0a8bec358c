//! Entries of record batches: consume queue, leader epochs, time index, producers; hidden batches go to [`hidden`].
//!
//! Puts per batch: one row of the consume queue. A leader epoch is put when it changes; a row of the time index when the
//! running maximum timestamp grows, at most one per [`TIME_INDEX_BYTES_MIN`] of the partition; a producer once per run.

use duolog_record::BatchFilter;
use duolog_record::entry::{Address, EntryView, Payload, Slot, SlotKind};
use duolog_types::{LogIndex, Offset, ProducerEpoch, Term, TopicPartition, limits};

use super::cache::{Caches, PartitionEnd};
use super::context::Context;
use super::hidden;
use crate::command::{BatchesOutcome, Response};
use crate::event::StateEvent;
use crate::kinds::AppliedEntry;
use crate::rows::{BatchRow, EpochRow, ProducerBatch, ProducerRow, Tail, TimeRow};
use crate::run::{LogEnds, RunJudge, Verdict};
use crate::tables::{Overlay, TableId};
use crate::{StateError, keys, reader, sequence};

/// Bytes of a partition between two rows of its time index, at least.
const TIME_INDEX_BYTES_MIN: u64 = 64 << 10;

pub(super) fn apply(
    context: &mut Context<'_>,
    judge: &mut RunJudge,
    entry: &AppliedEntry,
) -> Result<Response, StateError> {
    let view = EntryView::parse(entry.body.clone())
        .map_err(|error| StateError::BadEntry { index: entry.index, reason: error.to_string() })?;
    let mut ends = AppliedEnds { tables: &context.tables, caches: context.caches };
    let void_slots = match judge.batches(entry.term, view.header(), view.slots(), &mut ends)? {
        Verdict::Counts { void_slots } => void_slots,
        Verdict::Refused(refusal) => return Ok(Response::Batches(BatchesOutcome::Refused(refusal))),
    };
    for (slot, number) in view.slots().zip(0_u32..) {
        if void_slots.binary_search(&number).is_err() {
            apply_slot(context, (entry.index, entry.term), &view, &slot, number)?;
        }
    }
    Ok(Response::Batches(BatchesOutcome::Counted { void_slots }))
}

/// The judge compares with the applied ends; `apply_batch` moves them.
struct AppliedEnds<'a, 'b> {
    tables: &'a Overlay<'b>,
    caches: &'a mut Caches,
}

impl LogEnds for AppliedEnds<'_, '_> {
    fn log_end(&mut self, partition: TopicPartition) -> Result<Option<Offset>, StateError> {
        Ok(self.caches.partition(self.tables, partition)?.map(|end| end.tail.end))
    }

    fn advance(&mut self, _: TopicPartition, _: Offset) {}
}

fn apply_slot(
    context: &mut Context<'_>,
    (index, term): (LogIndex, Term),
    view: &EntryView,
    slot: &Slot,
    number: u32,
) -> Result<(), StateError> {
    let own = Address { index, slot: number };
    match slot.kind {
        SlotKind::Batch => {
            let flags = slot.flags & !BatchRow::REFERENCE;
            let filter = BatchFilter::of_batch(&view.batch(slot));
            let place = Place { address: own, start: slot.start, size_bytes: slot.size_bytes(), flags, filter };
            place_records(context, (own, term), slot, &place)
        }
        SlotKind::Hidden(of) => {
            let filter = BatchFilter::of_batch(&view.batch(slot));
            hidden::store(context, (own, term), slot, of, filter);
            record_producer(context, slot)
        }
        SlotKind::Reference(payload) => {
            let flags = slot.flags | BatchRow::REFERENCE;
            let Payload { address, start, size_bytes, .. } = payload;
            let before = reader::hidden(&context.tables, slot.partition, address)?;
            let filter = before.map_or(BatchFilter::ANY, |row| row.filter);
            let place = Place { address, start, size_bytes, flags, filter };
            place_records(context, (own, term), slot, &place)?;
            hidden::make_visible(context, slot, payload, before);
            Ok(())
        }
        SlotKind::Close(close) => hidden::close(context, slot.partition, close),
    }
}

/// Where the bytes of a row of the consume queue lie.
struct Place {
    address: Address,
    start: u32,
    size_bytes: u32,
    flags: u8,
    filter: BatchFilter,
}

/// Gives the slot's records their offsets.
fn place_records(
    context: &mut Context<'_>,
    (own, term): (Address, Term),
    slot: &Slot,
    place: &Place,
) -> Result<(), StateError> {
    let tp = slot.partition;
    let end = context.caches.partition(&context.tables, tp)?.expect("the judge found the partition");
    assert_eq!(end.tail.end, slot.base_offset, "the judge compared the base offset of {tp}");
    let row = batch_row(end.tail, term, slot, place);
    context.put(TableId::ConsumeQueue, keys::batch(tp, slot.base_offset), &row);
    if end.last_term != Some(term) {
        let epoch = EpochRow { first_offset: slot.base_offset };
        context.put(TableId::LeaderEpochs, keys::epoch(tp, term), &epoch);
    }
    let is_in_time_index = wants_time_row(&end, &row);
    if is_in_time_index {
        let time = TimeRow { base_offset: slot.base_offset, position_bytes: row.position_bytes };
        context.put(TableId::TimeIndex, keys::time(tp, row.running_max_timestamp), &time);
    }
    record_producer(context, slot)?;
    let tail = Tail {
        end: slot.end_offset(),
        position_bytes: row.position_bytes + u64::from(row.size_bytes),
        max_timestamp: row.running_max_timestamp,
    };
    let last_time_position_bytes =
        if is_in_time_index { Some(row.position_bytes) } else { end.last_time_position_bytes };
    context.caches.set_partition(tp, PartitionEnd { tail, last_term: Some(term), last_time_position_bytes });
    context.emit(StateEvent::BatchApplied {
        partition: tp,
        base_offset: slot.base_offset,
        end_offset: slot.end_offset(),
        index: own.index,
        slot: own.slot,
    });
    Ok(())
}

fn batch_row(tail: Tail, term: Term, slot: &Slot, place: &Place) -> BatchRow {
    BatchRow {
        index: place.address.index,
        slot: place.address.slot,
        start: place.start,
        term,
        record_count: slot.record_count,
        size_bytes: place.size_bytes,
        position_bytes: tail.position_bytes,
        max_timestamp: slot.max_timestamp,
        running_max_timestamp: tail.max_timestamp.max(slot.max_timestamp),
        durability: slot.durability,
        flags: place.flags,
        filter: place.filter,
    }
}

fn wants_time_row(end: &PartitionEnd, row: &BatchRow) -> bool {
    let is_far = end.last_time_position_bytes.is_none_or(|last| row.position_bytes - last >= TIME_INDEX_BYTES_MIN);
    is_far && row.running_max_timestamp > end.tail.max_timestamp
}

/// Remembers the batch. The sequencer has judged its sequence before it was proposed.
fn record_producer(context: &mut Context<'_>, slot: &Slot) -> Result<(), StateError> {
    if slot.producer_id.0 < 0 {
        return Ok(());
    }
    let new = || ProducerRow { epoch: ProducerEpoch(-1), batches: Vec::new() };
    let row = context.caches.producer_mut(&context.tables, slot.partition, slot.producer_id, new)?;
    if slot.producer_epoch != row.epoch {
        row.epoch = slot.producer_epoch;
        row.batches.clear();
    }
    if row.batches.len() == limits::PRODUCER_BATCHES_REMEMBERED {
        row.batches.remove(0);
    }
    row.batches.push(ProducerBatch {
        first_sequence: slot.base_sequence,
        last_sequence: sequence::last_of(slot.base_sequence, slot.record_count),
        base_offset: slot.base_offset,
        max_timestamp: slot.max_timestamp,
    });
    Ok(())
}
