//! The records of a batch.
//!
//! ```text
//! length (varint) ┬ attributes i8 = 0
//! counts from ────┤ timestamp delta (varlong), offset delta (varint)
//! here            │ key length (varint, −1: null), key
//!                 │ value length (varint, −1: null), value
//!                 └ header count (varint), per header: key length, key, value length (−1: null), value
//! ```

use std::ops::Range;

use bytes::Bytes;
use duolog_types::{Offset, TimestampMs};

use crate::varint::{read_i32, read_i64};
use crate::{BatchError, RecordBatch, TimestampKind};

/// A header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    /// The name; UTF-8 by convention, not checked here.
    pub key: Bytes,
    /// The value; `None` is null.
    pub value: Option<Bytes>,
}

impl RecordHeader {
    /// A header with a text.
    #[must_use]
    pub fn text(key: &'static str, value: impl Into<String>) -> Self {
        Self { key: Bytes::from_static(key.as_bytes()), value: Some(Bytes::from(value.into())) }
    }
}

/// A record; its bytes are slices of the (decompressed) batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset: base offset of the batch plus its position.
    pub offset: Offset,
    /// Its own timestamp, or the batch's with log append time.
    pub timestamp: TimestampMs,
    /// The key; `None` is null.
    pub key: Option<Bytes>,
    /// The value; `None` is null (a tombstone).
    pub value: Option<Bytes>,
    /// The headers, in order; names may repeat.
    pub headers: Vec<RecordHeader>,
}

/// Iterates over a batch's records. After an error, or the last record, it ends.
#[derive(Debug)]
pub struct RecordIter {
    records: Bytes,
    walk: Walk,
    base_offset: Offset,
    base_timestamp: TimestampMs,
    log_append_time: Option<TimestampMs>,
}

impl RecordBatch {
    /// The records, decompressed into at most `limit` bytes.
    ///
    /// # Errors
    /// [`BatchError::UnknownCompression`], [`BatchError::Decompress`] or [`BatchError::OutputTooLarge`]; the iterator
    /// itself yields [`BatchError::Record`].
    pub fn records(&self, limit: usize) -> Result<RecordIter, BatchError> {
        let view = self.view();
        Ok(RecordIter {
            records: view.compression()?.decompress(&self.record_bytes(), limit)?,
            walk: Walk::new(view.record_count()),
            base_offset: view.base_offset(),
            base_timestamp: view.base_timestamp(),
            log_append_time: match view.timestamp_kind() {
                TimestampKind::CreateTime => None,
                TimestampKind::LogAppendTime => Some(view.max_timestamp()),
            },
        })
    }
}

impl RecordIter {
    /// Offset and timestamp of the next record, without touching key, value and headers beyond their framing.
    pub(crate) fn next_stamp(&mut self) -> Option<Result<(Offset, TimestampMs), BatchError>> {
        Some(self.next_frame()?.map(|(offset, timestamp, _)| (offset, timestamp)))
    }

    fn next_frame(&mut self) -> Option<Result<(Offset, TimestampMs, Frame), BatchError>> {
        let index = self.walk.index;
        let frame = match self.walk.next(&self.records)? {
            Ok(frame) => frame,
            Err(error) => return Some(Err(error)),
        };
        let Some(own) = self.base_timestamp.0.checked_add(frame.timestamp_delta) else {
            return Some(Err(self.walk.fail("timestamp out of range")));
        };
        let timestamp = self.log_append_time.unwrap_or(TimestampMs(own));
        Some(Ok((Offset(self.base_offset.0.saturating_add(i64::from(index))), timestamp, frame)))
    }

    fn slice(&self, range: Option<Range<usize>>) -> Option<Bytes> {
        range.map(|range| self.records.slice(range))
    }
}

impl Iterator for RecordIter {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (offset, timestamp, frame) = match self.next_frame()? {
            Ok(next) => next,
            Err(error) => return Some(Err(error)),
        };
        let mut headers = Vec::new();
        let mut at = Cursor { bytes: &self.records, at: frame.headers.start };
        for _ in 0..frame.header_count {
            let key = at.blob().and_then(|key| self.slice(key)).expect("the walk checked the headers");
            let value = self.slice(at.blob().expect("the walk checked the headers"));
            headers.push(RecordHeader { key, value });
        }
        Some(Ok(Record { offset, timestamp, key: self.slice(frame.key), value: self.slice(frame.value), headers }))
    }
}

/// Where the parts of a record lie in the batch's decompressed records.
#[derive(Debug)]
pub(crate) struct Frame {
    pub timestamp_delta: i64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    header_count: u32,
    headers: Range<usize>,
}

/// Walks the framing of records: the one place that judges it. Copies nothing.
#[derive(Debug)]
pub(crate) struct Walk {
    index: u32,
    /// As the header says; negative counts as none.
    count: u32,
    at: usize,
    ended: bool,
}

impl Walk {
    pub(crate) fn new(record_count: i32) -> Self {
        Self { index: 0, count: u32::try_from(record_count).unwrap_or(0), at: 0, ended: false }
    }

    /// The next record; an error when its framing is wrong, or when bytes are left after the last one.
    pub(crate) fn next(&mut self, records: &[u8]) -> Option<Result<Frame, BatchError>> {
        if self.ended {
            return None;
        }
        if self.index == self.count {
            self.ended = true;
            return (self.at < records.len()).then(|| Err(self.fail("bytes are left after the last record")));
        }
        let next = self.frame(records).map_err(|what| self.fail(what));
        self.index += 1;
        Some(next)
    }

    fn frame(&mut self, records: &[u8]) -> Result<Frame, &'static str> {
        let mut outer = Cursor { bytes: records, at: self.at };
        let length = outer.varint().ok_or("truncated length")?;
        let length = usize::try_from(length).map_err(|_| "negative length")?;
        let end = outer.at.checked_add(length).filter(|end| *end <= records.len()).ok_or("truncated record")?;

        let mut inner = Cursor { bytes: &records[..end], at: outer.at };
        inner.skip(1).ok_or("truncated attributes")?;
        let timestamp_delta = inner.varlong().ok_or("truncated timestamp delta")?;
        let offset_delta = inner.varint().ok_or("truncated offset delta")?;
        if u32::try_from(offset_delta) != Ok(self.index) {
            return Err("offset deltas are not consecutive from 0");
        }
        let key = inner.blob().ok_or("key length out of range")?;
        let value = inner.blob().ok_or("value length out of range")?;
        let header_count = inner.varint().ok_or("truncated header count")?;
        let header_count = u32::try_from(header_count).map_err(|_| "negative header count")?;
        let headers = inner.at..end;
        for _ in 0..header_count {
            inner.blob().ok_or("header key length out of range")?.ok_or("null header key")?;
            inner.blob().ok_or("header value length out of range")?;
        }
        if inner.at != end {
            return Err("length does not match its parts");
        }
        self.at = end;
        Ok(Frame { timestamp_delta, key, value, header_count, headers })
    }

    fn fail(&mut self, what: &'static str) -> BatchError {
        self.ended = true;
        BatchError::Record { index: self.index, what }
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn varint(&mut self) -> Option<i32> {
        let mut rest = &self.bytes[self.at..];
        let value = read_i32(&mut rest)?;
        self.at = self.bytes.len() - rest.len();
        Some(value)
    }

    fn varlong(&mut self) -> Option<i64> {
        let mut rest = &self.bytes[self.at..];
        let value = read_i64(&mut rest)?;
        self.at = self.bytes.len() - rest.len();
        Some(value)
    }

    fn skip(&mut self, count: usize) -> Option<Range<usize>> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len())?;
        Some(std::mem::replace(&mut self.at, end)..end)
    }

    /// A length and that many bytes: outer `None` when they are not there, inner `None` for null.
    #[allow(clippy::option_option)]
    fn blob(&mut self) -> Option<Option<Range<usize>>> {
        match self.varint()? {
            -1 => Some(None),
            length => self.skip(usize::try_from(length).ok()?).map(Some),
        }
    }
}
