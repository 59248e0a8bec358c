//! Sending and receiving a snapshot: a checkpoint of the state as files, then the committed entries that the receiver lacks.
//!
//! Entries go into an archive segment of the receiver's log: they are committed, so they may be read by consumers at once,
//! and Raft never looks at them. Files, archive and directories are on disk before openraft is told to install.
//!
//! A sender that cannot go on ends the stream as one does that is ready. So the last chunk says that it is the last, and what comes without
//! it is thrown away. Retention goes on at the sender meanwhile: when it has deleted what comes next, the receiver is told, and its archive
//! begins anew behind that.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use duolog_commit_log::{ArchiveWriter, CommitLog, LogEntry, LogError};
use duolog_types::{LogIndex, NodeId};
use futures_util::{Stream, TryStreamExt};
use openraft::SnapshotMeta;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use crate::blocking::blocking;
use crate::files;
use crate::identity::Identity;
use crate::scrub::Scrub;
use crate::type_config::{CommittedLeaderId, Member, RaftVote};
use crate::watermarks::Mark;
use crate::wire::{self, proto};

/// Bytes of one chunk of a file.
const CHUNK_BYTES: usize = 1 << 20;
/// One chunk may leave every so often: about 100 MiB a second.
const CHUNK_INTERVAL: Duration = Duration::from_millis(10);

/// What openraft holds as "the snapshot".
#[derive(Debug)]
pub enum SnapshotHandle {
    /// This replica's own durable state; files are made when they are sent.
    Own,
    /// A checkpoint that was received into this directory.
    Received(PathBuf),
}

/// The point that a checkpoint stands for.
pub(crate) struct SnapshotPoint {
    pub(crate) last: Mark,
    pub(crate) membership: Bytes,
}

/// Where snapshots come from.
pub(crate) trait SnapshotSource: Send + Sync {
    /// Writes a checkpoint into a new directory.
    fn materialize(&self, dir: &Path) -> io::Result<SnapshotPoint>;
    /// The log whose entries go with it.
    fn log(&self) -> CommitLog;
    /// A directory for files under way.
    fn scratch_dir(&self) -> PathBuf;
}

/// One snapshot on its way to one member.
pub(crate) struct Transfer {
    pub(crate) client: proto::cluster_client::ClusterClient<tonic::transport::Channel>,
    pub(crate) group: u32,
    pub(crate) vote: RaftVote,
    pub(crate) identity: Arc<Identity>,
    pub(crate) target: NodeId,
    pub(crate) target_incarnation: String,
    pub(crate) source: Arc<dyn SnapshotSource>,
    pub(crate) scrub: Arc<Scrub>,
}

/// A directory that goes with its owner.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a snapshot's directory");
        }
    }
}

/// Sends a snapshot and waits until it is installed. Returns the receiver's vote.
pub(crate) async fn send(mut transfer: Transfer) -> Result<RaftVote, String> {
    let mut request = Request::new(proto::ReplicaStatusRequest { group: transfer.group });
    transfer.identity.sign(&mut request, transfer.target, &transfer.target_incarnation);
    let status = transfer.client.replica_status(request).await.map_err(|s| s.message().to_owned())?.into_inner();

    let (scratch, point) = materialize(transfer.source.clone()).await.map_err(|error| error.to_string())?;
    tracing::info!(broker_group = transfer.group, to = %transfer.target, log_index = point.last.index, "sending a snapshot");

    let (sender, receiver) = mpsc::channel(4);
    // A request carries no error: where it breaks off, it just ends.
    let chunks = tokio_stream::StreamExt::map_while(ReceiverStream::new(receiver), Result::ok);
    let mut request = Request::new(chunks);
    transfer.identity.sign(&mut request, transfer.target, &transfer.target_incarnation);
    let entries =
        Entries { log: transfer.source.log(), scrub: transfer.scrub, range: status.readable_next..=point.last.index };
    let header = header(transfer.group, &transfer.vote, point);
    let feed = feed(sender, header, scratch.0.clone(), entries);
    match tokio::join!(transfer.client.install_snapshot(request), feed) {
        (Ok(reply), Ok(())) => {
            wire::vote_from_wire(reply.into_inner().vote.as_ref()).map_err(|status| status.message().to_owned())
        }
        // The receiver ended it, and says why.
        (Err(status), Ok(())) => Err(status.message().to_owned()),
        (Err(status), Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Err(status.message().to_owned()),
        (_, Err(error)) => Err(error.to_string()),
    }
}

/// Writes a checkpoint into a directory that goes when nobody needs it any more.
async fn materialize(source: Arc<dyn SnapshotSource>) -> io::Result<(Scratch, SnapshotPoint)> {
    let scratch = Scratch(source.scratch_dir().join(format!("outgoing-{}", uuid::Uuid::new_v4())));
    let dir = scratch.0.clone();
    let write = move || {
        if let Some(parent) = dir.parent() {
            std::fs::create_dir_all(parent)?;
        }
        source.materialize(&dir)
    };
    let point = blocking(write).await?;
    Ok((scratch, point))
}

/// The state of this replica for one whose own is damaged, with the entries from `entries_from` on. Broken off, it ends with an error.
pub(crate) async fn serve(
    source: Arc<dyn SnapshotSource>,
    scrub: Arc<Scrub>,
    group: u32,
    vote: RaftVote,
    entries_from: u64,
) -> io::Result<mpsc::Receiver<Result<proto::SnapshotChunk, Status>>> {
    let (scratch, point) = materialize(source.clone()).await?;
    let (sender, receiver) = mpsc::channel(4);
    let entries = Entries { log: source.log(), scrub, range: entries_from..=point.last.index };
    let header = header(group, &vote, point);
    tokio::spawn(async move {
        if let Err(error) = feed(sender.clone(), header, scratch.0.clone(), entries).await {
            tracing::warn!(broker_group = group, %error, "a state was not sent to its end");
            // The receiver may have ended it.
            let _ = sender.send(Err(Status::unavailable(error.to_string()))).await;
        }
    });
    Ok(receiver)
}

fn header(group: u32, vote: &RaftVote, SnapshotPoint { last, membership }: SnapshotPoint) -> proto::SnapshotHeader {
    let last = Some(proto::LogId { term: last.term, index: last.index });
    proto::SnapshotHeader { group, vote: Some(wire::vote_to_wire(vote)), last, membership }
}

type Chunks = mpsc::Sender<Result<proto::SnapshotChunk, Status>>;

async fn put(sender: &Chunks, kind: proto::snapshot_chunk::Kind) -> io::Result<()> {
    sender
        .send(Ok(proto::SnapshotChunk { kind: Some(kind) }))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the receiver ended the snapshot"))
}

/// Committed entries that go with a state. Retention goes on: it may delete them before they are sent, the oldest first.
struct Entries {
    log: CommitLog,
    scrub: Arc<Scrub>,
    range: RangeInclusive<u64>,
}

impl Entries {
    /// An entry; `None` where retention has deleted it. Waits for the repair of one that is damaged.
    async fn read(&self, index: LogIndex) -> io::Result<Option<LogEntry>> {
        let read = match self.log.read_any(index) {
            Err(LogError::Corrupt { .. }) if self.scrub.repaired(index).await => self.log.read_any(index),
            read => read,
        };
        read.map_err(io::Error::other)
    }

    /// Whether an entry that is not there was deleted with everything before it.
    fn is_below_all(&self, index: LogIndex) -> bool {
        self.log.segments().iter().all(|file| file.last_inclusive.is_none() || file.first > index)
    }
}

/// Sends everything, the end included. [`io::ErrorKind::BrokenPipe`] means that the receiver ended it.
async fn feed(sender: Chunks, header: proto::SnapshotHeader, dir: PathBuf, entries: Entries) -> io::Result<()> {
    use proto::snapshot_chunk::Kind;
    put(&sender, Kind::Header(header)).await?;
    let mut pace = tokio::time::interval(CHUNK_INTERVAL);
    for entry in std::fs::read_dir(&dir)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|name| io::Error::other(format!("file name {name:?}")))?;
        let mut file = File::open(entry.path())?;
        loop {
            let mut data = vec![0; CHUNK_BYTES];
            let count = read_full(&mut file, &mut data)?;
            data.truncate(count);
            let last = count < CHUNK_BYTES;
            put(&sender, Kind::File(proto::FileChunk { name: name.clone(), data: data.into(), last })).await?;
            if last {
                break;
            }
            pace.tick().await;
        }
    }
    let mut bytes = 0;
    let mut has_sent = false;
    for index in entries.range.clone().map(LogIndex) {
        let Some(entry) = entries.read(index).await? else {
            // What retention has deleted here is not wanted there, nor is what was before it.
            if has_sent && !entries.is_below_all(index) {
                return Err(io::Error::other(format!("log entry {index} is missing, and others before it are not")));
            }
            if std::mem::take(&mut has_sent) {
                put(&sender, Kind::Gone(proto::SnapshotGone {})).await?;
            }
            continue;
        };
        has_sent = true;
        bytes += entry.body.len();
        put(&sender, Kind::Entry(wire::log_entry_to_wire(entry))).await?;
        if bytes >= CHUNK_BYTES {
            bytes = 0;
            pace.tick().await;
        }
    }
    put(&sender, Kind::End(proto::SnapshotEnd {})).await
}

fn read_full(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// A snapshot that has arrived and is on disk, ready to be installed.
pub(crate) struct Arrived {
    pub(crate) vote: RaftVote,
    pub(crate) meta: SnapshotMeta<CommittedLeaderId, u64, Member>,
    pub(crate) dir: PathBuf,
}

/// Reads a snapshot's header: which group it is for.
pub(crate) async fn receive_header(
    stream: &mut Streaming<proto::SnapshotChunk>,
) -> Result<proto::SnapshotHeader, Status> {
    match stream.message().await?.and_then(|chunk| chunk.kind) {
        Some(proto::snapshot_chunk::Kind::Header(header)) => Ok(header),
        _ => Err(Status::invalid_argument("a snapshot begins with its header")),
    }
}

/// Receives files and entries and makes them durable.
///
/// # Errors
/// Nothing is kept of a stream that ends before its end is said, nor of one whose entries do not reach up to where its state stands.
pub(crate) async fn receive(
    header: proto::SnapshotHeader,
    mut stream: impl Stream<Item = Result<proto::SnapshotChunk, Status>> + Unpin,
    scratch_dir: &Path,
    log: &CommitLog,
) -> Result<Arrived, Status> {
    use proto::snapshot_chunk::Kind;
    let internal = |error: io::Error| Status::internal(format!("receiving a snapshot: {error}"));
    let dir = scratch_dir.join(format!("incoming-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&dir).map_err(internal)?;
    let scratch = Scratch(dir);
    let last = header.last.ok_or_else(|| Status::invalid_argument("a snapshot names its last log id"))?;
    let mut open: Option<(String, File)> = None;
    let mut archive = Archive { log, writer: None, last: None };
    loop {
        let Some(chunk) = stream.try_next().await? else {
            return Err(Status::data_loss("the snapshot broke off before its end"));
        };
        match chunk.kind {
            Some(Kind::File(chunk)) => {
                if let Some(file) = write_chunk(&scratch.0, &mut open, &chunk).map_err(internal)? {
                    blocking(move || file.sync_all()).await.map_err(internal)?;
                }
            }
            Some(Kind::Entry(entry)) => {
                archive.append(wire::log_entry_from_wire(entry)?).map_err(|error| internal(io::Error::other(error)))?;
            }
            Some(Kind::Gone(_)) => archive = Archive { log, writer: None, last: None },
            Some(Kind::End(_)) => break,
            Some(Kind::Header(_)) | None => return Err(Status::invalid_argument("a snapshot has one header")),
        }
    }
    if let Some((name, _)) = open {
        return Err(Status::data_loss(format!("the snapshot ended within file {name}")));
    }
    archive.check_reaches(Mark { term: last.term, index: last.index })?;
    archive.finish().await.map_err(internal)?;
    files::sync_dir(&scratch.0).map_err(internal)?;
    let last_membership = wire::stored_membership_from_bytes(&header.membership).map_err(Status::invalid_argument)?;
    let arrived = Arrived {
        vote: wire::vote_from_wire(header.vote.as_ref())?,
        meta: SnapshotMeta { last_log_id: Some(wire::log_id_from_wire(&last)), last_membership },
        dir: scratch.0.clone(),
    };
    // The directory belongs to the installation from here on.
    std::mem::forget(scratch);
    Ok(arrived)
}

/// The entries of a snapshot on their way into an archive of the log; there is none without an entry.
struct Archive<'a> {
    log: &'a CommitLog,
    writer: Option<ArchiveWriter>,
    last: Option<Mark>,
}

impl Archive<'_> {
    fn append(&mut self, entry: LogEntry) -> Result<(), LogError> {
        let writer = self.writer.get_or_insert_with(|| self.log.archive_writer(entry.index));
        writer.append(&entry)?;
        self.last = Some(Mark { term: entry.term.0, index: entry.index.0 });
        Ok(())
    }

    /// Retention may have deleted all entries at the sender, or those at the beginning, never those at the end alone: where it did so
    /// meanwhile, the archive was begun anew.
    fn check_reaches(&self, end: Mark) -> Result<(), Status> {
        match self.last {
            Some(last) if last != end => {
                Err(Status::data_loss(format!("the state stands at {end:?}, the entries end with {last:?}")))
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn finish(self) -> io::Result<()> {
        let Some(writer) = self.writer else { return Ok(()) };
        blocking(move || writer.finish().map_err(io::Error::other)).await
    }
}

/// Gives the file when this was its last chunk: it is still to be synced.
fn write_chunk(dir: &Path, open: &mut Option<(String, File)>, chunk: &proto::FileChunk) -> io::Result<Option<File>> {
    let plain = !chunk.name.is_empty() && !chunk.name.contains(['/', '\\']) && chunk.name != "." && chunk.name != "..";
    if !plain {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("file name {:?} in a snapshot", chunk.name)));
    }
    let (name, file) = match open {
        Some(pair) => pair,
        None => open.insert((chunk.name.clone(), File::create(dir.join(&chunk.name))?)),
    };
    if *name != chunk.name {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("file {name} was not finished")));
    }
    file.write_all(&chunk.data)?;
    Ok(if chunk.last { open.take().map(|(_, file)| file) } else { None })
}

/// Removes what an interrupted transfer left behind; called before Raft starts.
pub(crate) fn clean_scratch(scratch_dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(scratch_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    std::fs::create_dir_all(scratch_dir)
}

#[cfg(test)]
mod tests {
    use duolog_commit_log::{LogOptions, SimDisk};
    use duolog_types::{FlushWish, Term};
    use futures_util::StreamExt;

    use super::*;
    use crate::log_store::ProgressObserver;
    use crate::type_config::StoredMembership;
    use crate::wire::proto::snapshot_chunk::Kind;

    /// Where the state of the test's snapshot stands.
    const LAST: Mark = Mark { term: 3, index: 7 };

    fn file(last: bool) -> Kind {
        Kind::File(proto::FileChunk { name: "state.json".to_owned(), data: Bytes::from_static(b"{}"), last })
    }

    fn entry(term: u64, index: u64) -> Kind {
        Kind::Entry(wire::log_entry_to_wire(LogEntry {
            index: LogIndex(index),
            term: Term(term),
            kind: 1,
            flush: FlushWish::Now,
            body: Bytes::from_static(b"record"),
        }))
    }

    fn end() -> Kind {
        Kind::End(proto::SnapshotEnd {})
    }

    fn gone() -> Kind {
        Kind::Gone(proto::SnapshotGone {})
    }

    fn empty_log(options: LogOptions) -> CommitLog {
        let (observer, _) = ProgressObserver::new();
        let disk = Arc::new(SimDisk::new());
        let (log, _) = CommitLog::open(disk, Path::new("/log"), options, observer).unwrap();
        log
    }

    /// The header of a snapshot whose state stands here.
    fn header_of(last: Mark) -> proto::SnapshotHeader {
        proto::SnapshotHeader {
            group: 0,
            vote: Some(proto::Vote { term: 3, node_id: 1, committed: true }),
            last: Some(proto::LogId { term: last.term, index: last.index }),
            membership: wire::stored_membership_to_bytes(&StoredMembership::default()),
        }
    }

    /// Receives these chunks; gives the receiver's log, too, and how many files are left in its scratch directory.
    async fn received(chunks: Vec<Kind>) -> (Result<(), Status>, CommitLog, usize) {
        let dir = tempfile::tempdir().unwrap();
        let log = empty_log(LogOptions::default());
        let chunks = chunks.into_iter().map(|kind| Ok(proto::SnapshotChunk { kind: Some(kind) }));
        let arrived = receive(header_of(LAST), futures_util::stream::iter(chunks), dir.path(), &log).await;
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        (arrived.map(drop), log, left)
    }

    #[tokio::test]
    async fn only_a_whole_snapshot_is_received() {
        let whole = [file(true), entry(2, 5), entry(3, 6), entry(3, 7), end()];
        let (arrived, log, left) = received(whole.to_vec()).await;
        arrived.unwrap();
        assert_eq!(left, 1);
        for index in 5..=7 {
            assert!(log.read_any(LogIndex(index)).unwrap().is_some(), "{index}");
        }
        // Retention has deleted all entries at the sender.
        received(vec![file(true), end()]).await.0.unwrap();
        for (chunks, reason) in [
            (whole[..4].to_vec(), "broke off"),
            (whole[..2].to_vec(), "broke off"),
            (vec![file(true)], "broke off"),
            (vec![], "broke off"),
            (vec![file(false), end()], "within file"),
            (vec![file(true), entry(2, 5), entry(3, 6), end()], "entries end with"),
            (vec![file(true), entry(3, 6), entry(2, 7), end()], "entries end with"),
            (vec![file(true), entry(3, 5), entry(3, 7), end()], "expected an entry with log index 6"),
            (vec![file(true), entry(3, 5), gone(), entry(3, 6), end()], "entries end with"),
        ] {
            let case = format!("{chunks:?}");
            let (arrived, log, left) = received(chunks).await;
            let refused = arrived.unwrap_err();
            assert!(refused.message().contains(reason), "{case}: {refused:?}");
            assert_eq!(left, 0, "{case}");
            let read = (5..=7).find_map(|index| log.read_any(LogIndex(index)).unwrap());
            assert_eq!(read.map(|entry| entry.index), None, "{case}");
        }
    }
    #[tokio::test]
    async fn what_was_sent_before_others_were_gone_is_left_out() {
        let (arrived, log, _) = received(vec![file(true), entry(2, 4), gone(), entry(3, 6), entry(3, 7), end()]).await;
        arrived.unwrap();
        let is_there = |index| log.read_any(LogIndex(index)).unwrap().is_some();
        assert_eq!([4, 5, 6, 7].map(is_there), [false, false, true, true]);
        // All of it was deleted.
        let (arrived, log, _) = received(vec![file(true), entry(2, 6), gone(), end()]).await;
        arrived.unwrap();
        assert_eq!(log.read_any(LogIndex(6)).unwrap(), None);
    }

    #[tokio::test]
    async fn a_snapshot_goes_on_when_retention_deletes_what_comes_next() {
        const ENTRIES: u64 = 40;
        let sent = tempfile::tempdir().unwrap();
        std::fs::write(sent.path().join("state.json"), "{}").unwrap();
        let log = empty_log(LogOptions {
            segment_size_bytes: 4_096,
            allocation_step_bytes: 4_096,
            tail_cache_bytes: 1,
            ..LogOptions::default()
        });
        for index in (0..ENTRIES).map(LogIndex) {
            let body = Bytes::from(vec![7; 1_000]);
            let entry = LogEntry { index, term: Term(1), kind: 1, flush: FlushWish::Now, body };
            log.append(vec![entry], None).unwrap();
        }
        log.flush_and_wait().unwrap();
        log.purge(LogIndex(30), Term(1));
        let last = Mark { term: 1, index: ENTRIES - 1 };
        let scrub = Arc::new(Scrub::new(crate::ScrubOptions::default()));
        let entries = Entries { log: log.clone(), scrub, range: 0..=last.index };
        let (chunks, stream) = mpsc::channel(1);
        let feeding = tokio::spawn(feed(chunks, header_of(last), sent.path().to_owned(), entries));
        let mut stream = ReceiverStream::new(stream);
        assert!(matches!(stream.next().await, Some(Ok(proto::SnapshotChunk { kind: Some(Kind::Header(_)) }))));
        // The sender is at most a few entries ahead.
        let (mut count, retention) = (0, log.clone());
        let stream = stream.map(move |chunk| {
            count += u64::from(matches!(&chunk, Ok(proto::SnapshotChunk { kind: Some(Kind::Entry(_)) })));
            if count == 5 {
                retention.delete_segments_below(LogIndex(20)).unwrap();
            }
            chunk
        });
        let (received, receiver) = (tempfile::tempdir().unwrap(), empty_log(LogOptions::default()));
        receive(header_of(last), stream, received.path(), &receiver).await.unwrap();
        feeding.await.unwrap().unwrap();
        let kept = |log: &CommitLog| -> Vec<u64> {
            (0..ENTRIES).filter(|index| log.read_any(LogIndex(*index)).unwrap().is_some()).collect()
        };
        assert!(kept(&log).len() < 30, "something was deleted");
        assert_eq!(kept(&receiver), kept(&log));
    }
}
