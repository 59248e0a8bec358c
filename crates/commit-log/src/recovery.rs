//! Opening a log after any crash.
//!
//! ```text
//!   segment 5 (sealed, sidecar)   segment 6                        segment 7
//!   |=========================|   |==========F=========E--garbage  |--------   (superseded)
//!                                            └── tail ─┘
//!                 segment 8 (fresh): header: "I follow segment 6 at F" | tail, rewritten
//! ```
//!
//! F is the greatest position that any record says was flushed, E the end of the valid prefix. E < F is corruption, and
//! nothing is changed. Else the log goes on in a fresh segment that begins with the records in [F, E): what lay in the
//! page cache of a dead process may never reach the disk, whatever a later fsync of the same pages says.
//!
//! Each step leaves one legal state. The fresh segment is written under a temporary name, synced, renamed, and the
//! directory synced. The rename is the switch: before it, the old tail is the log; from it on, the fresh segment's
//! header says where the old log ends, so that what lies behind that is never read again, whether it is removed or not.
//! Only when the rename is durable, leftovers are removed. The fresh segment says of itself that it is flushed up to
//! the end of the tail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use duolog_types::LogIndex;

use crate::archive::Archives;
use crate::disk::{Disk, DiskFile};
use crate::entry::LogId;
use crate::error::LogError;
use crate::format::{
    Extent, Invalid, Position, RECORD_HEADER_BYTES, RecordHeader, RecordKind, SegmentHeader, record_bytes,
};
use crate::index_file::{self, SegmentSummary};
use crate::options::{Recovered, TornTail};
use crate::scan::{self, Scan, ScannedRecord};
use crate::segment::{Segment, corrupt, parse_segment_name, segment_path};
use crate::staged::{RecordChain, slices};
use crate::table::SegmentTable;
use crate::whole_file::{TEMPORARY_SUFFIX, remove_if_there, write_whole};
use crate::writer::ActiveSegment;

/// An opened log, all of it flushed.
pub(crate) struct Opened {
    pub(crate) recovered: Recovered,
    pub(crate) table: SegmentTable,
    pub(crate) archives: Archives,
    pub(crate) active: ActiveSegment,
    /// Told by the fresh segment's header.
    pub(crate) flushed: Extent,
}

/// A segment file as it was found.
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) sequence: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) header: Option<(SegmentHeader, RecordHeader)>,
    content: Content,
}

pub(crate) enum Content {
    Unread,
    /// Wholly flushed, by its sidecar.
    Indexed(SegmentSummary),
    Scanned(Scan),
}

/// State of the log at a point of the replay.
#[derive(Default)]
struct Replay {
    table: SegmentTable,
    vote: Option<Bytes>,
    purged: Option<LogId>,
}

/// The valid prefix: `segments[..count]`, and where it ends.
struct Prefix {
    count: usize,
    end: Position,
    invalid: Option<Invalid>,
    flushed: Position,
}

pub(crate) fn open(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Opened, LogError> {
    let io = |action| move |error| LogError::io(action, dir, error);
    disk.create_dir_all(dir).map_err(io("create"))?;
    let names = disk.list(dir).map_err(io("list"))?;
    let orphan = |name: &&String| {
        let of = name.strip_suffix(".index");
        name.ends_with(TEMPORARY_SUFFIX) || of.is_some_and(|of| !names.iter().any(|name| name == of))
    };
    let (archives, missing_sidecars) = Archives::open(&**disk, dir, &names)?;
    let found = find_segments(&**disk, dir, &names)?;
    let next_sequence = found.last().map_or(0, |last| last.sequence + 1);
    let (mut live, superseded) = split_superseded(found);
    if live.iter().all(|segment| segment.header.is_none())
        && let Some(segment) = live.first()
    {
        return Err(corrupt(&segment.path, 0, Invalid::MissingSegment));
    }
    let prefix = read_prefix(&**disk, &mut live)?;
    if prefix.end < prefix.flushed {
        let at = live.iter().find(|segment| segment.sequence == prefix.end.sequence);
        let path = at.map_or_else(|| dir.to_owned(), |segment| segment.path.clone());
        return Err(corrupt(&path, prefix.end.bytes, prefix.invalid.unwrap_or(Invalid::EndOfFile)));
    }
    let torn = torn_tail(&live, &prefix)?;
    if let Some(torn) = &torn {
        tracing::warn!(segment = %torn.segment.display(), torn.position_bytes, torn.bytes_cut, torn.reason, "cut a torn tail");
    }
    let mut opened = rewrite(disk, dir, live, superseded, &prefix, next_sequence)?;
    opened.recovered.torn = torn;
    opened.archives = archives;
    // Whatever is wrong with the log was said by now: a refusal changes nothing.
    for sidecar in missing_sidecars {
        sidecar.write(&**disk)?;
    }
    for name in names.iter().filter(orphan) {
        remove_if_there(&**disk, &dir.join(name))?;
    }
    Ok(opened)
}

/// All segment files in the order of their sequence numbers, with their headers.
pub(crate) fn find_segments(disk: &dyn Disk, dir: &Path, names: &[String]) -> Result<Vec<Found>, LogError> {
    let mut found = BTreeMap::new();
    for name in names {
        let Some((_, sequence)) = parse_segment_name(name) else { continue };
        let path = dir.join(name);
        let file = disk.open(&path).map_err(|e| LogError::io("open", &path, e))?;
        let header = match scan::read_segment_header(&file, &path) {
            Ok((segment, record)) if segment.sequence == sequence => Some((segment, record)),
            Ok(_) | Err(None) => None,
            Err(Some(error)) => return Err(error),
        };
        found.insert(sequence, Found { path, sequence, file, header, content: Content::Unread });
    }
    Ok(found.into_values().collect())
}

/// Takes out what a later segment's header says is no longer part of the log.
pub(crate) fn split_superseded(found: Vec<Found>) -> (Vec<Found>, Vec<Found>) {
    let follows: Vec<(u64, u64)> = found
        .iter()
        .filter_map(|segment| {
            let (header, _) = segment.header.as_ref()?;
            // A segment that follows nothing supersedes everything before it.
            let after = header.previous_end.map_or(0, |end| end.sequence + 1);
            Some((after, segment.sequence))
        })
        .collect();
    found
        .into_iter()
        .partition(|segment| !follows.iter().any(|(after, sequence)| (*after..*sequence).contains(&segment.sequence)))
}

/// Reads the segments and finds where the valid prefix ends. Those after its end are read too: what they say was
/// flushed was flushed.
fn read_prefix(disk: &dyn Disk, live: &mut [Found]) -> Result<Prefix, LogError> {
    let mut prefix = Prefix {
        count: 0,
        end: Position { sequence: 0, bytes: 0 },
        invalid: None,
        flushed: Position { sequence: 0, bytes: 0 },
    };
    let mut last_crc = None;
    for at in 0..live.len() {
        let next = live.get(at + 1).and_then(|next| next.header.as_ref());
        let follower = next.and_then(|(header, record)| {
            let end = header.previous_end.filter(|end| end.sequence == live[at].sequence)?;
            Some((end.bytes, record.previous_crc))
        });
        let segment = &mut live[at];
        let whole = prefix.invalid.is_none() && prefix.count == at;
        let Some((header, record)) = &segment.header else {
            if whole {
                prefix.invalid = Some(Invalid::MissingSegment);
                prefix.end = Position { sequence: segment.sequence, bytes: 0 };
            }
            prefix.flushed = prefix.flushed.max(scan::claims_without_header(&segment.file, &segment.path)?);
            continue;
        };
        segment.content = read_content(disk, segment, header, record, follower)?;
        let (end_bytes, crc, invalid) = match &segment.content {
            Content::Indexed(summary) => {
                let end = Position { sequence: segment.sequence, bytes: summary.end_bytes };
                prefix.flushed = prefix.flushed.max(end).max(record.flushed.position);
                (summary.end_bytes, summary.last_crc, None)
            }
            Content::Scanned(scan) => {
                prefix.flushed = prefix.flushed.max(scan.flushed);
                (scan.end_bytes, scan.last_crc, scan.invalid)
            }
            Content::Unread => unreachable!("it was read just now"),
        };
        if !whole {
            continue;
        }
        let follows = at == 0 || header.previous_end == Some(prefix.end) && last_crc == Some(record.previous_crc);
        if !follows {
            // Something between the last segment and this one is not there.
            prefix.invalid = Some(Invalid::MissingSegment);
            continue;
        }
        prefix.count = at + 1;
        prefix.end = Position { sequence: segment.sequence, bytes: end_bytes };
        prefix.invalid = invalid;
        last_crc = Some(crc);
    }
    Ok(prefix)
}

/// A sidecar spares reading the segment, if it describes just what the next segment follows: that one's header has the
/// vote and the purge mark, which the sidecar has not.
fn read_content(
    disk: &dyn Disk,
    segment: &Found,
    header: &SegmentHeader,
    record: &RecordHeader,
    follower: Option<(u64, u32)>,
) -> Result<Content, LogError> {
    let summary = index_file::read_summary(disk, &segment.path)
        .filter(|summary| (summary.salt, summary.sequence) == (header.salt, header.sequence));
    if let Some(summary) = summary
        && follower == Some((summary.end_bytes, summary.last_crc))
    {
        let len = segment.file.len().map_err(|e| LogError::io("measure", &segment.path, e))?;
        if len >= summary.end_bytes {
            return Ok(Content::Indexed(summary));
        }
    }
    let limit_bytes = follower.map(|(end, _)| end);
    let mut scan = scan::scan(&segment.file, &segment.path, header, record, limit_bytes)?;
    if let Some(summary) = summary {
        let end = Position {
            sequence: segment.sequence,
            bytes: limit_bytes.unwrap_or(summary.end_bytes).min(summary.end_bytes),
        };
        scan.flushed = scan.flushed.max(end);
    }
    Ok(Content::Scanned(scan))
}

fn torn_tail(live: &[Found], prefix: &Prefix) -> Result<Option<TornTail>, LogError> {
    let mut bytes_cut = 0;
    if let Some(segment) = live[..prefix.count].last()
        && let Content::Scanned(scan) = &segment.content
    {
        bytes_cut += scan.used_bytes - scan.end_bytes;
    }
    for segment in &live[prefix.count..] {
        bytes_cut += match &segment.content {
            Content::Scanned(scan) => scan.used_bytes,
            Content::Indexed(summary) => summary.end_bytes,
            Content::Unread => segment.file.len().map_err(|e| LogError::io("measure", &segment.path, e))?,
        };
    }
    let Some(segment) = live[..prefix.count].last() else { return Ok(None) };
    let reason = prefix.invalid.unwrap_or(Invalid::MissingSegment).reason();
    let position_bytes = match prefix.end.sequence == segment.sequence {
        true => prefix.end.bytes,
        false => segment.file.len().map_err(|e| LogError::io("measure", &segment.path, e))?,
    };
    Ok((bytes_cut > 0).then(|| TornTail { segment: segment.path.clone(), position_bytes, bytes_cut, reason }))
}

impl Replay {
    fn begin(&mut self, segment: &Found, header: &SegmentHeader, record: &RecordHeader) -> Arc<Segment> {
        self.vote.clone_from(&header.vote);
        self.purged = header.purged;
        let segment =
            Arc::new(Segment::new(segment.path.clone(), segment.sequence, header.salt, Some(segment.file.clone())));
        self.table.begin(segment.clone(), record.index);
        segment
    }

    fn last(&self, disk: &dyn Disk) -> Result<Option<LogId>, LogError> {
        let end = self.table.end().filter(|end| self.purged.is_none_or(|(_, purged)| end.0 > purged.0 + 1));
        let Some(end) = end else { return Ok(self.purged) };
        let index = LogIndex(end.0 - 1);
        Ok(self.table.term_of(disk, index)?.map(|term| (term, index)))
    }

    fn apply(&mut self, scanned: &ScannedRecord, position_bytes: u64) {
        match scanned.header.kind {
            RecordKind::Entry => {
                self.table.push(scanned.header.index, crate::index_file::Row { position_bytes, ..scanned.row() });
            }
            RecordKind::Vote => self.vote = Some(scanned.vote.clone()),
            RecordKind::Purge => self.purged = Some(scanned.log_id()),
            RecordKind::TruncateAfter | RecordKind::TruncateAll => {
                self.table.cut(scanned.cut_from().expect("it is a truncation"));
            }
            RecordKind::SegmentHeader | RecordKind::Mark => {}
        }
    }
}

/// A record of the tail, with its body.
struct TailRecord {
    scanned: ScannedRecord,
    body: Bytes,
}

/// Replays up to F, writes the fresh segment, and removes what it supersedes.
fn rewrite(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    mut live: Vec<Found>,
    mut superseded: Vec<Found>,
    prefix: &Prefix,
    next_sequence: u64,
) -> Result<Opened, LogError> {
    superseded.extend(live.split_off(prefix.count));
    let mut replay = Replay::default();
    let mut tail = Vec::new();
    // Where the log before the fresh segment ends, and the CRC of its last record.
    let mut kept: Option<(Position, u32)> = None;
    let mut sealed = Vec::new();
    let mut base = None;
    for segment in live {
        let (header, record) = segment.header.as_ref().expect("the prefix holds only segments with a header");
        let start = Position { sequence: segment.sequence, bytes: record_bytes(record.body_bytes as usize) };
        let is_kept = prefix.flushed >= start;
        if !is_kept && tail.is_empty() {
            // All before this segment is flushed, so its header gives the state there: also that of a segment which was
            // not read, or is deleted.
            (replay.vote, replay.purged) = (header.vote.clone(), header.purged);
            base = base.or(Some(record.index));
        }
        match &segment.content {
            Content::Indexed(summary) => {
                (replay.vote, replay.purged) = (header.vote.clone(), header.purged);
                let file = Arc::new(Segment::new(segment.path.clone(), segment.sequence, header.salt, None));
                replay.table.add_indexed(file, summary);
                kept = Some((Position { sequence: segment.sequence, bytes: summary.end_bytes }, summary.last_crc));
            }
            Content::Scanned(scan) => {
                if is_kept {
                    replay.begin(&segment, header, record);
                    kept = Some((start, record.crc));
                }
                let (before, after): (Vec<_>, Vec<_>) = scan.records.iter().partition(|record| {
                    Position { sequence: segment.sequence, bytes: record.position_bytes } < prefix.flushed
                });
                for scanned in before {
                    replay.apply(scanned, scanned.position_bytes);
                    let end_bytes = scanned.position_bytes + record_bytes(scanned.header.body_bytes as usize);
                    kept = Some((Position { sequence: segment.sequence, bytes: end_bytes }, scanned.header.crc));
                }
                for scanned in after.into_iter().filter(|scanned| scanned.header.kind != RecordKind::Mark) {
                    tail.push(read_tail_record(&segment, scanned)?);
                }
                if is_kept {
                    let (end, crc) = kept.expect("set above");
                    let index = replay.table.seal(end.bytes, crc);
                    sealed.push((segment.path.clone(), segment.file.clone(), end.bytes, index));
                }
            }
            Content::Unread => unreachable!("the prefix was read"),
        }
        if !is_kept {
            superseded.push(segment);
        }
    }
    check_first(dir, &replay, &tail)?;
    let first = match replay.last(&**disk)? {
        Some((_, last)) => LogIndex(last.0 + 1),
        None => base.unwrap_or_default(),
    };
    let (active, flushed) = write_fresh(disk, dir, &mut replay, &tail, kept, first, next_sequence)?;
    for (path, file, end_bytes, index) in sealed {
        file.set_len(end_bytes).map_err(|e| LogError::io("cut", &path, e))?;
        let Some((summary, rows)) = index else { continue };
        match index_file::write(&**disk, &path, &summary, &rows) {
            Ok(()) => replay.table.indexed(summary.sequence),
            Err(error) => tracing::warn!(%error, "no index of a sealed segment; the next start scans it"),
        }
    }
    for segment in superseded {
        remove_if_there(&**disk, &index_file::path_of(&segment.path))?;
        remove_if_there(&**disk, &segment.path)?;
    }
    let rewritten_bytes = tail.iter().map(|record| record_bytes(record.body.len())).sum();
    let last = replay.last(&**disk)?;
    let recovered = Recovered { torn: None, vote: replay.vote, purged: replay.purged, last, rewritten_bytes };
    Ok(Opened { recovered, table: replay.table, archives: Archives::default(), active, flushed })
}

fn read_tail_record(segment: &Found, scanned: &ScannedRecord) -> Result<TailRecord, LogError> {
    let mut body = vec![0; scanned.header.body_bytes as usize];
    segment
        .file
        .read_exact_at(&mut body, scanned.position_bytes + RECORD_HEADER_BYTES as u64)
        .map_err(|e| LogError::io("read", &segment.path, e))?;
    let scanned = ScannedRecord { vote: scanned.vote.clone(), ..*scanned };
    Ok(TailRecord { scanned, body: body.into() })
}

/// Only what is purged may be missing at the front: a segment that is gone for another reason is noticed here.
fn check_first(dir: &Path, replay: &Replay, tail: &[TailRecord]) -> Result<(), LogError> {
    let of_kind = |kind| tail.iter().map(|record| &record.scanned.header).filter(move |header| header.kind == kind);
    let first = replay.table.first().or_else(|| of_kind(RecordKind::Entry).next().map(|header| header.index));
    let purged =
        of_kind(RecordKind::Purge).map(|header| header.index).chain(replay.purged.map(|(_, index)| index)).max();
    let first_max = purged.map_or(0, |purged| purged.0 + 1);
    match first {
        Some(first) if first.0 > first_max => Err(corrupt(dir, 0, Invalid::MissingSegment)),
        _ => Ok(()),
    }
}

/// Writes the fresh segment with the tail in it, and makes it part of the log.
fn write_fresh(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    replay: &mut Replay,
    tail: &[TailRecord],
    kept: Option<(Position, u32)>,
    first: LogIndex,
    sequence: u64,
) -> Result<(ActiveSegment, Extent), LogError> {
    let path = segment_path(dir, first, sequence);
    let salt = disk.random_salt();
    let header = SegmentHeader {
        salt,
        sequence,
        previous_end: kept.map(|(end, _)| end),
        purged: replay.purged,
        vote: replay.vote.clone(),
    };
    let body = Bytes::from(header.encode_body());
    let header_bytes = record_bytes(body.len());
    let segment = Arc::new(Segment::new(path.clone(), sequence, salt, None));
    replay.table.begin(segment.clone(), first);
    let mut end_bytes = header_bytes;
    for record in tail {
        replay.apply(&record.scanned, end_bytes);
        end_bytes += record_bytes(record.body.len());
    }
    // May find that an older segment is damaged: before the first file is changed.
    let index = replay.last(&**disk)?.map(|(_, index)| index);
    let flushed = Extent { position: Position { sequence, bytes: end_bytes }, index };

    let mut chain = RecordChain { salt: 0, last_crc: kept.map_or(0, |(_, crc)| crc) };
    let record = RecordHeader { index: first, ..RecordHeader::plain(RecordKind::SegmentHeader, flushed) };
    let mut records = vec![chain.encode(record, body)];
    chain.salt = salt;
    records.extend(
        tail.iter().map(|record| chain.encode(RecordHeader { flushed, ..record.scanned.header }, record.body.clone())),
    );
    let file = write_whole(&**disk, &path, &slices(&records))?;
    segment.remember_file(file.clone());
    disk.sync_dir(dir).map_err(|e| LogError::io("flush", dir, e))?;
    let last_crc = chain.last_crc;
    let active = ActiveSegment { file, segment, end_bytes, allocated_bytes: end_bytes, header_bytes, last_crc };
    Ok((active, flushed))
}
