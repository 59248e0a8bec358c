//! Record batches, the log entries that carry them, and commands.
//!
//! ```text
//! byte 0   bits 0 and 1: what follows    0 a producer's batches, 1 a log entry, 2 a command, 3 a run barrier
//!          bit 7: the CRC of each batch is made right first, or the search would stay before it
//! byte 1…  the bytes
//! ```

use bytes::Bytes;
use duolog_record::entry::{BatchMeta, EntryBuilder, EntryHeader, EntryView};
use duolog_record::patch::{body_after_header, patched_header, set_log_append_time, set_max_timestamp};
use duolog_record::{
    BATCH_HEADER_BYTES, BatchBuilder, BatchError, BatchView, Record, RecordBatch, TimestampKind,
    first_record_at_or_after, max_timestamp_record, split_batches, validate_records,
};
use duolog_state::Command;
use duolog_state::run::RunBarrier;
use duolog_types::{Durability, LeaderEpoch, Offset, Term, TimestampMs, TopicId, TopicPartition};

pub use crate::batch_seeds::seeds;

pub(crate) const PRODUCED: u8 = 0;
pub(crate) const ENTRY: u8 = 1;
pub(crate) const COMMAND: u8 = 2;
pub(crate) const BARRIER: u8 = 3;
pub(crate) const FIX_CRC: u8 = 0x80;

/// Records may take this many bytes once decompressed.
const LIMIT: usize = 256 << 10;

/// Parses an input and checks what was promised about it.
///
/// # Panics
/// When a promise is broken.
pub fn run(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else { return };
    let mut bytes = rest.to_vec();
    match mode & 3 {
        PRODUCED => {
            if mode & FIX_CRC != 0 {
                fix_crc(&mut bytes);
            }
            produced(bytes.into());
        }
        ENTRY => entry(bytes.into()),
        COMMAND => {
            if let Ok(command) = Command::decode(&bytes) {
                assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(&command));
            }
        }
        _ => {
            if let Ok(barrier) = RunBarrier::decode(&bytes) {
                assert_eq!(RunBarrier::decode(&barrier.encode()), Ok(barrier));
            }
        }
    }
}

/// Makes the CRC of every batch right whose length can be true.
fn fix_crc(mut bytes: &mut [u8]) {
    while let Ok(view) = BatchView::parse(bytes) {
        let size = usize::try_from(view.length()).unwrap_or(0).saturating_add(12);
        if size < BATCH_HEADER_BYTES || size > bytes.len() {
            return;
        }
        let crc = crc32c::crc32c(&bytes[21..size]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        bytes = &mut bytes[size..];
    }
}

/// What split accepts is all of the input; it can be sequenced and comes out of the entry as it went in.
fn produced(bytes: Bytes) {
    if let Ok(batch) = RecordBatch::parse(bytes.clone()) {
        look_into(&batch);
    }
    let batches = match split_batches(bytes.clone()) {
        Ok(batches) => batches,
        Err(error) => {
            let _ = (error.kind(), error.to_string());
            return;
        }
    };
    assert_eq!(batches.iter().map(|batch| &batch.bytes()[..]).collect::<Vec<_>>().concat(), bytes);
    let header = EntryHeader { run_term: Term(3), run: 1, number: 2 };
    let mut builder = EntryBuilder::new(header);
    let mut base = 5;
    for batch in &batches {
        look_into(batch);
        let meta = BatchMeta {
            partition: TopicPartition { topic: TopicId::default(), partition: 0 },
            base_offset: Offset(base),
            durability: Durability::ALL[0],
            flags: 0,
            log_append_time: (base % 2 == 0).then_some(TimestampMs(base)),
        };
        builder.push(meta, batch);
        base += i64::from(batch.view().record_count());
    }
    let size_bytes = builder.size_bytes();
    let view = EntryView::parse(builder.finish()).expect("what was built can be read");
    assert_eq!((view.body().len(), view.slot_count() as usize, view.header()), (size_bytes, batches.len(), header));
    for (slot, produced) in view.slots().zip(&batches) {
        let batch = view.batch(&slot);
        assert_eq!(batch.check_crc(), Ok(()));
        assert_eq!(batch.view().leader_epoch(), LeaderEpoch(3));
        assert_eq!(batch.record_bytes(), produced.record_bytes());
        assert_eq!(slot.end_offset(), batch.end_offset());
    }
}

/// The table of a parsed entry describes what it carries, one after the other, to the end of the body.
fn entry(bytes: Bytes) {
    let Ok(view) = EntryView::parse(bytes.clone()) else { return };
    assert_eq!((view.body(), view.slots().len()), (&bytes, view.slot_count() as usize));
    let mut start = 32 + 64 * view.slot_count();
    for slot in view.slots() {
        assert_eq!(slot.range_start(), start);
        assert!(slot.holds_batch() || slot.takes_offsets() || slot.record_count == 0);
        if slot.holds_batch() {
            let batch = view.batch(&slot);
            assert_eq!(
                (slot.size_bytes() as usize, slot.base_offset),
                (batch.size_bytes(), batch.view().base_offset())
            );
            look_into(&batch);
        }
        start = slot.end;
    }
    assert_eq!((start as usize, view.slot(view.slot_count())), (bytes.len(), None));
}

/// All ways of looking into a batch agree with one another, whatever its bytes are.
fn look_into(batch: &RecordBatch) {
    let view = batch.view();
    let _ = (format!("{view:?}"), view.compression().map(|codec| codec.to_string()), batch.end_offset());
    assert_eq!(view.length() as usize + 12, batch.size_bytes());
    let walked: Result<Vec<Record>, BatchError> = batch.records(LIMIT).and_then(Iterator::collect);
    let summary = validate_records(batch, LIMIT);
    let records = match (walked, &summary) {
        (Ok(records), Ok(_)) => records,
        (Ok(records), Err(BatchError::Count { .. })) if records.is_empty() => return,
        (Err(walked), Err(validated)) => return assert_eq!(&walked, validated),
        (walked, summary) => panic!("walked {walked:?}, validated {summary:?}"),
    };
    let summary = summary.expect("matched above");
    assert_eq!(records.len(), summary.record_count as usize);
    assert_eq!(Ok(summary.record_count), u32::try_from(view.record_count()));
    for (record, number) in records.iter().zip(0..) {
        assert_eq!(record.offset, Offset(view.base_offset().0.saturating_add(number)));
    }
    look_up(batch, &records);
    let timestamps = || records.iter().map(|record| record.timestamp);
    assert_eq!(Some(summary.max_timestamp), timestamps().max());
    assert_eq!(Some(summary.min_timestamp), timestamps().min());
    assert_eq!(records[summary.max_timestamp_index as usize].timestamp, summary.max_timestamp);
    patch(batch, &records);
    rebuild(batch, &records);
}

fn look_up(batch: &RecordBatch, records: &[Record]) {
    let from = records[0].offset;
    let greatest =
        max_timestamp_record(batch, from, LIMIT).expect("the records were walked").expect("there are records");
    let first_at =
        |timestamp| first_record_at_or_after(batch, from, timestamp, LIMIT).expect("the records were walked");
    assert!(records.iter().all(|record| record.timestamp <= greatest.1));
    assert_eq!(first_at(greatest.1), Some(greatest));
    assert_eq!(first_at(TimestampMs(i64::MIN)), Some((records[0].offset, records[0].timestamp)));
    if let Some(later) = greatest.1.0.checked_add(1) {
        assert_eq!(first_at(TimestampMs(later)), None);
    }
}

/// The broker's changes keep the records and leave a right CRC.
fn patch(batch: &RecordBatch, records: &[Record]) {
    let prefix = patched_header(batch, Offset(70), LeaderEpoch(8));
    let moved = RecordBatch::parse([&prefix[..], &body_after_header(batch)].concat().into()).expect("the same length");
    assert_eq!((moved.view().base_offset(), moved.view().leader_epoch()), (Offset(70), LeaderEpoch(8)));
    assert_eq!(moved.check_crc(), batch.check_crc());

    let stamped = set_log_append_time(batch.clone(), TimestampMs(99));
    assert_eq!((stamped.check_crc(), stamped.view().timestamp_kind()), (Ok(()), TimestampKind::LogAppendTime));
    let summary = validate_records(&stamped, LIMIT).expect("the same records");
    assert_eq!((summary.record_count as usize, summary.min_timestamp), (records.len(), TimestampMs(99)));

    let corrected = set_max_timestamp(batch.clone(), TimestampMs(98));
    assert_eq!((corrected.check_crc(), corrected.view().max_timestamp()), (Ok(()), TimestampMs(98)));
    assert_eq!(corrected.view().timestamp_kind(), batch.view().timestamp_kind());
}

/// A batch built of the records has the same records.
fn rebuild(batch: &RecordBatch, records: &[Record]) {
    let mut builder = BatchBuilder::new().base_offset(batch.view().base_offset());
    for record in records {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        if builder.push_with_headers(record.timestamp, key, value, &record.headers).is_err() {
            // Timestamps further apart than a delta can say.
            return;
        }
    }
    let built = builder.build().expect("there are records, and they are small");
    assert_eq!(built.check_crc(), Ok(()));
    let read: Result<Vec<Record>, BatchError> = built.records(LIMIT + records.len() * 64).and_then(Iterator::collect);
    assert_eq!(read.as_deref(), Ok(records));
}
