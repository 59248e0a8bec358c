//! Archives: committed entries that came with a snapshot, for consumers only. Raft never reads them.
//!
//! `<first index, 20 digits>.archive` has the format of a segment, and a sidecar. It is written under a temporary name,
//! synced, renamed, and the directory synced: it is there as a whole or not at all.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use duolog_types::LogIndex;

use crate::disk::{Disk, DiskFile};
use crate::entry::{BODY_BYTES_MAX, LogEntry};
use crate::error::LogError;
use crate::format::{Extent, Invalid, Position, RecordHeader, RecordKind, SegmentHeader};
use crate::index_file::{self, Row, SegmentSummary};
use crate::scan;
use crate::segment::{Segment, corrupt};
use crate::shared::Shared;
use crate::staged::{EncodedRecord, RecordChain, slices};
use crate::whole_file::{TEMPORARY_SUFFIX, remove_if_there};

pub(crate) const SUFFIX: &str = ".archive";
const BUFFER_BYTES: u64 = 1 << 20;

/// All archives, by first log index. They may overlap.
#[derive(Default)]
pub(crate) struct Archives {
    files: BTreeMap<LogIndex, Archive>,
}

#[derive(Clone)]
pub(crate) struct Archive {
    pub(crate) segment: Arc<Segment>,
    pub(crate) first: LogIndex,
    pub(crate) count: u64,
    pub(crate) size_bytes: u64,
}

impl Archive {
    pub(crate) fn end(&self) -> LogIndex {
        LogIndex(self.first.0 + self.count)
    }

    pub(crate) fn row(&self, disk: &dyn Disk, index: LogIndex) -> Result<Row, LogError> {
        let number = usize::try_from(index.0 - self.first.0).expect("rows fit memory");
        let rows = self.segment.rows(disk, self.count)?;
        rows.get(number).copied().ok_or_else(|| corrupt(&self.segment.path, 0, Invalid::EndOfFile))
    }
}

/// A sidecar that was not there, or was damaged: to be written once nothing else refuses the log.
pub(crate) struct MissingSidecar {
    path: PathBuf,
    summary: SegmentSummary,
    rows: Vec<Row>,
}

impl MissingSidecar {
    pub(crate) fn write(&self, disk: &dyn Disk) -> Result<(), LogError> {
        index_file::write(disk, &self.path, &self.summary, &self.rows)
    }
}

impl Archives {
    /// Finds the archives of a directory, and changes nothing.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path, names: &[String]) -> Result<(Self, Vec<MissingSidecar>), LogError> {
        let mut archives = Self::default();
        let mut missing = Vec::new();
        for name in names.iter().filter(|name| name.ends_with(SUFFIX)) {
            let path = dir.join(name);
            let summary = match index_file::read_summary(disk, &path) {
                Some(summary) => summary,
                None => {
                    let sidecar = read_whole(disk, &path)?;
                    let summary = sidecar.summary;
                    missing.push(sidecar);
                    summary
                }
            };
            archives.add(path, &summary);
        }
        Ok((archives, missing))
    }

    fn add(&mut self, path: PathBuf, summary: &SegmentSummary) {
        let segment = Arc::new(Segment::new(path, summary.sequence, summary.salt, None));
        let archive = Archive { segment, first: summary.first, count: summary.count, size_bytes: summary.end_bytes };
        self.files.insert(summary.first, archive);
    }

    pub(crate) fn find(&self, index: LogIndex) -> Option<Archive> {
        self.files.range(..=index).rev().map(|(_, archive)| archive).find(|archive| archive.end() > index).cloned()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Archive> {
        self.files.values()
    }

    /// Takes out one archive that lies wholly below `index`.
    pub(crate) fn take_below(&mut self, index: LogIndex) -> Option<Archive> {
        let first = self.files.values().find(|archive| archive.end() <= index)?.first;
        self.files.remove(&first)
    }
}

/// The file was synced before it got its name, so all of it must be valid.
fn read_whole(disk: &dyn Disk, path: &Path) -> Result<MissingSidecar, LogError> {
    let file = disk.open(path).map_err(|e| LogError::io("open", path, e))?;
    let (segment, first) = scan::read_segment_header(&file, path)
        .map_err(|error| error.unwrap_or_else(|| corrupt(path, 0, Invalid::MissingSegment)))?;
    let scan = scan::scan(&file, path, &segment, &first, None)?;
    if let Some(invalid) = scan.invalid {
        return Err(corrupt(path, scan.end_bytes, invalid));
    }
    let rows: Vec<Row> = scan.records.iter().map(scan::ScannedRecord::row).collect();
    let summary = SegmentSummary {
        salt: segment.salt,
        sequence: segment.sequence,
        end_bytes: scan.end_bytes,
        last_crc: scan.last_crc,
        first: first.index,
        count: rows.len() as u64,
        cut_from: None,
    };
    Ok(MissingSidecar { path: path.to_owned(), summary, rows })
}

/// Writes one archive. Dropped before [`ArchiveWriter::finish`], it leaves nothing that is ever read.
pub struct ArchiveWriter {
    shared: Arc<Shared>,
    first: LogIndex,
    temporary: PathBuf,
    file: Option<Arc<dyn DiskFile>>,
    chain: RecordChain,
    salt: u64,
    written_bytes: u64,
    buffer: Vec<EncodedRecord>,
    buffer_bytes: u64,
    rows: Vec<Row>,
}

impl ArchiveWriter {
    pub(crate) fn new(shared: Arc<Shared>, first: LogIndex) -> Self {
        let salt = shared.disk.random_salt();
        // Two writers of the same archive must not share a file.
        let temporary = shared.dir.join(format!("{:020}-{salt:016x}{SUFFIX}{TEMPORARY_SUFFIX}", first.0));
        Self {
            shared,
            first,
            temporary,
            file: None,
            chain: RecordChain { salt: 0, last_crc: 0 },
            salt,
            written_bytes: 0,
            buffer: Vec::new(),
            buffer_bytes: 0,
            rows: Vec::new(),
        }
    }

    /// Adds the next entry.
    ///
    /// # Errors
    /// [`LogError::OutOfOrder`] unless it follows the last one, [`LogError::TooLarge`], [`LogError::NoSpace`],
    /// [`LogError::Io`].
    pub fn append(&mut self, entry: &LogEntry) -> Result<(), LogError> {
        let expected = LogIndex(self.first.0 + self.rows.len() as u64);
        if entry.index != expected {
            return Err(LogError::OutOfOrder { expected, found: entry.index });
        }
        if entry.body.len() > BODY_BYTES_MAX {
            return Err(LogError::TooLarge { what: "body", bytes: entry.body.len(), bytes_max: BODY_BYTES_MAX });
        }
        self.begin();
        let position_bytes = self.written_bytes + self.buffer_bytes;
        let body_bytes = u32::try_from(entry.body.len()).expect("checked against BODY_BYTES_MAX");
        let header = RecordHeader {
            entry_kind: entry.kind,
            flush: entry.flush,
            index: entry.index,
            term: entry.term,
            ..RecordHeader::plain(RecordKind::Entry, NOTHING_FLUSHED)
        };
        self.push(header, entry.body.clone());
        self.rows.push(Row { position_bytes, term: entry.term, body_bytes });
        if self.buffer_bytes >= BUFFER_BYTES { self.write_buffer() } else { Ok(()) }
    }

    /// Makes the archive durable and readable. Blocks for two syncs and more.
    ///
    /// # Errors
    /// [`LogError::NoSpace`], [`LogError::Io`]; the archive is not there then.
    pub fn finish(mut self) -> Result<(), LogError> {
        self.begin();
        self.write_buffer()?;
        let disk = &*self.shared.disk;
        let file = self.file.take().expect("the buffer was not empty");
        file.sync_data().map_err(|e| LogError::io("flush", &self.temporary, e))?;
        let path = self.shared.dir.join(format!("{:020}{SUFFIX}", self.first.0));
        let summary = SegmentSummary {
            salt: self.salt,
            sequence: 0,
            end_bytes: self.written_bytes,
            last_crc: self.chain.last_crc,
            first: self.first,
            count: self.rows.len() as u64,
            cut_from: None,
        };
        // An older archive of this name goes, its sidecar first: it must never describe the new one.
        remove_if_there(disk, &index_file::path_of(&path))?;
        disk.sync_dir(&self.shared.dir).map_err(|e| LogError::io("flush", &self.shared.dir, e))?;
        disk.rename(&self.temporary, &path).map_err(|e| LogError::io("rename", &self.temporary, e))?;
        disk.sync_dir(&self.shared.dir).map_err(|e| LogError::io("flush", &self.shared.dir, e))?;
        if let Err(error) = index_file::write(disk, &path, &summary, &self.rows) {
            tracing::warn!(%error, "no index of an archive; the next start scans it");
        }
        self.shared.archives.write().add(path, &summary);
        Ok(())
    }

    /// Stages the header, once.
    fn begin(&mut self) {
        if self.written_bytes + self.buffer_bytes > 0 {
            return;
        }
        let header = SegmentHeader { salt: self.salt, sequence: 0, previous_end: None, purged: None, vote: None };
        let record =
            RecordHeader { index: self.first, ..RecordHeader::plain(RecordKind::SegmentHeader, NOTHING_FLUSHED) };
        self.push(record, header.encode_body().into());
        self.chain.salt = self.salt;
    }

    fn push(&mut self, header: RecordHeader, body: bytes::Bytes) {
        let record = self.chain.encode(header, body);
        self.buffer_bytes += record.bytes();
        self.buffer.push(record);
    }

    fn write_buffer(&mut self) -> Result<(), LogError> {
        let path = &self.temporary;
        let file = match &self.file {
            Some(file) => file.clone(),
            None => self.shared.disk.create(path).map_err(|e| LogError::io("create", path, e))?,
        };
        file.write_all_at(&slices(&self.buffer), self.written_bytes).map_err(|e| LogError::io("write", path, e))?;
        self.file = Some(file);
        self.written_bytes += std::mem::take(&mut self.buffer_bytes);
        self.buffer.clear();
        Ok(())
    }
}

impl Drop for ArchiveWriter {
    fn drop(&mut self) {
        if self.file.is_some()
            && let Err(error) = self.shared.disk.remove(&self.temporary)
        {
            tracing::debug!(%error, "an unfinished archive stays until the next start");
        }
    }
}

/// In an archive the flushed position means nothing.
const NOTHING_FLUSHED: Extent = Extent { position: Position { sequence: 0, bytes: 0 }, index: None };
