//! The sidecar of a sealed segment: log index → file position, so that opening need not read the segment.
//!
//! `<segment>.index`, little endian. It is written only after the whole segment is on disk, so a valid sidecar also
//! says that. It gets its name when it is on disk itself: it says where an entry lay whose record was damaged since. Without it the
//! segment is scanned.
//!
//! ```text
//!  0       4      8         12         16     24         32         40         44    48      56      64         72
//!  +-------+------+---------+----------+------+----------+----------+----------+-----+-------+-------+----------+
//!  | magic | CRC  | version | CRC of   | salt | sequence | end of   | last     |  0  | first | count | cut from |
//!  | DLIX  | 8-72 |         | the rows |      |          | segment  | rec. CRC |     | index |       | or −1    |
//!  +-------+------+---------+----------+------+----------+----------+----------+-----+-------+-------+----------+
//!  then `count` rows: position 8, term 8, body bytes 4
//! ```

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use bytes::BufMut;
use duolog_types::{LogIndex, Term};

use crate::disk::Disk;
use crate::error::LogError;
use crate::whole_file::write_whole;

const HEAD_BYTES: usize = 72;
const ROW_BYTES: usize = 20;
const MAGIC: u32 = u32::from_le_bytes(*b"DLIX");
const VERSION: u32 = 1;
const NONE: u64 = u64::MAX;

/// Where an entry lies in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Start of the record, bytes from the start of the file.
    pub(crate) position_bytes: u64,
    pub(crate) term: Term,
    pub(crate) body_bytes: u32,
}

/// What a segment holds once it is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentSummary {
    pub(crate) salt: u64,
    pub(crate) sequence: u64,
    pub(crate) end_bytes: u64,
    pub(crate) last_crc: u32,
    /// Log index of the first row.
    pub(crate) first: LogIndex,
    pub(crate) count: u64,
    /// The segment truncated the entries of earlier segments from here on.
    pub(crate) cut_from: Option<LogIndex>,
}

pub(crate) fn path_of(segment: &Path) -> PathBuf {
    let mut path = segment.as_os_str().to_owned();
    path.push(".index");
    path.into()
}

/// Writes and flushes a sidecar.
pub(crate) fn write(disk: &dyn Disk, segment: &Path, summary: &SegmentSummary, rows: &[Row]) -> Result<(), LogError> {
    let mut table = Vec::with_capacity(rows.len() * ROW_BYTES);
    for row in rows {
        table.put_u64_le(row.position_bytes);
        table.put_u64_le(row.term.0);
        table.put_u32_le(row.body_bytes);
    }
    let mut rest = Vec::with_capacity(HEAD_BYTES - 8);
    rest.put_u32_le(VERSION);
    rest.put_u32_le(crc32c::crc32c(&table));
    rest.put_u64_le(summary.salt);
    rest.put_u64_le(summary.sequence);
    rest.put_u64_le(summary.end_bytes);
    rest.put_u32_le(summary.last_crc);
    rest.put_u32_le(0);
    rest.put_u64_le(summary.first.0);
    rest.put_u64_le(rows.len() as u64);
    rest.put_u64_le(summary.cut_from.map_or(NONE, |index| index.0));
    let mut head = Vec::with_capacity(8);
    head.put_u32_le(MAGIC);
    head.put_u32_le(crc32c::crc32c(&rest));
    write_whole(disk, &path_of(segment), &[IoSlice::new(&head), IoSlice::new(&rest), IoSlice::new(&table)])?;
    Ok(())
}

/// The summary, if the sidecar is there and its head is whole.
pub(crate) fn read_summary(disk: &dyn Disk, segment: &Path) -> Option<SegmentSummary> {
    let file = disk.open(&path_of(segment)).ok()?;
    let mut head = [0; HEAD_BYTES];
    file.read_exact_at(&mut head, 0).ok()?;
    let u32_at = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
    let valid = u32_at(0) == MAGIC && u32_at(4) == crc32c::crc32c(&head[8..]) && u32_at(8) == VERSION;
    let count = u64_at(56);
    // The rows are read when they are needed; that they are all there is checked now.
    let whole = count.checked_mul(ROW_BYTES as u64)?.checked_add(HEAD_BYTES as u64)? == file.len().ok()?;
    (valid && whole).then(|| SegmentSummary {
        salt: u64_at(16),
        sequence: u64_at(24),
        end_bytes: u64_at(32),
        last_crc: u32_at(40),
        first: LogIndex(u64_at(48)),
        count,
        cut_from: Some(u64_at(64)).filter(|index| *index != NONE).map(LogIndex),
    })
}

/// The rows, if they are whole.
pub(crate) fn read_rows(disk: &dyn Disk, segment: &Path, count: u64) -> Option<Vec<Row>> {
    let file = disk.open(&path_of(segment)).ok()?;
    let mut crc = [0; 4];
    file.read_exact_at(&mut crc, 12).ok()?;
    let mut table = vec![0; usize::try_from(count).ok()?.checked_mul(ROW_BYTES)?];
    file.read_exact_at(&mut table, HEAD_BYTES as u64).ok()?;
    if crc32c::crc32c(&table) != u32::from_le_bytes(crc) {
        return None;
    }
    let row = |bytes: &[u8]| Row {
        position_bytes: u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")),
        term: Term(u64::from_le_bytes(bytes[8..16].try_into().expect("8 bytes"))),
        body_bytes: u32::from_le_bytes(bytes[16..].try_into().expect("4 bytes")),
    };
    Some(table.chunks_exact(ROW_BYTES).map(row).collect())
}
