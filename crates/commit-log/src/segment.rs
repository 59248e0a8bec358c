//! One segment file: its names, its lazily opened handle and row table, and reading single entries from it.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use duolog_types::LogIndex;
use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile};
use crate::entry::LogEntry;
use crate::error::LogError;
use crate::format::{Invalid, RECORD_HEADER_BYTES, RecordHeader, RecordKind};
use crate::index_file::{self, Row};
use crate::scan;

pub(crate) type Rows = Arc<Vec<Row>>;

/// A file of records: a segment or an archive. Its records never change once they are written.
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) sequence: u64,
    pub(crate) salt: u64,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    file: Option<Arc<dyn DiskFile>>,
    rows: Option<Rows>,
}

impl Segment {
    pub(crate) fn new(path: PathBuf, sequence: u64, salt: u64, file: Option<Arc<dyn DiskFile>>) -> Self {
        Self { path, sequence, salt, cache: Mutex::new(Cache { file, rows: None }) }
    }

    /// Closes the file and drops the rows; both come back when they are needed.
    pub(crate) fn unload(&self) {
        *self.cache.lock() = Cache::default();
    }

    /// The handle, opened on first use.
    pub(crate) fn file(&self, disk: &dyn Disk) -> Result<Arc<dyn DiskFile>, LogError> {
        let mut cache = self.cache.lock();
        if let Some(file) = &cache.file {
            return Ok(file.clone());
        }
        let file = disk.open(&self.path).map_err(|e| LogError::io("open", &self.path, e))?;
        cache.file = Some(file.clone());
        Ok(file)
    }

    /// The rows of a sealed segment, from its sidecar; from the segment itself where the sidecar is damaged.
    pub(crate) fn rows(&self, disk: &dyn Disk, count: u64) -> Result<Rows, LogError> {
        if let Some(rows) = &self.cache.lock().rows {
            return Ok(rows.clone());
        }
        let rows = match index_file::read_rows(disk, &self.path, count) {
            Some(rows) => rows,
            None => scan::rows_of(&self.file(disk)?, &self.path)?,
        };
        let rows = Arc::new(rows);
        self.cache.lock().rows = Some(rows.clone());
        Ok(rows)
    }

    pub(crate) fn remember_file(&self, file: Arc<dyn DiskFile>) {
        self.cache.lock().file = Some(file);
    }

    pub(crate) fn remember_rows(&self, rows: Rows) {
        self.cache.lock().rows = Some(rows);
    }

    /// Reads and verifies an entry.
    pub(crate) fn read_entry(&self, disk: &dyn Disk, index: LogIndex, row: Row) -> Result<LogEntry, LogError> {
        let mut bytes = vec![0; RECORD_HEADER_BYTES + row.body_bytes as usize];
        self.read_exact(disk, &mut bytes, row.position_bytes, row)?;
        let bytes = Bytes::from(bytes);
        let header: &[u8; RECORD_HEADER_BYTES] = bytes[..RECORD_HEADER_BYTES].try_into().expect("the header's length");
        let body = bytes.slice(RECORD_HEADER_BYTES..);
        let corrupt = |invalid: Invalid| corrupt(&self.path, row.position_bytes, invalid);
        let record = RecordHeader::decode(header).map_err(corrupt)?;
        record.verify(header, &body, self.salt).map_err(corrupt)?;
        if record.kind != RecordKind::Entry || record.index != index || record.body_bytes != row.body_bytes {
            return Err(corrupt(Invalid::Field));
        }
        Ok(LogEntry { index, term: record.term, kind: record.entry_kind, flush: record.flush, body })
    }

    /// Reads a part of an entry's body, unverified.
    pub(crate) fn read_slice(
        &self,
        disk: &dyn Disk,
        index: LogIndex,
        row: Row,
        range: Range<u32>,
    ) -> Result<Bytes, LogError> {
        check_range(index, &range, row.body_bytes)?;
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let at = row.position_bytes + RECORD_HEADER_BYTES as u64 + u64::from(range.start);
        self.read_exact(disk, &mut bytes, at, row)?;
        Ok(bytes.into())
    }

    /// Reads a part of the record of `row`. What the disk does not give back is damage of that record, like a flipped bit: it may be put
    /// back, and everything else can be read.
    fn read_exact(&self, disk: &dyn Disk, bytes: &mut [u8], at_bytes: u64, row: Row) -> Result<(), LogError> {
        self.file(disk)?.read_exact_at(bytes, at_bytes).map_err(|error| match missing(&error) {
            Some(invalid) => corrupt(&self.path, row.position_bytes, invalid),
            None => LogError::io("read", &self.path, error),
        })
    }
}

/// Whether a failed read says that the bytes are not there any more, and not only that they cannot be had now.
fn missing(error: &io::Error) -> Option<Invalid> {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::UnexpectedEof, _) => Some(Invalid::EndOfFile),
        // A bad sector, or a file system whose own checksum does not match.
        (_, Some(libc::EIO)) => Some(Invalid::Unreadable),
        _ => None,
    }
}

pub(crate) fn check_range(index: LogIndex, range: &Range<u32>, body_bytes: u32) -> Result<(), LogError> {
    if range.start <= range.end && range.end <= body_bytes {
        Ok(())
    } else {
        Err(LogError::OutOfRange { index, start: range.start, end: range.end, body_bytes })
    }
}

pub(crate) fn corrupt(file: &Path, position_bytes: u64, invalid: Invalid) -> LogError {
    let (expected_crc, found_crc) = invalid.crcs();
    LogError::Corrupt { file: file.to_owned(), position_bytes, expected_crc, found_crc, reason: invalid.reason() }
}

pub(crate) const SEGMENT_SUFFIX: &str = ".segment";

/// `<first log index, 20 digits>-<sequence, 10 digits>.segment`. The sequence number keeps names apart: after a
/// truncation two segments can begin with the same log index.
pub(crate) fn segment_path(dir: &Path, first: LogIndex, sequence: u64) -> PathBuf {
    dir.join(format!("{:020}-{sequence:010}{SEGMENT_SUFFIX}", first.0))
}

/// (first log index, sequence) of a segment's file name.
pub(crate) fn parse_segment_name(name: &str) -> Option<(LogIndex, u64)> {
    let (first, sequence) = name.strip_suffix(SEGMENT_SUFFIX)?.split_once('-')?;
    Some((LogIndex(first.parse().ok()?), sequence.parse().ok()?))
}
