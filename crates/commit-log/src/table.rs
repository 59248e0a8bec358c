//! The table of segments: which file holds which log index.
//!
//! Slots are in the order of writing. Their live ranges are disjoint and rise: a truncation shortens the ranges of all
//! slots, so an index lives in the newest segment that wrote it. A slot is one run of indexes without a gap. The writer
//! begins a new segment where indexes leap; only a segment that recovery wrote may hold several runs, each with a slot.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use duolog_types::{LogIndex, Term};
use parking_lot::Mutex;

use crate::disk::Disk;
use crate::error::LogError;
use crate::format::{Invalid, record_bytes};
use crate::index_file::{Row, SegmentSummary};
use crate::segment::{Rows, Segment, corrupt};

/// Sealed segments whose file and rows stay loaded.
const LOADED_SEGMENTS_MAX: usize = 32;

#[derive(Default)]
pub(crate) struct SegmentTable {
    slots: Vec<Slot>,
    loaded: Mutex<VecDeque<Weak<Segment>>>,
}

pub(crate) struct Slot {
    pub(crate) segment: Arc<Segment>,
    /// Live range, end exclusive.
    pub(crate) first: LogIndex,
    pub(crate) end: LogIndex,
    /// Bytes up to the end of the last record; 0 while the segment is active.
    pub(crate) sealed_bytes: u64,
    rows: SlotRows,
    cut_from: Option<LogIndex>,
}

enum SlotRows {
    /// Being written.
    Active(Vec<Row>),
    /// Sealed, the sidecar is not there yet.
    Kept(Rows),
    /// Sealed, to be loaded from the sidecar: number of rows.
    Indexed(u64),
}

/// An index's place.
pub(crate) struct Found {
    pub(crate) segment: Arc<Segment>,
    row: FoundRow,
}

enum FoundRow {
    Loaded(Row),
    ToLoad { number: usize, count: u64 },
}

impl Found {
    /// The row, read from the sidecar where it is not in memory.
    pub(crate) fn row(&self, disk: &dyn Disk) -> Result<Row, LogError> {
        match self.row {
            FoundRow::Loaded(row) => Ok(row),
            FoundRow::ToLoad { number, count } => {
                let rows = self.segment.rows(disk, count)?;
                // Without its sidecar a damaged segment is known up to the damage.
                let end = || rows.last().map_or(0, |last| last.position_bytes + record_bytes(last.body_bytes as usize));
                let missing = || corrupt(&self.segment.path, end(), Invalid::MissingRow);
                rows.get(number).copied().ok_or_else(missing)
            }
        }
    }
}

impl SegmentTable {
    /// A new active segment, at the end.
    pub(crate) fn begin(&mut self, segment: Arc<Segment>, next: LogIndex) {
        let rows = SlotRows::Active(Vec::new());
        self.slots.push(Slot { segment, first: next, end: next, sealed_bytes: 0, rows, cut_from: None });
    }

    /// A sealed segment that is known by its sidecar.
    pub(crate) fn add_indexed(&mut self, segment: Arc<Segment>, summary: &SegmentSummary) {
        if let Some(cut) = summary.cut_from {
            self.cut(cut);
        }
        self.slots.push(Slot {
            segment,
            first: summary.first,
            end: LogIndex(summary.first.0 + summary.count),
            sealed_bytes: summary.end_bytes,
            rows: SlotRows::Indexed(summary.count),
            cut_from: summary.cut_from,
        });
    }

    /// A written entry, into the active segment.
    pub(crate) fn push(&mut self, index: LogIndex, row: Row) {
        let slot = self.slots.last_mut().expect("there is an active segment");
        let SlotRows::Active(rows) = &mut slot.rows else { panic!("the last segment is sealed") };
        if rows.is_empty() {
            slot.first = index;
            slot.end = index;
        }
        if index != slot.end {
            return self.push_leap(index, row);
        }
        rows.push(row);
        slot.end = LogIndex(index.0 + 1);
    }

    /// Begins another run in the active segment.
    fn push_leap(&mut self, index: LogIndex, row: Row) {
        let slot = self.slots.last_mut().expect("there is an active segment");
        assert!(index > slot.end, "expected log index {} or above, found {index}", slot.end);
        let SlotRows::Active(rows) = &mut slot.rows else { panic!("the last segment is sealed") };
        slot.rows = SlotRows::Kept(Arc::new(std::mem::take(rows)));
        let segment = slot.segment.clone();
        self.begin(segment, index);
        self.push(index, row);
    }

    /// Forgets every entry from `from` on, in every segment.
    pub(crate) fn cut(&mut self, from: LogIndex) {
        for slot in &mut self.slots {
            slot.first = slot.first.min(from);
            slot.end = slot.end.min(from);
            if let SlotRows::Active(rows) = &mut slot.rows {
                rows.truncate(usize::try_from(slot.end.0 - slot.first.0).expect("rows are in memory"));
                if rows.is_empty() {
                    slot.cut_from = Some(slot.cut_from.map_or(from, |cut| cut.min(from)));
                }
            }
        }
    }

    /// Ends the active segment; gives what its sidecar is to hold, as of now: a later truncation is a record of a later
    /// segment, and may be lost without this one. `None` for a segment of several runs: it is scanned at each start.
    pub(crate) fn seal(&mut self, end_bytes: u64, last_crc: u32) -> Option<(SegmentSummary, Rows)> {
        let runs = self.slots.iter().filter(|slot| Some(slot.segment.sequence) == self.last_sequence()).count();
        let slot = self.slots.last_mut().expect("there is an active segment");
        let SlotRows::Active(rows) = &mut slot.rows else { panic!("the last segment is sealed already") };
        let rows = Arc::new(std::mem::take(rows));
        let summary = SegmentSummary {
            salt: slot.segment.salt,
            sequence: slot.segment.sequence,
            end_bytes,
            last_crc,
            first: slot.first,
            count: rows.len() as u64,
            cut_from: slot.cut_from,
        };
        slot.rows = SlotRows::Kept(rows.clone());
        slot.sealed_bytes = end_bytes;
        (runs == 1).then_some((summary, rows))
    }

    fn last_sequence(&self) -> Option<u64> {
        self.slots.last().map(|slot| slot.segment.sequence)
    }

    /// The sidecar of a sealed segment is there: its rows need not stay in memory.
    pub(crate) fn indexed(&mut self, sequence: u64) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.segment.sequence == sequence) else { return };
        if let SlotRows::Kept(rows) = &slot.rows {
            slot.segment.remember_rows(rows.clone());
            let count = rows.len() as u64;
            let segment = slot.segment.clone();
            slot.rows = SlotRows::Indexed(count);
            self.loaded(&segment);
        }
    }

    pub(crate) fn find(&self, index: LogIndex) -> Option<Found> {
        let after = self.slots.partition_point(|slot| slot.first <= index);
        // Empty slots may stand between an entry's slot and the next one.
        let slot = self.slots[..after].iter().rev().find(|slot| slot.first < slot.end)?;
        if index >= slot.end {
            return None;
        }
        let number = usize::try_from(index.0 - slot.first.0).expect("rows are in memory");
        let row = match &slot.rows {
            SlotRows::Active(rows) => FoundRow::Loaded(rows[number]),
            SlotRows::Kept(rows) => FoundRow::Loaded(rows[number]),
            SlotRows::Indexed(count) => {
                self.loaded(&slot.segment);
                FoundRow::ToLoad { number, count: *count }
            }
        };
        Some(Found { segment: slot.segment.clone(), row })
    }

    /// Keeps the number of loaded segments bounded: the one that was loaded first goes.
    fn loaded(&self, segment: &Arc<Segment>) {
        let mut loaded = self.loaded.lock();
        if loaded.iter().any(|known| known.as_ptr() == Arc::as_ptr(segment)) {
            return;
        }
        loaded.push_back(Arc::downgrade(segment));
        if loaded.len() > LOADED_SEGMENTS_MAX
            && let Some(oldest) = loaded.pop_front().and_then(|oldest| oldest.upgrade())
        {
            oldest.unload();
        }
    }

    /// First live index of all.
    pub(crate) fn first(&self) -> Option<LogIndex> {
        self.slots.iter().find(|slot| slot.first < slot.end).map(|slot| slot.first)
    }

    /// The index after the last live one.
    pub(crate) fn end(&self) -> Option<LogIndex> {
        self.slots.iter().rev().find(|slot| slot.first < slot.end).map(|slot| slot.end)
    }

    pub(crate) fn term_of(&self, disk: &dyn Disk, index: LogIndex) -> Result<Option<Term>, LogError> {
        self.find(index).map(|found| Ok(found.row(disk)?.term)).transpose()
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Takes the oldest segment out, if it is sealed and wholly below `index`. Gives it with its length.
    pub(crate) fn take_first_below(&mut self, index: LogIndex) -> Option<(Arc<Segment>, u64)> {
        let sequence = self.slots.first()?.segment.sequence;
        let runs = self.slots.iter().take_while(|slot| slot.segment.sequence == sequence).count();
        let below = |slot: &Slot| !slot.is_active() && (slot.first == slot.end || slot.end <= index);
        if !self.slots[..runs].iter().all(below) {
            return None;
        }
        let last = self.slots.drain(..runs).next_back()?;
        Some((last.segment, last.sealed_bytes))
    }
}

impl Slot {
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.rows, SlotRows::Active(_))
    }

    pub(crate) fn last(&self) -> Option<LogIndex> {
        (self.first < self.end).then(|| LogIndex(self.end.0 - 1))
    }
}
