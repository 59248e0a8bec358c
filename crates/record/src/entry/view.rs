//! Reading the body of an entry.

use bytes::Bytes;
use duolog_types::Term;

use super::slot::Slot;
use super::{ENTRY_HEADER_BYTES, EntryError, EntryHeader, SLOT_BYTES, VERSION_BATCHES, VERSION_KINDS, field};
use crate::{BATCH_HEADER_BYTES, RecordBatch};

/// A parsed entry; slots and batches are read where they lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryView {
    header: EntryHeader,
    slot_count: u32,
    body: Bytes,
}

impl EntryView {
    /// Reads a body and checks every invariant of the format.
    ///
    /// # Errors
    /// See [`EntryError`]; none of them panics, whatever the bytes are.
    pub fn parse(body: Bytes) -> Result<Self, EntryError> {
        let truncated = |expected: u64| EntryError::Truncated { expected, found: body.len() };
        let header: &[u8; ENTRY_HEADER_BYTES] = body.first_chunk().ok_or(truncated(ENTRY_HEADER_BYTES as u64))?;
        if !matches!(header[0], VERSION_BATCHES | VERSION_KINDS) {
            return Err(EntryError::Version { found: header[0] });
        }
        if header[1..4] != [0; 3] {
            return Err(EntryError::Malformed { what: "reserved bytes are set" });
        }
        let slot_count = u32::from_be_bytes(field(header, 4));
        let table_end = ENTRY_HEADER_BYTES as u64 + SLOT_BYTES as u64 * u64::from(slot_count);
        if table_end > body.len() as u64 {
            return Err(truncated(table_end));
        }
        let header = EntryHeader {
            run_term: Term(u64::from_be_bytes(field(header, 8))),
            run: u64::from_be_bytes(field(header, 16)),
            number: u64::from_be_bytes(field(header, 24)),
        };
        let view = Self { header, slot_count, body };
        view.check_slots(table_end)?;
        Ok(view)
    }

    fn check_slots(&self, table_end: u64) -> Result<(), EntryError> {
        let mut expected_start = table_end;
        for number in 0..self.slot_count {
            let invalid = |what| EntryError::Slot { slot: number, what };
            let slot = self.read(number).map_err(invalid)?;
            if u64::from(slot.range_start()) != expected_start {
                return Err(invalid("byte range out of place"));
            }
            if slot.holds_batch() {
                self.check_batch(number, &slot)?;
            }
            expected_start = u64::from(slot.end);
        }
        if expected_start != self.body.len() as u64 {
            return Err(EntryError::Malformed { what: "bytes are left after the last slot's" });
        }
        Ok(())
    }

    fn check_batch(&self, number: u32, slot: &Slot) -> Result<(), EntryError> {
        let invalid = |what| EntryError::Slot { slot: number, what };
        if (slot.size_bytes() as usize) < BATCH_HEADER_BYTES {
            return Err(invalid("byte range smaller than a batch header"));
        }
        let batch =
            RecordBatch::parse(self.batch_bytes(slot)).map_err(|source| EntryError::Batch { slot: number, source })?;
        let batch = batch.view();
        if batch.base_offset() != slot.base_offset || u32::try_from(batch.record_count()) != Ok(slot.record_count) {
            return Err(invalid("base offset or record count differs from the batch"));
        }
        Ok(())
    }

    fn read(&self, number: u32) -> Result<Slot, &'static str> {
        let at = ENTRY_HEADER_BYTES + SLOT_BYTES * number as usize;
        let row = self.body[at..].first_chunk().expect("the table was checked when parsed");
        Slot::read(self.body[0], row, &self.body)
    }

    /// Run and number.
    #[must_use]
    pub fn header(&self) -> EntryHeader {
        self.header
    }

    /// The whole body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Slots of the entry.
    #[must_use]
    pub fn slot_count(&self) -> u32 {
        self.slot_count
    }

    /// Row `number` of the table, from 0; `None` beyond its end.
    #[must_use]
    pub fn slot(&self, number: u32) -> Option<Slot> {
        (number < self.slot_count).then(|| self.read(number).expect("checked when parsed"))
    }

    /// All rows, in order.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = Slot> + '_ {
        (0..self.slot_count as usize).map(|number| self.slot(number as u32).expect("below the count"))
    }

    /// The bytes of a slot's batch, without a copy.
    ///
    /// # Panics
    /// When the slot is another entry's and lies outside of this body.
    #[must_use]
    pub fn batch_bytes(&self, slot: &Slot) -> Bytes {
        self.body.slice(slot.start as usize..slot.end as usize)
    }

    /// A slot's batch, without a copy.
    ///
    /// # Panics
    /// When the slot is another entry's, or holds no batch.
    #[must_use]
    pub fn batch(&self, slot: &Slot) -> RecordBatch {
        assert!(slot.holds_batch(), "a slot without a batch: {slot:?}");
        RecordBatch::parse(self.batch_bytes(slot)).expect("checked when parsed")
    }
}
