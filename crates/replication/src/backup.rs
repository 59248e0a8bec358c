//! Backups: what a cluster held, as files of one node, and a new cluster made of them.
//!
//! ```text
//! backup.json              what is in it; written last: without it there is no backup
//! groups/<id>/state/       a checkpoint of the state
//! groups/<id>/entries      committed entries: length u32, CRC-32C u32, message `Entry`; little endian
//! ```
//!
//! A group's state and entries end at the same log index. Data groups come first and the catalog last, so that the catalog knows
//! every topic that a data group holds.
//!
//! A restored node is like one that has just installed a snapshot: the entries are in archives, Raft's log begins above them, with one
//! entry that names the new members. All nodes are made in one go: cluster id and incarnations are new, so that neither a node
//! of the old cluster nor one of another restore is ever taken for a member.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use duolog_commit_log::{ArchiveWriter, CommitLog, LogEntry, LogOptions, RealDisk};
use duolog_state::{AppliedEntry, EntryKind};
use duolog_types::{BrokerGroupId, Incarnation, LogIndex, NodeId, Term};
use openraft::{EntryPayload, Membership};
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::blocking::blocking;
use crate::cluster::{NodeAddress, Shared};
use crate::files;
use crate::group::BrokerGroup;
use crate::identity::{FORMAT_VERSION, NodeFile};
use crate::log_store::{ProgressObserver, encode_vote, to_log_entry};
use crate::state_machine::{RUN_BYTES_MAX, RUN_ENTRIES_MAX, write_current};
use crate::type_config::{RaftEntry, RaftVote, raft_log_id};
use crate::watermarks::Mark;
use crate::wire::{self, proto};

/// Version of the backup's layout.
const BACKUP_VERSION: u32 = 1;
const MANIFEST: &str = "backup.json";
const ENTRIES: &str = "entries";
/// An entry and its frame are no longer.
const MESSAGE_BYTES_MAX: usize = wire::MESSAGE_BYTES_MAX;

/// What `backup.json` holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format_version: u32,
    cluster_name: String,
    cluster_id: Option<String>,
    /// The node that made it.
    node_id: u64,
    groups: Vec<GroupManifest>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupManifest {
    broker_group: u32,
    /// Everything up to this log id is in it.
    term: u64,
    index: u64,
    entries: u64,
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

fn named(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A directory that is not there yet, or is empty.
fn begin(dir: &Path) -> io::Result<()> {
    files::create_dir_all(dir).map_err(named(dir))?;
    match fs::read_dir(dir).map_err(named(dir))?.next() {
        None => Ok(()),
        Some(_) => {
            let reason = format!("{} is not empty: expected a directory that is new or empty", dir.display());
            Err(io::Error::new(io::ErrorKind::AlreadyExists, reason))
        }
    }
}

/// Writes a backup of everything that this node has applied, and with `with_uncommitted` of what its logs hold behind that. Gives a line
/// per broker group.
///
/// # Errors
/// The directory is not empty, or something cannot be read or written; uncommitted entries changed meanwhile.
pub(crate) async fn write(shared: &Arc<Shared>, dir: &Path, with_uncommitted: bool) -> io::Result<Vec<String>> {
    let mut groups: Vec<Arc<BrokerGroup>> = shared.groups().cloned().collect();
    groups.sort_unstable_by_key(|group| (group.id() == BrokerGroupId::SYSTEM, group.id()));
    let file = shared.identity.get();
    let dir = dir.to_owned();
    let write = move || {
        begin(&dir)?;
        let mut manifest = Manifest {
            format_version: BACKUP_VERSION,
            cluster_name: file.cluster_name,
            cluster_id: file.cluster_id,
            node_id: file.node_id.0,
            groups: Vec::new(),
        };
        let mut lines = Vec::new();
        for group in groups {
            let id = group.id();
            let (written, uncommitted) =
                write_group(&group, &dir.join("groups").join(id.to_string()), with_uncommitted)?;
            let GroupManifest { index, entries, .. } = written;
            let mut line = format!("broker group {id}: up to log index {index}, {entries} entries");
            if with_uncommitted {
                line += &format!(", {uncommitted} of them behind what this node has applied");
            }
            lines.push(line);
            manifest.groups.push(written);
        }
        files::write_json(&dir.join(MANIFEST), &manifest)?;
        Ok(lines)
    };
    blocking(write).await
}

/// Gives what was written, and how many entries of it were not applied.
fn write_group(group: &BrokerGroup, dir: &Path, with_uncommitted: bool) -> io::Result<(GroupManifest, u64)> {
    files::create_dir_all(dir).map_err(named(dir))?;
    let log = group.log();
    // Before the checkpoint: what retention deletes meanwhile is wanted by nobody.
    let first = log.segments().iter().map(|segment| segment.first).min().unwrap_or(LogIndex(0));
    let state_dir = dir.join("state");
    let applied = group.cell.copy_to(&state_dir)?;
    let last = if with_uncommitted { apply_rest(group, &state_dir)? } else { applied };
    let last = last.ok_or_else(|| io::Error::other(format!("broker group {} has applied nothing yet", group.id())))?;
    let path = dir.join(ENTRIES);
    let mut file = BufWriter::new(File::create(&path).map_err(named(&path))?);
    let (mut entries, mut last_term) = (0, None);
    for index in first.0..=last.index {
        let Some(entry) = log.read_any(LogIndex(index)).map_err(io::Error::other)? else { continue };
        last_term = Some(entry.term);
        let message = wire::log_entry_to_wire(entry).encode_to_vec();
        let length = u32::try_from(message.len()).map_err(io::Error::other)?;
        file.write_all(&length.to_le_bytes())?;
        file.write_all(&crc32c::crc32c(&message).to_le_bytes())?;
        file.write_all(&message)?;
        entries += 1;
    }
    file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    files::sync_dir(dir)?;
    // Only a leader takes entries back, and then what it has is the better backup.
    if with_uncommitted && last_term != Some(Term(last.term)) {
        return Err(io::Error::other(format!(
            "entries of broker group {} were taken back meanwhile: another node leads, so make a backup of what is committed",
            group.id()
        )));
    }
    let uncommitted = last.index + 1 - applied.map_or(0, |mark| mark.index + 1);
    Ok((GroupManifest { broker_group: group.id().0, term: last.term, index: last.index, entries }, uncommitted))
}

/// Applies to the copy of a group's state what its log holds behind it. Gives where it ends.
fn apply_rest(group: &BrokerGroup, state_dir: &Path) -> io::Result<Option<Mark>> {
    let log = group.log();
    let mut state = group.cell.open_copy(state_dir)?;
    let mut next = state.applied().map_or(0, |mark| mark.index + 1);
    let end = log.last().map_or(0, |(_, index)| index.0 + 1);
    while next < end {
        let (mut run, mut bytes) = (Vec::new(), 0);
        while next < end && run.len() < RUN_ENTRIES_MAX && bytes < RUN_BYTES_MAX {
            let entry = log.read_any(LogIndex(next)).map_err(io::Error::other)?;
            let LogEntry { index, term, kind, body, .. } =
                entry.ok_or_else(|| invalid(format!("broker group {}: the log lacks entry {next}", group.id())))?;
            let kind = EntryKind::from_byte(kind)
                .ok_or_else(|| invalid(format!("entry {index} has the unknown kind {kind}")))?;
            bytes += body.len();
            run.push(AppliedEntry { index, term, kind, body });
            next += 1;
        }
        state.apply(&run)?;
    }
    state.files().make_durable()
}

/// Makes the data directories of a new cluster from a backup, `<to>/node-<id>` for each node. Gives a line per node. Blocks.
///
/// # Errors
/// The backup is not whole, the nodes cannot be made, or `to` is not empty.
pub fn restore(
    from: &Path,
    to: &Path,
    (cluster_name, broker_groups): (&str, u32),
    nodes: &[NodeAddress],
    log: &LogOptions,
) -> io::Result<Vec<String>> {
    let manifest: Option<Manifest> = files::read_json(&from.join(MANIFEST))?;
    let manifest = manifest.ok_or_else(|| {
        let reason = format!("{} has no {MANIFEST}: expected a finished backup", from.display());
        io::Error::new(io::ErrorKind::NotFound, reason)
    })?;
    if manifest.format_version > BACKUP_VERSION {
        let found = manifest.format_version;
        return Err(invalid(format!(
            "the backup has version {found}, expected at most {BACKUP_VERSION}: use a newer duolog"
        )));
    }
    if manifest.groups.len() != broker_groups as usize {
        let found = manifest.groups.len();
        return Err(invalid(format!(
            "the backup has {found} broker groups, but broker_groups = {broker_groups}: expected the same"
        )));
    }
    begin(to)?;
    let cluster_id = uuid::Uuid::new_v4().to_string();
    let member = |node: &NodeAddress| (node.id.0, node.member(uuid::Uuid::new_v4().to_string()));
    let members: std::collections::BTreeMap<u64, _> = nodes.iter().map(member).collect();
    let voters = members.keys().copied().collect();
    let membership = Membership::new(vec![voters], members.clone()).map_err(io::Error::other)?;
    let mut lines = Vec::new();
    for (id, member) in &members {
        let dir = to.join(format!("node-{id}"));
        fs::create_dir(&dir).map_err(named(&dir))?;
        for group in &manifest.groups {
            let name = group.broker_group.to_string();
            restore_group(group, &from.join("groups").join(&name), &dir.join("groups").join(&name), &membership, log)?;
        }
        let file = NodeFile {
            format_version: FORMAT_VERSION,
            cluster_name: cluster_name.to_owned(),
            cluster_id: Some(cluster_id.clone()),
            node_id: NodeId(*id),
            incarnation: Incarnation(member.incarnation.clone()),
        };
        // Last: without it nobody starts on a directory that is not whole.
        files::write_json(&dir.join("node.json"), &file)?;
        lines.push(format!("node {id}: {}", dir.display()));
    }
    files::sync_dir(to)?;
    Ok(lines)
}

fn restore_group(
    group: &GroupManifest,
    from: &Path,
    to: &Path,
    membership: &Membership<u64, crate::Member>,
    options: &LogOptions,
) -> io::Result<()> {
    let state_dir = to.join("state");
    let first = state_dir.join("db-1");
    copy_flat(&from.join("state"), &first)?;
    write_current(&state_dir, &first)?;
    let (observer, _) = ProgressObserver::new();
    let (log, _) =
        CommitLog::open(Arc::new(RealDisk), &to.join("log"), options.clone(), observer).map_err(io::Error::other)?;
    let found = restore_entries(&log, &from.join(ENTRIES), group)?;
    if found != group.entries {
        return Err(invalid(format!("{}: expected {} entries, found {found}", from.display(), group.entries)));
    }
    let term = group.term + 1;
    log.purge(LogIndex(group.index), Term(group.term));
    let entry =
        RaftEntry { log_id: raft_log_id(term, group.index + 1), payload: EntryPayload::Membership(membership.clone()) };
    log.append(vec![to_log_entry(&entry)], None).map_err(io::Error::other)?;
    let voted_for = membership.voter_ids().min().unwrap_or(0);
    // The write is in the log's order; the flush at the end makes all of it durable.
    log.save_vote(encode_vote(&RaftVote::new(term, voted_for)), Box::new(|_| {}));
    log.flush_and_wait().map_err(io::Error::other)?;
    log.close().map_err(io::Error::other)?;
    files::sync_dir(to)
}

/// Reads the entries into archives, one for each run without a gap.
fn restore_entries(log: &CommitLog, path: &Path, group: &GroupManifest) -> io::Result<u64> {
    let mut file = BufReader::new(File::open(path).map_err(named(path))?);
    let mut archive: Option<(ArchiveWriter, LogIndex)> = None;
    let mut count = 0;
    while let Some(entry) = next_entry(&mut file).map_err(named(path))? {
        if entry.index.0 > group.index {
            return Err(invalid(format!(
                "{}: entry {} is behind the end, {}",
                path.display(),
                entry.index,
                group.index
            )));
        }
        let continues = archive.as_ref().is_some_and(|(_, next)| *next == entry.index);
        if !continues && let Some((done, _)) = archive.take() {
            done.finish().map_err(io::Error::other)?;
        }
        let (writer, next) = archive.get_or_insert_with(|| (log.archive_writer(entry.index), entry.index));
        writer.append(&entry).map_err(io::Error::other)?;
        *next = LogIndex(entry.index.0 + 1);
        count += 1;
    }
    if let Some((done, _)) = archive {
        done.finish().map_err(io::Error::other)?;
    }
    Ok(count)
}

/// The next entry; `None` at the end of the file.
fn next_entry(file: &mut impl Read) -> io::Result<Option<LogEntry>> {
    let mut head = [0; 8];
    match file.read(&mut head[..1])? {
        0 => return Ok(None),
        _ => file.read_exact(&mut head[1..])?,
    }
    let (length, crc) = head.split_at(4);
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let length = number(length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(invalid(format!("found an entry of {length} bytes, expected at most {MESSAGE_BYTES_MAX}")));
    }
    let mut message = vec![0; length];
    file.read_exact(&mut message)?;
    if crc32c::crc32c(&message) != number(crc) {
        return Err(invalid("an entry does not have its checksum: the backup is damaged".to_owned()));
    }
    let entry = proto::Entry::decode(Bytes::from(message)).map_err(io::Error::other)?;
    wire::log_entry_from_wire(entry).map(Some).map_err(|status| invalid(status.message().to_owned()))
}

/// Copies a directory that has only files, durably.
fn copy_flat(from: &Path, to: &Path) -> io::Result<()> {
    files::create_dir_all(to).map_err(named(to))?;
    for entry in fs::read_dir(from).map_err(named(from))? {
        let path = entry?.path();
        let copy = to.join(path.file_name().expect("an entry of a directory has a name"));
        fs::copy(&path, &copy).map_err(named(&path))?;
        File::open(&copy)?.sync_all().map_err(named(&copy))?;
    }
    files::sync_dir(to)
}
