//! Reading: for Raft above the purge mark, for consumers everything that is still there.

use std::ops::Range;

use bytes::Bytes;
use duolog_types::{LogIndex, Term};

use crate::archive::ArchiveWriter;
use crate::entry::{LogEntry, LogId};
use crate::error::LogError;
use crate::index_file::{self, Row};
use crate::log::CommitLog;
use crate::options::{SegmentInfo, SegmentRole};
use crate::segment::{Segment, check_range};
use crate::shared::{Front, Phase};
use crate::whole_file::remove_if_there;

/// Where an entry is.
enum Place {
    Memory(LogEntry),
    File(std::sync::Arc<Segment>, Row),
}

impl CommitLog {
    /// First entry that Raft may read. `None` means that there is none.
    #[must_use]
    pub fn first_index(&self) -> Option<LogIndex> {
        let front = self.shared().front.lock();
        let first = LogIndex(front.purged.map_or(0, |(_, purged)| purged.0 + 1));
        (first < front.next_index()).then_some(first)
    }

    /// The last entry, or the purge mark where nothing is above it. `None` for an empty log.
    #[must_use]
    pub fn last(&self) -> Option<LogId> {
        self.shared().front.lock().last
    }

    /// The purge mark, inclusive.
    #[must_use]
    pub fn purged(&self) -> Option<LogId> {
        self.shared().front.lock().purged
    }

    /// The term of the entry at `index`, or of the purge mark. `None` where the log has no such entry.
    ///
    /// # Errors
    /// [`LogError::Io`] and [`LogError::Corrupt`] from reading the index of a sealed segment; what killed a dead log.
    pub fn term_of(&self, index: LogIndex) -> Result<Option<Term>, LogError> {
        let front = self.shared().front.lock();
        check_alive(&front)?;
        Ok(self.log_id_of(&front, index)?.map(|(term, _)| term))
    }

    pub(crate) fn log_id_of(&self, front: &Front, index: LogIndex) -> Result<Option<LogId>, LogError> {
        if let Some(mark) = front.purged.filter(|(_, purged)| *purged == index) {
            return Ok(Some(mark));
        }
        if index >= front.next_index() {
            return Ok(None);
        }
        if let Some(log_id) = front.tail.log_id(index) {
            return Ok(Some(log_id));
        }
        let shared = self.shared();
        let found = shared.table.read().find(index);
        found.map(|found| Ok((found.row(&*shared.disk)?.term, index))).transpose()
    }

    /// Reads for Raft: entries of `range` in order, as far as the log has them, at least one if the first is there, and
    /// no more once their bodies reach `bytes_max`.
    ///
    /// # Errors
    /// [`LogError::Purged`] when the range begins at or below the purge mark; [`LogError::Corrupt`], [`LogError::Io`].
    pub fn read(&self, range: Range<LogIndex>, bytes_max: usize) -> Result<Vec<LogEntry>, LogError> {
        let end = {
            let front = self.shared().front.lock();
            check_alive(&front)?;
            if let Some((_, purged)) =
                front.purged.filter(|(_, purged)| range.start <= *purged && range.start < range.end)
            {
                return Err(LogError::Purged { index: range.start, purged });
            }
            range.end.min(front.next_index())
        };
        let mut entries = Vec::new();
        let mut bytes = 0;
        for index in (range.start.0..end.0).map(LogIndex) {
            // An entry that a truncation removes meanwhile ends the range.
            let Some(entry) = self.read_at(index)? else { break };
            if !entries.is_empty() && bytes + entry.body.len() > bytes_max {
                break;
            }
            bytes += entry.body.len();
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Reads for consumers: also at or below the purge mark, as long as a segment or an archive holds the entry. `None`
    /// where none does. Whether it is committed is the caller's business.
    ///
    /// # Errors
    /// [`LogError::Corrupt`], [`LogError::Io`]; what killed a dead log.
    pub fn read_any(&self, index: LogIndex) -> Result<Option<LogEntry>, LogError> {
        match self.read_at(index)? {
            Some(entry) => Ok(Some(entry)),
            None => self.in_archives(index, |segment, row| segment.read_entry(&*self.shared().disk, index, row)),
        }
    }

    /// As [`CommitLog::read_any`], but only these bytes of the body, and **unverified**: the CRC covers the whole
    /// record, which is not read. From the tail cache it is a slice without a copy.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] when the range is not within the body; [`LogError::Corrupt`] where the disk has lost it;
    /// [`LogError::Io`]; what killed a dead log.
    pub fn read_slice(&self, index: LogIndex, range: Range<u32>) -> Result<Option<Bytes>, LogError> {
        let disk = &*self.shared().disk;
        match self.place(index)? {
            Some(Place::Memory(entry)) => {
                let body_bytes = u32::try_from(entry.body.len()).expect("checked against BODY_BYTES_MAX");
                check_range(index, &range, body_bytes)?;
                Ok(Some(entry.body.slice(range.start as usize..range.end as usize)))
            }
            Some(Place::File(segment, row)) => if_not_deleted(segment.read_slice(disk, index, row, range)),
            None => self.in_archives(index, |segment, row| segment.read_slice(disk, index, row, range.clone())),
        }
    }

    fn read_at(&self, index: LogIndex) -> Result<Option<LogEntry>, LogError> {
        match self.place(index)? {
            Some(Place::Memory(entry)) => Ok(Some(entry)),
            Some(Place::File(segment, row)) => if_not_deleted(segment.read_entry(&*self.shared().disk, index, row)),
            None => Ok(None),
        }
    }

    /// The tail cache holds all that is not in the file; what it does not hold is in the table.
    fn place(&self, index: LogIndex) -> Result<Option<Place>, LogError> {
        let shared = self.shared();
        let found = {
            let front = shared.front.lock();
            check_alive(&front)?;
            if let Some(entry) = front.tail.get(index) {
                return Ok(Some(Place::Memory(entry.clone())));
            }
            // A leap of the purge mark may come right behind a truncation: then the last index alone does not tell.
            if index >= front.next_index() || front.truncations.iter().any(|from| index >= *from) {
                return Ok(None);
            }
            // Under `front`, so that no truncation comes between.
            shared.table.read().find(index)
        };
        let Some(found) = found else { return Ok(None) };
        let row = if_not_deleted(found.row(&*shared.disk))?;
        Ok(row.map(|row| Place::File(found.segment, row)))
    }

    fn in_archives<T>(
        &self,
        index: LogIndex,
        read: impl Fn(&Segment, Row) -> Result<T, LogError>,
    ) -> Result<Option<T>, LogError> {
        let shared = self.shared();
        let Some(archive) = shared.archives.read().find(index) else { return Ok(None) };
        let read = archive.row(&*shared.disk, index).and_then(|row| read(&archive.segment, row));
        if_not_deleted(read)
    }

    /// All files: archives by first index, then segments in the order of writing. A segment in which indexes leap is
    /// listed once for each run.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let shared = self.shared();
        let mut infos: Vec<SegmentInfo> = shared
            .archives
            .read()
            .iter()
            .map(|archive| SegmentInfo {
                path: archive.segment.path.clone(),
                role: SegmentRole::Archive,
                first: archive.first,
                last_inclusive: archive.end().0.checked_sub(1).filter(|_| archive.count > 0).map(LogIndex),
                size_bytes: archive.size_bytes,
            })
            .collect();
        let table = shared.table.read();
        let written_bytes = shared.flush.lock().written.position.bytes;
        infos.extend(table.slots().iter().map(|slot| SegmentInfo {
            path: slot.segment.path.clone(),
            role: if slot.is_active() { SegmentRole::Active } else { SegmentRole::Sealed },
            first: slot.first,
            last_inclusive: slot.last(),
            size_bytes: if slot.is_active() { written_bytes } else { slot.sealed_bytes },
        }));
        infos
    }

    /// Deletes sealed segments, oldest first, whose last index is below `index` and at or below the purge mark, and
    /// archives that lie wholly below `index`. Returns the bytes freed. Blocks for a flush and a sync per segment: each
    /// deletion is durable before the next, so that a gap never looks like retention.
    ///
    /// # Errors
    /// [`LogError::Io`]; what killed a dead log.
    pub fn delete_segments_below(&self, index: LogIndex) -> Result<u64, LogError> {
        let shared = self.shared();
        let disk = &*shared.disk;
        let purged = self.purged();
        // The mark must outlive the entries.
        self.flush_and_wait()?;
        let remove = |segment: &Segment| {
            // The sidecar first: alone it would describe nothing.
            remove_if_there(disk, &index_file::path_of(&segment.path))?;
            remove_if_there(disk, &segment.path)?;
            disk.sync_dir(&shared.dir).map_err(|e| LogError::io("flush", &shared.dir, e))
        };
        let mut freed_bytes = 0;
        if let Some((_, purged)) = purged {
            let below = index.min(LogIndex(purged.0 + 1));
            loop {
                let Some((segment, bytes)) = shared.table.write().take_first_below(below) else { break };
                remove(&segment)?;
                freed_bytes += bytes;
            }
        }
        loop {
            let Some(archive) = shared.archives.write().take_below(index) else { break };
            remove(&archive.segment)?;
            freed_bytes += archive.size_bytes;
        }
        Ok(freed_bytes)
    }

    /// Begins an archive of entries from `first` on. Only [`CommitLog::read_any`] and [`CommitLog::read_slice`] look
    /// there, and only for what no segment holds.
    #[must_use]
    pub fn archive_writer(&self, first: LogIndex) -> ArchiveWriter {
        ArchiveWriter::new(self.shared().clone(), first)
    }
}

fn check_alive(front: &Front) -> Result<(), LogError> {
    match &front.phase {
        Phase::Stopped(error) => Err(error.clone()),
        Phase::Open | Phase::Closing => Ok(()),
    }
}

/// A segment may be deleted between the look-up and the read.
fn if_not_deleted<T>(result: Result<T, LogError>) -> Result<Option<T>, LogError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
