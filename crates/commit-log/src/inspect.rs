//! Reads a whole log without changing anything: every record of every file, whatever the sidecars say.

use std::path::{Path, PathBuf};

use duolog_types::LogIndex;

use crate::archive;
use crate::disk::Disk;
use crate::error::LogError;
use crate::format::{Invalid, Position, RecordKind};
use crate::recovery;
use crate::scan::{self, Scan};
use crate::segment::corrupt;

/// What a file of the log holds.
#[derive(Debug, Clone)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// Valid bytes.
    pub bytes: u64,
    /// Entries in them, and the greatest log index.
    pub entries: u64,
    /// The last of them.
    pub last: Option<LogIndex>,
    /// What is wrong behind them.
    pub finding: Option<Finding>,
}

/// Why the valid part of a file ends before the file does.
#[derive(Debug, Clone)]
pub enum Finding {
    /// It was not known to be flushed: a crash left it, and the next start cuts it off.
    TornTail {
        /// Bytes from there on that are not zero.
        bytes: u64,
    },
    /// It was flushed: this is damage.
    Damage(LogError),
}

/// Inspects the log of a broker group. Nobody may write to it meanwhile.
///
/// # Errors
/// [`LogError::Io`], [`LogError::UnsupportedVersion`]. Damage is no error here but a finding.
pub fn inspect(disk: &dyn Disk, dir: &Path) -> Result<Vec<FileReport>, LogError> {
    let names = disk.list(dir).map_err(|error| LogError::io("list", dir, error))?;
    let mut reports = Vec::new();
    for name in names.iter().filter(|name| name.ends_with(archive::SUFFIX)) {
        reports.push(inspect_archive(disk, &dir.join(name))?);
    }
    let found = recovery::find_segments(disk, dir, &names)?;
    let (live, _) = recovery::split_superseded(found);
    let mut scans = Vec::new();
    let mut flushed = Position { sequence: 0, bytes: 0 };
    for (at, segment) in live.iter().enumerate() {
        let Some((header, record)) = &segment.header else {
            flushed = flushed.max(scan::claims_without_header(&segment.file, &segment.path)?);
            scans.push(None);
            continue;
        };
        let next = live.get(at + 1).and_then(|next| next.header.as_ref());
        let follower = next.and_then(|(next, _)| next.previous_end).filter(|end| end.sequence == segment.sequence);
        let limit = follower.map(|end| end.bytes);
        let scan = scan::scan(&segment.file, &segment.path, header, record, limit)?;
        // What the next segment follows was flushed before that one began.
        flushed = flushed.max(scan.flushed).max(follower.unwrap_or(scan.flushed));
        scans.push(Some(scan));
    }
    for (segment, scan) in live.iter().zip(scans) {
        let position = |bytes| Position { sequence: segment.sequence, bytes };
        let report = match scan {
            None => FileReport {
                path: segment.path.clone(),
                bytes: 0,
                entries: 0,
                last: None,
                finding: Some(Finding::Damage(corrupt(&segment.path, 0, Invalid::MissingSegment))),
            },
            Some(scan) => {
                let is_damage = position(scan.end_bytes) < flushed;
                report(&segment.path, &scan, is_damage)
            }
        };
        reports.push(report);
    }
    Ok(reports)
}

fn report(path: &Path, scan: &Scan, is_damage: bool) -> FileReport {
    let entries = scan.records.iter().filter(|record| record.header.kind == RecordKind::Entry);
    let finding = scan.invalid.map(|invalid| match is_damage {
        true => Finding::Damage(corrupt(path, scan.end_bytes, invalid)),
        false => Finding::TornTail { bytes: scan.used_bytes - scan.end_bytes },
    });
    FileReport {
        path: path.to_owned(),
        bytes: scan.end_bytes,
        entries: entries.clone().count() as u64,
        last: entries.map(|record| record.header.index).max(),
        finding,
    }
}

/// An archive was synced before it got its name: all of it must be valid.
fn inspect_archive(disk: &dyn Disk, path: &Path) -> Result<FileReport, LogError> {
    let file = disk.open(path).map_err(|error| LogError::io("open", path, error))?;
    match scan::read_segment_header(&file, path) {
        Ok((header, record)) => Ok(report(path, &scan::scan(&file, path, &header, &record, None)?, true)),
        Err(Some(error)) => Err(error),
        Err(None) => Ok(FileReport {
            path: path.to_owned(),
            bytes: 0,
            entries: 0,
            last: None,
            finding: Some(Finding::Damage(corrupt(path, 0, Invalid::MissingSegment))),
        }),
    }
}
