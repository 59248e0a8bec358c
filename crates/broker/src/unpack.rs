//! Delayed records of Kafka producers: a batch with one becomes a batch per record, each visible at its own time.
//!
//! The parts keep the producer's sequences, one each. So a batch that comes again is known record by record, wherever the first
//! attempt ended.

use duolog_record::entry::Hidden;
use duolog_record::{BatchBuilder, Record, RecordBatch, RecordHeader};
use duolog_state::sequence;
use duolog_types::{MessageType, ProducerId, TimestampMs, TopicConfig};

use crate::api::ItemResult;
use crate::error::BrokerError;
use crate::hidden::delayed;
use crate::message_api::DELIVER_AT_HEADER;
use crate::produce::batch_error;

/// A batch whose records are looked at takes so many bytes at most once it is decompressed …
pub(crate) const BYTES_MAX: usize = 32 << 20;
/// … and has so many records, if one is delayed.
const RECORDS_MAX: i32 = 10_000;

/// A record on its own.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) batch: RecordBatch,
    /// What it waits for, if it does.
    pub(crate) hidden: Option<Hidden>,
}

/// The records of a batch one by one, if one has the header for it and the topic takes delayed messages; else the batch stays whole.
///
/// # Errors
/// `InvalidRecord`: a header is no time, or one that is too far away; or the batch is too large for it.
pub(crate) fn unpack(batch: &RecordBatch, config: &TopicConfig, now: TimestampMs) -> ItemResult<Option<Vec<Part>>> {
    if !matches!(config.message_type(), MessageType::Delay | MessageType::Mixed) {
        return Ok(None);
    }
    let records = || batch.records(BYTES_MAX).map_err(|error| batch_error(&error));
    let mut has_time = false;
    for record in records()? {
        has_time |= deliver_at(&record.map_err(|error| batch_error(&error))?.headers).is_some();
    }
    if !has_time {
        return Ok(None);
    }
    let found = batch.view().record_count();
    if found > RECORDS_MAX {
        return Err(BrokerError::InvalidRecord(format!(
            "a batch with a header {DELIVER_AT_HEADER} has at most {RECORDS_MAX} records, found {found}: lower batch.size"
        )));
    }
    let mut parts = Vec::new();
    for (record, position) in records()?.zip(0..) {
        parts.push(part(batch, &record.map_err(|error| batch_error(&error))?, position, now)?);
    }
    Ok(Some(parts))
}

fn part(batch: &RecordBatch, record: &Record, position: u32, now: TimestampMs) -> ItemResult<Part> {
    let hidden = deliver_at(&record.headers).map(|value| hidden(value, now)).transpose();
    let hidden = hidden
        .map_err(|reason| {
            BrokerError::InvalidRecord(format!("record {position}: header {DELIVER_AT_HEADER}: {reason}"))
        })?
        .flatten();
    let view = batch.view();
    let mut builder = BatchBuilder::new().compression(view.compression().map_err(|error| batch_error(&error))?);
    if view.producer_id() != ProducerId::NONE {
        let own_sequence = sequence::advance(view.base_sequence(), position);
        builder = builder.producer(view.producer_id(), view.producer_epoch(), own_sequence);
    }
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    let built = builder.push_with_headers(record.timestamp, key, value, &record.headers).map(|_| ());
    let batch = built.and_then(|()| builder.build()).map_err(|error| BrokerError::InvalidRecord(error.to_string()))?;
    Ok(Part { batch, hidden })
}

/// The last header of the name counts, as of all headers.
fn deliver_at(headers: &[RecordHeader]) -> Option<&[u8]> {
    let header = headers.iter().rfind(|header| header.key == DELIVER_AT_HEADER)?;
    Some(header.value.as_deref().unwrap_or_default())
}

/// What a record waits for; nothing, when its time has come already.
fn hidden(value: &[u8], now: TimestampMs) -> Result<Option<Hidden>, String> {
    let time = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
        let found = String::from_utf8_lossy(value);
        format!("expected milliseconds since the epoch in decimal digits, found {found:?}")
    })?;
    delayed(TimestampMs(time), now)
}

#[cfg(test)]
mod tests {
    use duolog_record::Compression;
    use duolog_types::{ProducerEpoch, limits};

    use super::*;

    const NOW: TimestampMs = TimestampMs(1_000);

    fn config(message_type: &str) -> TopicConfig {
        TopicConfig::new([("message.type", message_type)]).unwrap()
    }

    /// A record for each, with a time or without.
    fn batch(times: &[Option<&str>]) -> RecordBatch {
        let mut builder =
            BatchBuilder::new().compression(Compression::Gzip).producer(ProducerId(5), ProducerEpoch(1), i32::MAX);
        for (time, number) in times.iter().zip(0..) {
            let headers: Vec<_> = time.iter().map(|time| RecordHeader::text(DELIVER_AT_HEADER, *time)).collect();
            let value = format!("value {number}");
            builder.push_with_headers(TimestampMs(number), Some(b"key"), Some(value.as_bytes()), &headers).unwrap();
        }
        builder.build().unwrap()
    }

    fn times(batch: &RecordBatch) -> Vec<Option<i64>> {
        let parts = unpack(batch, &config("DELAY"), NOW).unwrap().unwrap();
        parts.iter().map(|part| part.hidden.map(|hidden| hidden.time.0)).collect()
    }

    #[test]
    fn a_batch_without_delayed_records_stays_whole() {
        let delayed = batch(&[Some("5000")]);
        for kind in ["NORMAL", "FIFO", "TRANSACTION", "PRIORITY"] {
            assert!(unpack(&delayed, &config(kind), NOW).unwrap().is_none(), "{kind}");
        }
        assert!(unpack(&batch(&[None, None]), &config("MIXED"), NOW).unwrap().is_none());
    }

    #[test]
    fn each_record_has_its_own_time() {
        let batch = batch(&[Some("1001"), None, Some("1000"), Some("-7"), Some("9000")]);
        assert_eq!(times(&batch), [Some(1_001), None, None, None, Some(9_000)]);
    }

    #[test]
    fn a_record_on_its_own_is_what_it_was_and_has_its_own_sequence() {
        let batch = batch(&[Some("5000"), None]);
        let parts = unpack(&batch, &config("MIXED"), NOW).unwrap().unwrap();
        let whole = batch.records(1 << 20).unwrap().map(Result::unwrap);
        for ((part, record), sequence) in parts.iter().zip(whole).zip([i32::MAX, 0]) {
            let view = part.batch.view();
            assert_eq!((view.record_count(), view.compression().unwrap()), (1, Compression::Gzip));
            assert_eq!((view.producer_id(), view.producer_epoch()), (ProducerId(5), ProducerEpoch(1)));
            assert_eq!(view.base_sequence(), sequence);
            let own = part.batch.records(1 << 20).unwrap().next().unwrap().unwrap();
            assert_eq!(own, Record { offset: own.offset, ..record });
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_was_found() {
        let max = limits::DELAY_MS_MAX;
        assert_eq!(times(&batch(&[Some(&(1_000 + max).to_string())])), [Some(1_000 + max)]);
        for (time, what) in [("soon", "found \"soon\""), ("", "found \"\""), (&(1_001 + max).to_string(), "ms at most")]
        {
            match unpack(&batch(&[None, Some(time)]), &config("DELAY"), NOW) {
                Err(BrokerError::InvalidRecord(reason)) => {
                    assert!(reason.starts_with("record 1: ") && reason.contains(what), "{reason}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_batch_is_unpacked_up_to_a_size() {
        let many = vec![Some("5000"); usize::try_from(RECORDS_MAX).unwrap() + 1];
        assert!(matches!(unpack(&batch(&many), &config("DELAY"), NOW), Err(BrokerError::InvalidRecord(_))));
        assert_eq!(times(&batch(&many[1..])).len(), many.len() - 1);
        let plain = vec![None; many.len()];
        assert!(unpack(&batch(&plain), &config("DELAY"), NOW).unwrap().is_none());
    }
}
