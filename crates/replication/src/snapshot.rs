//! Sending and receiving a snapshot: a checkpoint of the state as files, then the committed entries that the receiver lacks.
//!
//! Entries go into an archive segment of the receiver's log: they are committed, so they may be read by consumers at once,
//! and Raft never looks at them. Files, archive and directories are on disk before openraft is told to install.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use duolog_commit_log::CommitLog;
use duolog_types::{LogIndex, NodeId};
use openraft::SnapshotMeta;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use crate::blocking::blocking;
use crate::files;
use crate::identity::Identity;
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
    let mut request = Request::new(ReceiverStream::new(receiver));
    transfer.identity.sign(&mut request, transfer.target, &transfer.target_incarnation);
    let (last, header) = (point.last, header(transfer.group, &transfer.vote, point));
    let feed = feed(sender, header, scratch.0.clone(), transfer.source.log(), status.readable_next, last.index);
    let (reply, fed) = tokio::join!(transfer.client.install_snapshot(request), feed);
    let reply = reply.map_err(|status| status.message().to_owned())?.into_inner();
    fed.map_err(|error| error.to_string())?;
    wire::vote_from_wire(reply.vote.as_ref()).map_err(|status| status.message().to_owned())
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

/// The state of this replica for one whose own is damaged, with the entries from `entries_from` on.
pub(crate) async fn serve(
    source: Arc<dyn SnapshotSource>,
    group: u32,
    vote: RaftVote,
    entries_from: u64,
) -> io::Result<mpsc::Receiver<proto::SnapshotChunk>> {
    let (scratch, point) = materialize(source.clone()).await?;
    let (sender, receiver) = mpsc::channel(4);
    let (last, header) = (point.last, header(group, &vote, point));
    tokio::spawn(async move {
        let fed = feed(sender, header, scratch.0.clone(), source.log(), entries_from, last.index).await;
        if let Err(error) = fed {
            tracing::warn!(broker_group = group, %error, "a state was not sent to its end");
        }
    });
    Ok(receiver)
}

fn header(group: u32, vote: &RaftVote, SnapshotPoint { last, membership }: SnapshotPoint) -> proto::SnapshotHeader {
    let last = Some(proto::LogId { term: last.term, index: last.index });
    proto::SnapshotHeader { group, vote: Some(wire::vote_to_wire(vote)), last, membership }
}

type Chunks = mpsc::Sender<proto::SnapshotChunk>;

async fn put(sender: &Chunks, kind: proto::snapshot_chunk::Kind) -> io::Result<()> {
    sender
        .send(proto::SnapshotChunk { kind: Some(kind) })
        .await
        .map_err(|_| io::Error::other("the receiver ended the snapshot"))
}

async fn feed(
    sender: Chunks,
    header: proto::SnapshotHeader,
    dir: PathBuf,
    log: CommitLog,
    readable_next: u64,
    last_index: u64,
) -> io::Result<()> {
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
    for index in readable_next..=last_index {
        // What retention has deleted here is not wanted there.
        let Some(entry) = log.read_any(LogIndex(index)).map_err(io::Error::other)? else { continue };
        bytes += entry.body.len();
        put(&sender, Kind::Entry(wire::log_entry_to_wire(entry))).await?;
        if bytes >= CHUNK_BYTES {
            bytes = 0;
            pace.tick().await;
        }
    }
    Ok(())
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
pub(crate) async fn receive(
    header: proto::SnapshotHeader,
    mut stream: Streaming<proto::SnapshotChunk>,
    scratch_dir: &Path,
    log: &CommitLog,
) -> Result<Arrived, Status> {
    use proto::snapshot_chunk::Kind;
    let internal = |error: io::Error| Status::internal(format!("receiving a snapshot: {error}"));
    let dir = scratch_dir.join(format!("incoming-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&dir).map_err(internal)?;
    let scratch = Scratch(dir);
    let mut open: Option<(String, File)> = None;
    let mut archive = None;
    while let Some(chunk) = stream.message().await? {
        match chunk.kind {
            Some(Kind::File(chunk)) => write_chunk(&scratch.0, &mut open, &chunk).map_err(internal)?,
            Some(Kind::Entry(entry)) => {
                let entry = wire::log_entry_from_wire(entry)?;
                let writer = match &mut archive {
                    Some(writer) => writer,
                    None => archive.insert(log.archive_writer(entry.index)),
                };
                writer.append(&entry).map_err(|error| internal(io::Error::other(error)))?;
            }
            Some(Kind::Header(_)) | None => return Err(Status::invalid_argument("a snapshot has one header")),
        }
    }
    if let Some(writer) = archive {
        writer.finish().map_err(|error| internal(io::Error::other(error)))?;
    }
    if let Some((name, _)) = open {
        return Err(Status::data_loss(format!("the snapshot ended within file {name}")));
    }
    files::sync_dir(&scratch.0).map_err(internal)?;
    let last = header.last.ok_or_else(|| Status::invalid_argument("a snapshot names its last log id"))?;
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

fn write_chunk(dir: &Path, open: &mut Option<(String, File)>, chunk: &proto::FileChunk) -> io::Result<()> {
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
    if chunk.last {
        file.sync_all()?;
        *open = None;
    }
    Ok(())
}

/// Removes what an interrupted transfer left behind; called before Raft starts.
pub(crate) fn clean_scratch(scratch_dir: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(scratch_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    std::fs::create_dir_all(scratch_dir)
}
