//! Puts a damaged entry of a file back, byte for byte, with the help of another replica.
//!
//! Every replica has the same entry under the same index and term. What this file has beside it is known from elsewhere:
//!
//! ```text
//!  CRC of the record        its own header │ the next record, which names it │ the segment's summary, for the last record
//!  CRC of the record before its own header │ that record
//!  flushed position         its own header │ the record before or behind │ its own header with one byte changed
//! ```
//!
//! A combination counts only if its checksum is the CRC that was asked for. So what is written is what was written once, or nothing
//! is: a file never gets other bytes than it had.
//!
//! A sector that the disk cannot read is written over like any other damage, and most disks then have another one for it. It must lie
//! wholly in the record: the system reads a page first of which only a part is written.

use std::io::IoSlice;
use std::sync::Arc;

use duolog_types::{LogIndex, Term};

use crate::disk::DiskFile;
use crate::entry::LogEntry;
use crate::error::LogError;
use crate::format::{RECORD_HEADER_BYTES, RecordHeader, RecordKind, record_bytes};
use crate::index_file::Row;
use crate::log::CommitLog;
use crate::segment::Segment;

/// Header fields from here on are the flushed position.
const FLUSHED_AT: usize = 40;
/// Where a header says the CRC of its record, and that of the record before.
const CRC_AT: usize = 4;
const PREVIOUS_CRC_AT: usize = 20;

type HeaderBytes = [u8; RECORD_HEADER_BYTES];

/// How an attempt to repair an entry ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// The entry was damaged and is whole again, durably.
    Repaired,
    /// It was not damaged, or is not there any more.
    NotNeeded,
    /// What lies there cannot be put together from this entry: it is another one, or too much of the record is gone.
    Impossible,
}

/// An entry in a file: where it lies, and what this log knows of it without reading it.
struct Place {
    segment: Arc<Segment>,
    index: LogIndex,
    row: Row,
    /// The row before it in the same file.
    before: Option<Row>,
}

impl CommitLog {
    /// The term that the entry at `index` was written with, as the index beside the file says. `None` where no file holds it.
    ///
    /// # Errors
    /// [`LogError::Io`] and [`LogError::Corrupt`] from reading that index.
    pub fn stored_term(&self, index: LogIndex) -> Result<Option<Term>, LogError> {
        Ok(self.file_place(index)?.map(|place| place.row.term))
    }

    /// Reads and verifies the entry at `index` in its file, also when it is in the memory; gives the bytes of its record. `None` where
    /// no file holds it.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] when it is damaged; [`LogError::Io`].
    pub fn verify_stored(&self, index: LogIndex) -> Result<Option<u64>, LogError> {
        let Some(place) = self.file_place(index)? else { return Ok(None) };
        match place.segment.read_entry(&*self.shared().disk, index, place.row) {
            Ok(entry) => Ok(Some(record_bytes(entry.body.len()))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a damaged entry back with `good`, the same entry as another replica has it. Blocks for a read and a flush.
    ///
    /// # Errors
    /// [`LogError::Io`] when the file cannot be read or written; nothing is known of the entry then.
    pub fn repair(&self, good: &LogEntry) -> Result<Repair, LogError> {
        let disk = &*self.shared().disk;
        let Some(place) = self.file_place(good.index)? else { return Ok(Repair::NotNeeded) };
        match place.segment.read_entry(disk, good.index, place.row) {
            Ok(_) => return Ok(Repair::NotNeeded),
            Err(LogError::Corrupt { .. }) => {}
            Err(error) if error.is_not_found() => return Ok(Repair::NotNeeded),
            Err(error) => return Err(error),
        }
        if good.term != place.row.term || good.body.len() != place.row.body_bytes as usize {
            return Ok(Repair::Impossible);
        }
        let file = place.segment.file(disk)?;
        let Some(header) = place.find_header(&file, good) else { return Ok(Repair::Impossible) };
        let path = &place.segment.path;
        let io = |action| move |error| LogError::io(action, path, error);
        let slices = [IoSlice::new(&header), IoSlice::new(&good.body)];
        file.write_all_at(&slices, place.row.position_bytes).map_err(io("write"))?;
        file.sync_data().map_err(io("flush"))?;
        place.segment.read_entry(disk, good.index, place.row)?;
        Ok(Repair::Repaired)
    }

    fn file_place(&self, index: LogIndex) -> Result<Option<Place>, LogError> {
        let shared = self.shared();
        let disk = &*shared.disk;
        let row_of = |at: LogIndex| -> Result<Option<(Arc<Segment>, Row)>, LogError> {
            let found = shared.table.read().find(at);
            if let Some(found) = found {
                return Ok(Some((found.segment.clone(), found.row(disk)?)));
            }
            let archive = shared.archives.read().find(at);
            archive.map(|archive| Ok((archive.segment.clone(), archive.row(disk, at)?))).transpose()
        };
        let Some((segment, row)) = row_of(index)? else { return Ok(None) };
        let before = match index.0.checked_sub(1).map(LogIndex) {
            Some(before) => row_of(before)?.filter(|(file, _)| Arc::ptr_eq(file, &segment)).map(|(_, row)| row),
            None => None,
        };
        Ok(Some(Place { segment, index, row, before }))
    }
}

impl Place {
    /// The header that the record had, if it can be put together.
    fn find_header(&self, file: &Arc<dyn DiskFile>, good: &LogEntry) -> Option<HeaderBytes> {
        // What cannot be read tells nothing: neither a bad sector nor what lies behind the end of the file.
        let read = |at: u64| -> Option<HeaderBytes> {
            let mut bytes = [0; RECORD_HEADER_BYTES];
            file.read_exact_at(&mut bytes, at).ok()?;
            Some(bytes)
        };
        let own = read(self.row.position_bytes);
        // Behind the last record there may be zeros that were allocated.
        let next_at = self.row.position_bytes + record_bytes(good.body.len());
        let next = read(next_at).filter(|bytes| RecordHeader::decode(bytes).is_ok());
        let before = self.record_before(read);
        let mut crcs: Vec<u32> = own.iter().map(|bytes| u32_at(bytes, CRC_AT)).collect();
        crcs.extend(next.iter().map(|bytes| u32_at(bytes, PREVIOUS_CRC_AT)));
        let mut previous_crcs: Vec<u32> = own.iter().map(|bytes| u32_at(bytes, PREVIOUS_CRC_AT)).collect();
        previous_crcs.extend(before.iter().map(|bytes| u32_at(bytes, CRC_AT)));
        previous_crcs.dedup();
        let mut flushed: Vec<[u8; 24]> = [own, before, next].iter().flatten().map(flushed_of).collect();
        flushed.dedup();
        flushed.extend(own.iter().flat_map(|bytes| with_one_byte_changed(flushed_of(bytes))));
        for flushed in flushed {
            for previous_crc in &previous_crcs {
                let (header, crc) = self.header(good, flushed, *previous_crc);
                if crcs.contains(&crc) {
                    return Some(header);
                }
            }
        }
        None
    }

    fn header(&self, good: &LogEntry, flushed: [u8; 24], previous_crc: u32) -> (HeaderBytes, u32) {
        let mut raw = [0; RECORD_HEADER_BYTES];
        raw[FLUSHED_AT..].copy_from_slice(&flushed);
        let header = RecordHeader {
            kind: RecordKind::Entry,
            entry_kind: good.kind,
            flush: good.flush,
            index: self.index,
            term: good.term,
            flushed: RecordHeader::flushed_of(&raw),
            body_bytes: 0,
            previous_crc: 0,
            crc: 0,
        };
        header.encode(&good.body, self.segment.salt, previous_crc)
    }

    /// The header of the record right before this one, if it is whole. Between two entries there may be votes and marks.
    fn record_before(&self, read: impl Fn(u64) -> Option<HeaderBytes>) -> Option<HeaderBytes> {
        let mut at = match self.before {
            Some(row) => row.position_bytes,
            None => 0,
        };
        let mut last = None;
        while at < self.row.position_bytes {
            let bytes = read(at)?;
            let header = RecordHeader::decode(&bytes).ok()?;
            at += record_bytes(header.body_bytes as usize);
            last = Some(bytes);
        }
        last.filter(|_| at == self.row.position_bytes)
    }
}

fn u32_at(bytes: &HeaderBytes, at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn flushed_of(bytes: &HeaderBytes) -> [u8; 24] {
    bytes[FLUSHED_AT..].try_into().expect("24 bytes")
}

fn with_one_byte_changed(bytes: [u8; 24]) -> impl Iterator<Item = [u8; 24]> {
    (0..bytes.len()).flat_map(move |at| {
        (1..=u8::MAX).map(move |change| {
            let mut changed = bytes;
            changed[at] ^= change;
            changed
        })
    })
}
