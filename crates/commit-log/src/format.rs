//! The bytes of a record. Little endian; records are padded with zeros to a multiple of 8 bytes.
//!
//! ```text
//!  0        4        8   9   10  11  12       16       20       24
//!  +--------+--------+---+---+---+---+--------+--------+--------+
//!  | magic  | CRC    |ver|rec|ent|fls| flush  | body   | CRC of |
//!  | "DLOG" | -32C   |   |knd|knd|   | ms     | bytes  | prev.  |
//!  +--------+--------+---+---+---+---+--------+--------+--------+
//! 24                32                40                48      56      64
//!  +-----------------+-----------------+-----------------+-------+-------+
//!  | log index       | term            | flushed: index  | seg.  | byte  | body, padding
//!  +-----------------+-----------------+-----------------+-------+-------+
//! ```
//!
//! - The CRC covers the salt of the segment (8 bytes), bytes 8 to 64 of the header and the body. Because the salt is
//!   random, a record of another file never passes; because the previous record's CRC is in the header, a record never
//!   passes in another place of its own file. A record can still be verified alone, given the salt.
//! - `flushed` is the log's flushed position when the record was written: everything before that byte of that segment
//!   (by sequence number), and every earlier segment, is on disk. `index` is the last entry of it, or all ones for none.
//! - `fls` is 0 for "now", 1 for "within `flush ms`".
//! - Version rule: a reader refuses a version above its own; a change of the layout raises it.
//!
//! Each segment begins with a *segment header* record, whose own salt counts as 0, with this body:
//!
//! ```text
//!  0       8          16               24              32           40           48         50
//!  +-------+----------+----------------+---------------+------------+------------+----------+------
//!  | salt  | sequence | previous seg.: | previous seg.:| purge mark:| purge mark:| vote len.| vote
//!  |       |          | sequence or −1 | end, bytes    | index or −1| term       | or 65535 |
//!  +-------+----------+----------------+---------------+------------+------------+----------+------
//! ```

use bytes::{BufMut, Bytes};
use duolog_types::{FlushWish, LogIndex, Term};

use crate::entry::{BODY_BYTES_MAX, LogId};

pub(crate) const RECORD_HEADER_BYTES: usize = 64;
pub(crate) const MAGIC: [u8; 4] = *b"DLOG";
pub(crate) const VERSION: u8 = 1;
const NONE: u64 = u64::MAX;

/// A byte of the log: the order of positions is the order in which the log was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// Sequence number of the segment: rises by one per segment, is never used twice.
    pub(crate) sequence: u64,
    /// Bytes from the start of the segment.
    pub(crate) bytes: u64,
}

/// How far the log is on disk, or in the page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The end, exclusive.
    pub(crate) position: Position,
    /// Last entry before it. `None` means none.
    pub(crate) index: Option<LogIndex>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    SegmentHeader,
    Entry,
    Vote,
    /// Keeps entries up to the record's log index, inclusive.
    TruncateAfter,
    /// Keeps no entry above the purge mark: removes entries from the record's log index on.
    TruncateAll,
    Purge,
    Mark,
}

impl RecordKind {
    const ALL: [Self; 7] =
        [Self::SegmentHeader, Self::Entry, Self::Vote, Self::TruncateAfter, Self::TruncateAll, Self::Purge, Self::Mark];

    fn code(self) -> u8 {
        match self {
            Self::SegmentHeader => 1,
            Self::Entry => 2,
            Self::Vote => 3,
            Self::TruncateAfter => 4,
            Self::TruncateAll => 5,
            Self::Purge => 6,
            Self::Mark => 7,
        }
    }
}

/// A record without its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: RecordKind,
    pub(crate) entry_kind: u8,
    pub(crate) flush: FlushWish,
    pub(crate) index: LogIndex,
    pub(crate) term: Term,
    pub(crate) flushed: Extent,
    pub(crate) body_bytes: u32,
    pub(crate) previous_crc: u32,
    pub(crate) crc: u32,
}

/// Why bytes are not the record that should be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Invalid {
    EndOfFile,
    Magic,
    Version(u8),
    Field,
    Checksum { expected: u32, found: u32 },
    Chain { expected: u32, found: u32 },
    MissingSegment,
    MissingRow,
    Unreadable,
}

impl Invalid {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::EndOfFile => "the file ends before the record does",
            Self::Magic => "no record begins here",
            Self::Version(_) => "unknown format version",
            Self::Field => "a field of the record is out of range",
            Self::Checksum { .. } => "the checksum does not match",
            Self::Chain { .. } => "the record does not follow the one before it",
            Self::MissingSegment => "the segment is missing or its header is damaged",
            Self::MissingRow => "the segment is damaged here, and so is the index that says where its entries lie",
            Self::Unreadable => "the disk cannot read it",
        }
    }

    /// (expected, found); zeros where there is none.
    pub(crate) fn crcs(self) -> (u32, u32) {
        match self {
            Self::Checksum { expected, found } | Self::Chain { expected, found } => (expected, found),
            Self::EndOfFile
            | Self::Magic
            | Self::Version(_)
            | Self::Field
            | Self::MissingSegment
            | Self::MissingRow
            | Self::Unreadable => (0, 0),
        }
    }
}

/// Bytes of a record in the file, padding included.
pub(crate) fn record_bytes(body_bytes: usize) -> u64 {
    ((RECORD_HEADER_BYTES + body_bytes) as u64).next_multiple_of(8)
}

impl RecordHeader {
    /// A record that carries nothing but its kind and the flushed position.
    pub(crate) fn plain(kind: RecordKind, flushed: Extent) -> Self {
        Self {
            kind,
            entry_kind: 0,
            flush: FlushWish::Now,
            index: LogIndex(0),
            term: Term(0),
            flushed,
            body_bytes: 0,
            previous_crc: 0,
            crc: 0,
        }
    }

    /// Completes and encodes the header for `body`; returns the record's CRC too.
    pub(crate) fn encode(mut self, body: &[u8], salt: u64, previous_crc: u32) -> ([u8; RECORD_HEADER_BYTES], u32) {
        self.body_bytes = u32::try_from(body.len()).expect("checked against BODY_BYTES_MAX");
        self.previous_crc = previous_crc;
        let (flush_code, flush_ms) = match self.flush {
            FlushWish::Now => (0, 0),
            FlushWish::WithinMs(ms) => (1, ms),
        };
        let mut bytes = [0; RECORD_HEADER_BYTES];
        let mut out = &mut bytes[..];
        out.put_slice(&MAGIC);
        out.put_u32_le(0);
        out.put_u8(VERSION);
        out.put_u8(self.kind.code());
        out.put_u8(self.entry_kind);
        out.put_u8(flush_code);
        out.put_u32_le(flush_ms);
        out.put_u32_le(self.body_bytes);
        out.put_u32_le(self.previous_crc);
        out.put_u64_le(self.index.0);
        out.put_u64_le(self.term.0);
        out.put_u64_le(self.flushed.index.map_or(NONE, |index| index.0));
        out.put_u64_le(self.flushed.position.sequence);
        out.put_u64_le(self.flushed.position.bytes);
        let crc = checksum(salt, &bytes, body);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        (bytes, crc)
    }

    /// Reads a header; whether the checksum holds is another question.
    pub(crate) fn decode(bytes: &[u8; RECORD_HEADER_BYTES]) -> Result<Self, Invalid> {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        if bytes[..4] != MAGIC {
            return Err(Invalid::Magic);
        }
        if bytes[8] != VERSION {
            return Err(Invalid::Version(bytes[8]));
        }
        let kind = RecordKind::ALL.into_iter().find(|kind| kind.code() == bytes[9]).ok_or(Invalid::Field)?;
        let flush = match bytes[11] {
            0 => FlushWish::Now,
            1 => FlushWish::WithinMs(u32_at(12)),
            _ => return Err(Invalid::Field),
        };
        let body_bytes = u32_at(16);
        if body_bytes as usize > BODY_BYTES_MAX {
            return Err(Invalid::Field);
        }
        Ok(Self {
            kind,
            entry_kind: bytes[10],
            flush,
            index: LogIndex(u64_at(24)),
            term: Term(u64_at(32)),
            flushed: Self::flushed_of(bytes),
            body_bytes,
            previous_crc: u32_at(20),
            crc: u32_at(4),
        })
    }

    /// The flushed position, of bytes that may be no header.
    pub(crate) fn flushed_of(bytes: &[u8; RECORD_HEADER_BYTES]) -> Extent {
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        Extent {
            position: Position { sequence: u64_at(48), bytes: u64_at(56) },
            index: Some(u64_at(40)).filter(|index| *index != NONE).map(LogIndex),
        }
    }

    /// Checks header and body against the CRC that the header carries.
    pub(crate) fn verify(&self, bytes: &[u8; RECORD_HEADER_BYTES], body: &[u8], salt: u64) -> Result<(), Invalid> {
        let found = checksum(salt, bytes, body);
        if found == self.crc { Ok(()) } else { Err(Invalid::Checksum { expected: self.crc, found }) }
    }
}

fn checksum(salt: u64, header: &[u8; RECORD_HEADER_BYTES], body: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &header[8..]);
    crc32c::crc32c_append(crc, body)
}

/// The body of a segment's first record. The chain goes on in it: its `previous_crc` is the previous segment's last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) salt: u64,
    pub(crate) sequence: u64,
    /// Where the log before this segment ends. What lies between that position and this segment is superseded.
    pub(crate) previous_end: Option<Position>,
    pub(crate) purged: Option<LogId>,
    pub(crate) vote: Option<Bytes>,
}

const SEGMENT_BODY_FIXED_BYTES: usize = 50;

impl SegmentHeader {
    pub(crate) fn encode_body(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_BODY_FIXED_BYTES + 256);
        let previous = self.previous_end.unwrap_or(Position { sequence: NONE, bytes: 0 });
        let (purge_term, purge_index) = self.purged.unwrap_or((Term(0), LogIndex(NONE)));
        out.put_u64_le(self.salt);
        out.put_u64_le(self.sequence);
        out.put_u64_le(previous.sequence);
        out.put_u64_le(previous.bytes);
        out.put_u64_le(purge_index.0);
        out.put_u64_le(purge_term.0);
        match &self.vote {
            Some(vote) => {
                out.put_u16_le(u16::try_from(vote.len()).expect("checked against VOTE_BYTES_MAX"));
                out.put_slice(vote);
            }
            None => out.put_u16_le(u16::MAX),
        }
        out
    }

    pub(crate) fn decode_body(body: &[u8]) -> Option<Self> {
        if body.len() < SEGMENT_BODY_FIXED_BYTES {
            return None;
        }
        let u64_at = |at: usize| u64::from_le_bytes(body[at..at + 8].try_into().expect("8 bytes"));
        let vote_bytes = u16::from_le_bytes(body[48..50].try_into().expect("2 bytes"));
        let vote = &body[SEGMENT_BODY_FIXED_BYTES..];
        let vote = match vote_bytes {
            u16::MAX if vote.is_empty() => None,
            length if usize::from(length) == vote.len() => Some(Bytes::copy_from_slice(vote)),
            _ => return None,
        };
        Some(Self {
            salt: u64_at(0),
            sequence: u64_at(8),
            previous_end: Some(u64_at(16))
                .filter(|sequence| *sequence != NONE)
                .map(|sequence| Position { sequence, bytes: u64_at(24) }),
            purged: Some(u64_at(32)).filter(|index| *index != NONE).map(|index| (Term(u64_at(40)), LogIndex(index))),
            vote,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_its_encoding_and_no_changed_byte_passes() {
        let header = RecordHeader {
            kind: RecordKind::Entry,
            entry_kind: 3,
            flush: FlushWish::WithinMs(77),
            index: LogIndex(9),
            term: Term(4),
            flushed: Extent { position: Position { sequence: 5, bytes: 600 }, index: None },
            body_bytes: 5,
            previous_crc: 0,
            crc: 0,
        };
        let (bytes, crc) = header.encode(b"hello", 42, 7);
        let decoded = RecordHeader::decode(&bytes).unwrap();
        assert_eq!(decoded, RecordHeader { previous_crc: 7, crc, ..header });
        decoded.verify(&bytes, b"hello", 42).unwrap();
        decoded.verify(&bytes, b"hello", 43).unwrap_err();
        decoded.verify(&bytes, b"hellO", 42).unwrap_err();
        for at in 0..RECORD_HEADER_BYTES {
            let mut damaged = bytes;
            damaged[at] ^= 4;
            let passes = RecordHeader::decode(&damaged).is_ok_and(|h| h.verify(&damaged, b"hello", 42).is_ok());
            assert!(!passes, "byte {at}");
        }
    }

    #[test]
    fn a_segment_header_survives_its_encoding() {
        for vote in [None, Some(Bytes::new()), Some(Bytes::from(vec![7; 256]))] {
            let header = SegmentHeader {
                salt: 1,
                sequence: 2,
                previous_end: Some(Position { sequence: 1, bytes: 64 }),
                purged: Some((Term(3), LogIndex(4))),
                vote,
            };
            assert_eq!(SegmentHeader::decode_body(&header.encode_body()), Some(header));
        }
    }
}
