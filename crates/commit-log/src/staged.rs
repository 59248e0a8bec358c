//! Records on their way into a file: encoded as one chain, written as slices without copying a body.

use std::io::IoSlice;

use bytes::Bytes;
use duolog_types::LogIndex;

use crate::format::{RECORD_HEADER_BYTES, RecordHeader, record_bytes};
use crate::index_file::Row;
use crate::table::SegmentTable;

const PADDING: [u8; 8] = [0; 8];

/// The end of a chain of records: the next record refers to it.
pub(crate) struct RecordChain {
    pub(crate) salt: u64,
    pub(crate) last_crc: u32,
}

pub(crate) struct EncodedRecord {
    header: [u8; RECORD_HEADER_BYTES],
    body: Bytes,
}

impl RecordChain {
    pub(crate) fn encode(&mut self, header: RecordHeader, body: Bytes) -> EncodedRecord {
        let (header, crc) = header.encode(&body, self.salt, self.last_crc);
        self.last_crc = crc;
        EncodedRecord { header, body }
    }
}

impl EncodedRecord {
    pub(crate) fn bytes(&self) -> u64 {
        record_bytes(self.body.len())
    }
}

/// The records as they follow each other in the file.
pub(crate) fn slices(records: &[EncodedRecord]) -> Vec<IoSlice<'_>> {
    let mut slices = Vec::with_capacity(records.len() * 3);
    for record in records {
        let padding = (8 - record.body.len() % 8) % 8;
        slices.push(IoSlice::new(&record.header));
        slices.push(IoSlice::new(&record.body));
        slices.push(IoSlice::new(&PADDING[..padding]));
    }
    slices
}

/// What a written record changes in the table of segments.
#[derive(Debug)]
pub(crate) enum TableChange {
    Push(LogIndex, Row),
    Cut(LogIndex),
}

impl TableChange {
    pub(crate) fn apply(&self, table: &mut SegmentTable) {
        match self {
            Self::Push(index, row) => table.push(*index, *row),
            Self::Cut(from) => table.cut(*from),
        }
    }
}
