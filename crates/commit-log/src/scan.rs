//! Reading a file record by record, and saying where it stops being valid.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use duolog_types::{LogIndex, Term};

use crate::disk::DiskFile;
use crate::error::LogError;
use crate::format::{
    Invalid, Position, RECORD_HEADER_BYTES, RecordHeader, RecordKind, SegmentHeader, VERSION, record_bytes,
};
use crate::index_file::Row;
use crate::segment::corrupt;

const WINDOW_BYTES: u64 = 1 << 20;

/// A valid record, without the body of an entry.
pub(crate) struct ScannedRecord {
    pub(crate) position_bytes: u64,
    pub(crate) header: RecordHeader,
    /// Only of a vote: other bodies are read when they are needed.
    pub(crate) vote: Bytes,
}

/// What a scan found.
pub(crate) struct Scan {
    /// The records after the segment header.
    pub(crate) records: Vec<ScannedRecord>,
    /// Where the valid prefix ends.
    pub(crate) end_bytes: u64,
    /// CRC of the last valid record.
    pub(crate) last_crc: u32,
    /// What is wrong with the bytes at the end. `None` when only zeros follow, or nothing.
    pub(crate) invalid: Option<Invalid>,
    /// Length of the file up to its last byte that is not zero.
    pub(crate) used_bytes: u64,
    /// Greatest flushed position that any record claims, those after the invalid one included.
    pub(crate) flushed: Position,
}

/// Reads and verifies the first record. `Err(None)` when it is invalid.
pub(crate) fn read_segment_header(
    file: &Arc<dyn DiskFile>,
    path: &Path,
) -> Result<(SegmentHeader, RecordHeader), Option<LogError>> {
    let mut window = Window::new(file, path).map_err(Some)?;
    let (record, body) = match window.record(0, 0) {
        Ok(found) => found,
        Err(Stop::Invalid(Invalid::Version(found))) if found > VERSION => {
            return Err(Some(LogError::UnsupportedVersion { file: path.to_owned(), found, supported: VERSION }));
        }
        Err(Stop::Invalid(_)) => return Err(None),
        Err(Stop::Failed(error)) => return Err(Some(error)),
    };
    let segment = SegmentHeader::decode_body(&body).ok_or(None)?;
    if record.kind == RecordKind::SegmentHeader { Ok((segment, record)) } else { Err(None) }
}

/// Scans the records after a valid segment header, up to `limit_bytes` where the segment is known to end there.
pub(crate) fn scan(
    file: &Arc<dyn DiskFile>,
    path: &Path,
    segment: &SegmentHeader,
    first: &RecordHeader,
    limit_bytes: Option<u64>,
) -> Result<Scan, LogError> {
    let mut window = Window::new(file, path)?;
    let mut scan = Scan {
        records: Vec::new(),
        end_bytes: record_bytes(first.body_bytes as usize),
        last_crc: first.crc,
        invalid: None,
        used_bytes: 0,
        flushed: first.flushed.position,
    };
    while limit_bytes.is_none_or(|limit| scan.end_bytes < limit) {
        let (header, body) = match window.record(scan.end_bytes, segment.salt) {
            Ok(found) => found,
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Invalid(invalid)) => {
                scan.invalid = Some(invalid);
                break;
            }
        };
        if header.previous_crc != scan.last_crc {
            scan.invalid = Some(Invalid::Chain { expected: scan.last_crc, found: header.previous_crc });
            break;
        }
        let vote = if header.kind == RecordKind::Vote { Bytes::copy_from_slice(&body) } else { Bytes::new() };
        scan.flushed = scan.flushed.max(header.flushed.position);
        scan.records.push(ScannedRecord { position_bytes: scan.end_bytes, header, vote });
        scan.end_bytes += record_bytes(header.body_bytes as usize);
        scan.last_crc = header.crc;
    }
    scan.used_bytes = scan.end_bytes;
    if scan.invalid.is_some() {
        look_behind(&mut window, segment.salt, &mut scan)?;
    }
    Ok(scan)
}

/// Looks at what lies behind the valid prefix. A record there that passes its CRC with the salt of this file was
/// written into this file, and segments are never written twice: what it says was flushed was flushed, although the
/// chain to it is broken. So damage below it is told from a torn tail.
fn look_behind(window: &mut Window<'_>, salt: u64, scan: &mut Scan) -> Result<(), LogError> {
    let mut at = scan.end_bytes;
    while at < window.len {
        let chunk = window.bytes(at, WINDOW_BYTES.min(window.len - at))?;
        let length = chunk.len() as u64;
        let mut candidates = Vec::new();
        for (number, word) in chunk.chunks(8).enumerate() {
            if word.iter().any(|byte| *byte != 0) {
                let start = at + number as u64 * 8;
                scan.used_bytes = start + word.len() as u64;
                if word.starts_with(&crate::format::MAGIC) {
                    candidates.push(start);
                }
            }
        }
        for candidate in candidates {
            match window.record(candidate, salt) {
                Ok((header, _)) => scan.flushed = scan.flushed.max(header.flushed.position),
                Err(Stop::Invalid(_)) => {}
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
        at += length;
    }
    if scan.used_bytes == scan.end_bytes {
        scan.invalid = None;
    }
    Ok(())
}

/// What the records of a segment say was flushed whose own header is invalid. Such a segment is either one that no flush
/// ever reached, and then none of its records claims anything of it; or its header was damaged later.
///
/// A record counts if its CRC holds with the salt that lies in the damaged header. Should the salt be what is damaged,
/// no CRC holds, and a record counts if it carries the CRC of the record that ends where it begins.
pub(crate) fn claims_without_header(file: &Arc<dyn DiskFile>, path: &Path) -> Result<Position, LogError> {
    let mut window = Window::new(file, path)?;
    let mut flushed = Position { sequence: 0, bytes: 0 };
    let header_bytes = RECORD_HEADER_BYTES as u64;
    if window.len < header_bytes + 8 {
        return Ok(flushed);
    }
    let salt = window.bytes(header_bytes, 8)?.try_into().expect("8 bytes");
    let salt = u64::from_le_bytes(salt);
    let mut ends = BTreeSet::new();
    let mut at = 0;
    while at + header_bytes <= window.len {
        let bytes: [u8; RECORD_HEADER_BYTES] = window.bytes(at, header_bytes)?.try_into().expect("the header's length");
        if let Ok(header) = RecordHeader::decode(&bytes) {
            let is_verified = match window.record(at, salt) {
                Ok(_) => true,
                Err(Stop::Invalid(_)) => false,
                Err(Stop::Failed(error)) => return Err(error),
            };
            if is_verified || ends.contains(&(at, header.previous_crc)) {
                flushed = flushed.max(header.flushed.position);
            }
            ends.insert((at + record_bytes(header.body_bytes as usize), header.crc));
        }
        at += 8;
    }
    Ok(flushed)
}

/// The rows of a sealed segment, by reading all of it.
pub(crate) fn rows_of(file: &Arc<dyn DiskFile>, path: &Path) -> Result<Vec<Row>, LogError> {
    let (segment, first) = read_segment_header(file, path)
        .map_err(|error| error.unwrap_or_else(|| corrupt(path, 0, Invalid::MissingSegment)))?;
    let scan = scan(file, path, &segment, &first, None)?;
    let mut rows: Vec<Row> = Vec::new();
    let mut base = LogIndex(0);
    for record in &scan.records {
        match record.header.kind {
            RecordKind::Entry => {
                if rows.is_empty() {
                    base = record.header.index;
                }
                rows.push(record.row());
            }
            RecordKind::TruncateAfter => {
                let kept = (record.header.index.0 + 1).saturating_sub(base.0);
                rows.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
            }
            RecordKind::TruncateAll => {
                let kept = record.header.index.0.saturating_sub(base.0);
                rows.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
            }
            RecordKind::SegmentHeader | RecordKind::Vote | RecordKind::Purge | RecordKind::Mark => {}
        }
    }
    Ok(rows)
}

impl ScannedRecord {
    pub(crate) fn row(&self) -> Row {
        Row { position_bytes: self.position_bytes, term: self.header.term, body_bytes: self.header.body_bytes }
    }

    /// First index that a truncate record removes.
    pub(crate) fn cut_from(&self) -> Option<LogIndex> {
        match self.header.kind {
            RecordKind::TruncateAfter => Some(LogIndex(self.header.index.0 + 1)),
            RecordKind::TruncateAll => Some(self.header.index),
            _ => None,
        }
    }

    pub(crate) fn log_id(&self) -> (Term, LogIndex) {
        (self.header.term, self.header.index)
    }
}

enum Stop {
    Invalid(Invalid),
    Failed(LogError),
}

/// A buffered window on a file.
struct Window<'a> {
    file: &'a Arc<dyn DiskFile>,
    path: &'a Path,
    len: u64,
    start: u64,
    buffer: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(file: &'a Arc<dyn DiskFile>, path: &'a Path) -> Result<Self, LogError> {
        let len = file.len().map_err(|e| LogError::io("measure", path, e))?;
        Ok(Self { file, path, len, start: 0, buffer: Vec::new() })
    }

    /// `length` bytes, all within the file.
    fn bytes(&mut self, at: u64, length: u64) -> Result<&[u8], LogError> {
        if at < self.start || at + length > self.start + self.buffer.len() as u64 {
            let wanted = length.max(WINDOW_BYTES).min(self.len - at);
            self.buffer.resize(usize::try_from(wanted).expect("a record fits memory"), 0);
            self.file.read_exact_at(&mut self.buffer, at).map_err(|e| LogError::io("read", self.path, e))?;
            self.start = at;
        }
        let from = usize::try_from(at - self.start).expect("within the buffer");
        Ok(&self.buffer[from..from + usize::try_from(length).expect("within the buffer")])
    }

    /// The record at `at`, if its own CRC holds. A segment header brings its own salt, so that 0 is right for it.
    fn record(&mut self, at: u64, salt: u64) -> Result<(RecordHeader, Bytes), Stop> {
        let header_bytes = RECORD_HEADER_BYTES as u64;
        if at + header_bytes > self.len {
            return Err(Stop::Invalid(Invalid::EndOfFile));
        }
        let bytes = self.bytes(at, header_bytes).map_err(Stop::Failed)?;
        let bytes: [u8; RECORD_HEADER_BYTES] = bytes.try_into().expect("the header's length");
        let header = RecordHeader::decode(&bytes).map_err(Stop::Invalid)?;
        let body_bytes = u64::from(header.body_bytes);
        if at + record_bytes(header.body_bytes as usize) > self.len {
            return Err(Stop::Invalid(Invalid::EndOfFile));
        }
        let body = self.bytes(at + header_bytes, body_bytes).map_err(Stop::Failed)?;
        header.verify(&bytes, body, salt).map_err(Stop::Invalid)?;
        // Only what is small or needed is copied.
        let keep = matches!(header.kind, RecordKind::Vote | RecordKind::SegmentHeader);
        Ok((header, if keep { Bytes::copy_from_slice(body) } else { Bytes::new() }))
    }
}
