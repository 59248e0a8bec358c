//! openraft's state machine on a replica's state, which lives elsewhere behind [`ReplicatedState`].
//!
//! Invariants: an entry is applied only when it is committed *and* flushed here, so the state is never ahead of the log;
//! the switch to an installed snapshot is one rename of `CURRENT`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use duolog_commit_log::CommitLog;
use duolog_state::{AppliedEntry, EntryKind};
use duolog_types::{BrokerGroupId, LogIndex, NodeId, Term};
use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, Snapshot, SnapshotMeta};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::blocking::blocking;
use crate::files;
use crate::log_store::{LogProgress, to_log_entry, truncate_durably};
use crate::snapshot::{SnapshotHandle, SnapshotPoint, SnapshotSource};
use crate::testing::Early;
use crate::type_config::{
    CommandResponse, CommittedLeaderId, Member, RaftLogId, RaftMembership, StoredMembership, TypeConfig, raft_log_id,
    term_of,
};
use crate::watermarks::Mark;
use crate::wire;

/// Most entries and bytes of one applied run.
pub(crate) const RUN_ENTRIES_MAX: usize = 256;
pub(crate) const RUN_BYTES_MAX: usize = 4 << 20;

/// The state of one replica: applies committed entries, one atomic run at a time.
pub trait ReplicatedState: Send + 'static {
    /// The last entry that was applied.
    fn applied(&self) -> Option<Mark>;
    /// The last membership entry that was applied: its position and its JSON.
    fn membership(&self) -> Option<(Mark, Vec<u8>)>;
    /// Nodes that left the cluster for good; only the system group's state knows any.
    fn retired_nodes(&self) -> Vec<NodeId>;
    /// Applies entries in log order, all or none; one response per entry.
    ///
    /// # Errors
    /// The state is damaged or cannot be written: the replica stops.
    fn apply(&mut self, run: &[AppliedEntry]) -> io::Result<Vec<CommandResponse>>;
    /// A handle that writes it to the disk.
    fn files(&self) -> Arc<dyn StateFiles>;
}

/// Writes a replica's state to its disk, which may take long: entries are applied meanwhile.
pub trait StateFiles: Send + Sync {
    /// Makes durable what was applied before the call, or more, and says up to where.
    ///
    /// # Errors
    /// It cannot be written.
    fn make_durable(&self) -> io::Result<Option<Mark>>;
    /// Writes a consistent, durable copy into a directory that does not exist yet, and says where the copy stands: not before what was
    /// applied before the call.
    ///
    /// # Errors
    /// It cannot be written.
    fn checkpoint(&self, dir: &Path) -> io::Result<Option<Mark>>;
}

/// Opens the state of a replica in a directory; called again when a snapshot replaced it.
pub trait StateFactory: Send + Sync + 'static {
    /// Opens it, empty when the directory is.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when it is damaged: then it is copied from another replica. Others, among them a newer version.
    fn open(&self, group: BrokerGroupId, dir: &Path) -> io::Result<Box<dyn ReplicatedState>>;
    /// Opens a copy of a replica's state that nobody reads, to apply more to it.
    ///
    /// # Errors
    /// As of [`StateFactory::open`].
    fn open_copy(&self, group: BrokerGroupId, dir: &Path) -> io::Result<Box<dyn ReplicatedState>>;
}

struct Inner {
    state: Box<dyn ReplicatedState>,
    /// The point that the last snapshot (a durable state, not files) stands for.
    snapshot: Option<SnapshotMeta<CommittedLeaderId, u64, Member>>,
}

/// A replica's state and where it lies; shared by openraft's worker and the snapshot sender.
pub(crate) struct StateCell {
    group: BrokerGroupId,
    /// `groups/<id>`.
    dir: PathBuf,
    log: CommitLog,
    factory: Arc<dyn StateFactory>,
    /// Held for moments only: whoever applies entries waits for it on a worker of Raft's runtime.
    inner: Mutex<Inner>,
    /// Held while the state's files are written or replaced, by whoever may block; taken before `inner`. A state must not be replaced under
    /// a flush: its directory goes.
    writing: Mutex<()>,
    applied: watch::Sender<Option<Mark>>,
    installed_snapshots: std::sync::atomic::AtomicU64,
}

impl StateCell {
    pub(crate) fn open(
        group: BrokerGroupId,
        dir: &Path,
        log: CommitLog,
        factory: Arc<dyn StateFactory>,
    ) -> io::Result<Arc<Self>> {
        let current = current_dir(&dir.join("state"))?;
        let state = factory.open(group, &current)?;
        Ok(Self::with(state, group, dir, log, factory))
    }

    /// Puts a state that was copied into the place of a damaged one, and opens it.
    ///
    /// # Errors
    /// As of [`StateFactory::open`]; [`io::ErrorKind::InvalidData`] when the state does not stand where it was said to: then the damaged one
    /// stays.
    pub(crate) fn replace_damaged(
        group: BrokerGroupId,
        dir: &Path,
        log: CommitLog,
        factory: Arc<dyn StateFactory>,
        received: &Received,
    ) -> io::Result<Arc<Self>> {
        let state_dir = dir.join("state");
        let (old, new) = move_beside(&state_dir, &received.dir)?;
        let state = open_received(&*factory, group, &new, received.last)?;
        write_current(&state_dir, &new)?;
        std::fs::remove_dir_all(&old)?;
        Ok(Self::with(state, group, dir, log, factory))
    }

    fn with(
        state: Box<dyn ReplicatedState>,
        group: BrokerGroupId,
        dir: &Path,
        log: CommitLog,
        factory: Arc<dyn StateFactory>,
    ) -> Arc<Self> {
        let applied = state.applied();
        Arc::new(Self {
            group,
            dir: dir.to_owned(),
            log,
            factory,
            inner: Mutex::new(Inner { state, snapshot: None }),
            writing: Mutex::new(()),
            applied: watch::channel(applied).0,
            installed_snapshots: std::sync::atomic::AtomicU64::new(0),
        })
    }

    /// Watches the last applied entry.
    pub(crate) fn applied(&self) -> watch::Receiver<Option<Mark>> {
        self.applied.subscribe()
    }

    /// Nodes that left the cluster for good, as this replica's state knows them.
    pub(crate) fn retired_nodes(&self) -> Vec<NodeId> {
        self.inner.lock().state.retired_nodes()
    }

    /// Snapshots that were installed since the start.
    pub(crate) fn installed_snapshots(&self) -> u64 {
        self.installed_snapshots.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Writes a copy into a directory that does not exist yet, and says what it has applied. Blocks.
    pub(crate) fn copy_to(&self, dir: &Path) -> io::Result<Option<Mark>> {
        let _writing = self.writing.lock();
        self.files().checkpoint(dir)
    }

    /// Opens what [`StateCell::copy_to`] wrote.
    pub(crate) fn open_copy(&self, dir: &Path) -> io::Result<Box<dyn ReplicatedState>> {
        self.factory.open_copy(self.group, dir)
    }

    /// Makes the state durable and says up to where. Blocks.
    pub(crate) fn make_durable(&self) -> io::Result<Option<Mark>> {
        let _writing = self.writing.lock();
        self.files().make_durable()
    }

    fn files(&self) -> Arc<dyn StateFiles> {
        self.inner.lock().state.files()
    }

    /// Makes the state durable, and calls what was applied before a snapshot. Blocks.
    fn take_snapshot(&self) -> io::Result<SnapshotMeta<CommittedLeaderId, u64, Member>> {
        let _writing = self.writing.lock();
        let (files, meta) = {
            let inner = self.inner.lock();
            let last_log_id = inner.state.applied().map(|mark| raft_log_id(mark.term, mark.index));
            (inner.state.files(), SnapshotMeta { last_log_id, last_membership: Self::stored_membership(&inner)? })
        };
        files.make_durable()?;
        self.inner.lock().snapshot = Some(meta.clone());
        Ok(meta)
    }

    fn stored_membership(inner: &Inner) -> io::Result<StoredMembership> {
        match inner.state.membership() {
            None => Ok(StoredMembership::default()),
            Some((mark, json)) => {
                let membership: RaftMembership = serde_json::from_slice(&json)
                    .map_err(|error| io::Error::other(format!("stored membership: {error}")))?;
                Ok(StoredMembership::new(Some(raft_log_id(mark.term, mark.index)), membership))
            }
        }
    }

    /// What this replica does not share with a snapshot must never be read as committed: take it out, durably, before the
    /// switch. Entries that were applied stay.
    async fn discard_unapplied(&self, last: &RaftLogId) -> io::Result<()> {
        let known = self.log.term_of(LogIndex(last.index)).map_err(io::Error::other)?;
        if known == Some(Term(term_of(last))) {
            return Ok(());
        }
        let applied = self.inner.lock().state.applied();
        let keep = applied.map(|mark| LogIndex(mark.index)).max(self.log.purged().map(|(_, index)| index));
        if self.log.last().map(|(_, index)| index) <= keep {
            return Ok(());
        }
        truncate_durably(&self.log, keep).await
    }

    /// Blocks: databases are opened and closed.
    fn switch_to(&self, received: &Received) -> io::Result<()> {
        let _writing = self.writing.lock();
        let state_dir = self.dir.join("state");
        let (old, new) = move_beside(&state_dir, &received.dir)?;
        let state = open_received(&*self.factory, self.group, &new, received.last)?;
        write_current(&state_dir, &new)?;
        let applied = state.applied();
        let replaced = std::mem::replace(&mut self.inner.lock().state, state);
        self.applied.send_replace(applied);
        drop(replaced);
        std::fs::remove_dir_all(&old)
    }
}

/// A state that came from another replica.
pub(crate) struct Received {
    pub(crate) dir: PathBuf,
    /// The last entry that it has applied, as its sender said; `None` for an empty state.
    pub(crate) last: Option<Mark>,
}

/// Opens a received state. Before `CURRENT` names it, it is the last chance to see that it is not what the log goes on from.
fn open_received(
    factory: &dyn StateFactory,
    group: BrokerGroupId,
    dir: &Path,
    said: Option<Mark>,
) -> io::Result<Box<dyn ReplicatedState>> {
    let state = factory.open(group, dir)?;
    let applied = state.applied();
    if applied != said {
        let reason = format!("the received state in {} stands at {applied:?}, expected {said:?}", dir.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(state)
}

/// Moves a received state beside the current one; gives the directories of both.
fn move_beside(state_dir: &Path, received: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let old = current_dir(state_dir)?;
    let new = state_dir.join(format!("db-{}", generation(&old) + 1));
    if new.exists() {
        std::fs::remove_dir_all(&new)?;
    }
    std::fs::rename(received, &new)?;
    files::sync_dir(state_dir)?;
    Ok((old, new))
}

fn generation(dir: &Path) -> u64 {
    dir.file_name().and_then(|name| name.to_str()?.strip_prefix("db-")?.parse().ok()).unwrap_or(0)
}

/// The directory that `CURRENT` names; the first one when there is none.
fn current_dir(state_dir: &Path) -> io::Result<PathBuf> {
    files::create_dir_all(state_dir)?;
    match std::fs::read_to_string(state_dir.join("CURRENT")) {
        Ok(name) => Ok(state_dir.join(name.trim())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let first = state_dir.join("db-1");
            // The store would make it, and flush what is in it, but not its name.
            files::create_dir_all(&first)?;
            write_current(state_dir, &first)?;
            Ok(first)
        }
        Err(error) => Err(error),
    }
}

pub(crate) fn write_current(state_dir: &Path, dir: &Path) -> io::Result<()> {
    use std::io::Write;
    let name = dir.file_name().and_then(|name| name.to_str()).expect("made by generation");
    let temporary = state_dir.join("CURRENT.tmp");
    let mut file = std::fs::File::create(&temporary)?;
    writeln!(file, "{name}")?;
    file.sync_all()?;
    std::fs::rename(&temporary, state_dir.join("CURRENT"))?;
    files::sync_dir(state_dir)
}

impl SnapshotSource for StateCell {
    fn materialize(&self, dir: &Path) -> io::Result<SnapshotPoint> {
        let _writing = self.writing.lock();
        loop {
            let last = self.files().checkpoint(dir)?.ok_or_else(|| io::Error::other("nothing was applied yet"))?;
            let membership = Self::stored_membership(&self.inner.lock())?;
            if membership.log_id().as_ref().is_none_or(|log_id| log_id.index <= last.index) {
                return Ok(SnapshotPoint { last, membership: wire::stored_membership_to_bytes(&membership) });
            }
            // The members have changed since the copy was made, and what they were is not known any more.
            std::fs::remove_dir_all(dir)?;
        }
    }

    fn log(&self) -> CommitLog {
        self.log.clone()
    }

    fn scratch_dir(&self) -> PathBuf {
        self.dir.join("snapshot")
    }
}

/// What openraft drives.
pub(crate) struct StateMachine {
    cell: Arc<StateCell>,
    progress: LogProgress,
    early: Early,
}

impl StateMachine {
    pub(crate) fn new(cell: Arc<StateCell>, progress: LogProgress, early: Early) -> Self {
        Self { cell, progress, early }
    }

    /// Asks the log whenever it was flushed: what it told last may be of entries that were truncated since.
    async fn wait_flushed(&mut self, index: LogIndex) -> io::Result<()> {
        let log = &self.cell.log;
        self.progress
            .flushed
            .wait_for(|_| log.is_flushed(index))
            .await
            .map(|_| ())
            .map_err(|_| io::Error::other("the log was closed"))
    }

    async fn apply_run(&mut self, run: &mut Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        let Some((last, _)) = run.last() else { return Ok(()) };
        let last = Mark { term: term_of(&last.log_id), index: last.log_id.index };
        if !self.early.apply {
            self.wait_flushed(LogIndex(last.index)).await?;
        }
        let entries: Vec<AppliedEntry> = run.iter().map(|(entry, _)| applied_entry(entry)).collect();
        // Here, and not on a thread for what blocks: rows go into RocksDB's memory, which takes less time than the way there and back.
        let responses = self.cell.inner.lock().state.apply(&entries)?;
        self.cell.applied.send_replace(Some(last));
        for ((_, responder), response) in run.drain(..).zip(responses) {
            if let Some(responder) = responder {
                responder.send(response);
            }
        }
        Ok(())
    }
}

fn applied_entry(entry: &crate::type_config::RaftEntry) -> AppliedEntry {
    let (kind, body) = match &entry.payload {
        EntryPayload::Blank => (EntryKind::Blank, Bytes::new()),
        EntryPayload::Membership(_) => (EntryKind::Membership, to_log_entry(entry).body),
        EntryPayload::Normal(proposal) => (proposal.kind, proposal.body.clone()),
    };
    AppliedEntry { index: LogIndex(entry.log_id.index), term: Term(term_of(&entry.log_id)), kind, body }
}

fn entry_bytes(entry: &crate::type_config::RaftEntry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.body.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotHandle;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<RaftLogId>, StoredMembership), io::Error> {
        let inner = self.cell.inner.lock();
        let applied = inner.state.applied().map(|mark| raft_log_id(mark.term, mark.index));
        Ok((applied, StateCell::stored_membership(&inner)?))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut run = Vec::new();
        let mut bytes = 0;
        while let Some(item) = entries.next().await {
            let item = item?;
            bytes += entry_bytes(&item.0);
            run.push(item);
            if run.len() >= RUN_ENTRIES_MAX || bytes >= RUN_BYTES_MAX {
                self.apply_run(&mut run).await?;
                bytes = 0;
            }
        }
        self.apply_run(&mut run).await
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { cell: self.cell.clone() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<CommittedLeaderId, u64, Member>,
        snapshot: SnapshotHandle,
    ) -> Result<(), io::Error> {
        let SnapshotHandle::Received(dir) = snapshot else {
            return Err(io::Error::other("a snapshot of this replica itself is never installed"));
        };
        let last = meta.last_log_id.as_ref().ok_or_else(|| io::Error::other("a snapshot without a log id"))?;
        self.cell.discard_unapplied(last).await?;
        let last_applied = Some(Mark { term: term_of(last), index: last.index });
        let (cell, received) = (self.cell.clone(), Received { dir, last: last_applied });
        blocking(move || cell.switch_to(&received)).await?;
        self.cell.installed_snapshots.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        tracing::info!(broker_group = %self.cell.group, log_index = last.index, "installed a snapshot");
        self.cell.inner.lock().snapshot = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<Snapshot<CommittedLeaderId, u64, Member, SnapshotHandle>>, io::Error> {
        let meta = self.cell.inner.lock().snapshot.clone();
        Ok(meta.map(|meta| Snapshot { meta, snapshot: SnapshotHandle::Own }))
    }
}

/// Makes the state durable and calls that a snapshot: files are made only when a follower needs them.
pub(crate) struct SnapshotBuilder {
    cell: Arc<StateCell>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotHandle;

    async fn build_snapshot(&mut self) -> Result<Snapshot<CommittedLeaderId, u64, Member, SnapshotHandle>, io::Error> {
        let cell = self.cell.clone();
        let meta = blocking(move || cell.take_snapshot()).await?;
        Ok(Snapshot { meta, snapshot: SnapshotHandle::Own })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use duolog_commit_log::{LogOptions, SimDisk};

    use super::*;
    use crate::log_store::ProgressObserver;

    const GROUP: BrokerGroupId = BrokerGroupId(0);

    /// A state that stands where the file `applied` in its directory says: term and index.
    struct Standing(Option<Mark>, Arc<Slow>);

    impl ReplicatedState for Standing {
        fn applied(&self) -> Option<Mark> {
            self.0
        }
        fn membership(&self) -> Option<(Mark, Vec<u8>)> {
            None
        }
        fn retired_nodes(&self) -> Vec<NodeId> {
            Vec::new()
        }
        fn apply(&mut self, _: &[AppliedEntry]) -> io::Result<Vec<CommandResponse>> {
            Err(io::Error::other("nothing is applied in this test"))
        }
        fn files(&self) -> Arc<dyn StateFiles> {
            self.1.clone()
        }
    }

    /// Takes its time: until the test has met both barriers.
    struct Slow {
        begun: Barrier,
        may_end: Barrier,
    }

    impl Slow {
        fn write(&self) -> Option<Mark> {
            self.begun.wait();
            self.may_end.wait();
            Some(Mark { term: 1, index: 1 })
        }
    }

    impl StateFiles for Slow {
        fn make_durable(&self) -> io::Result<Option<Mark>> {
            Ok(self.write())
        }
        fn checkpoint(&self, _: &Path) -> io::Result<Option<Mark>> {
            Ok(self.write())
        }
    }

    #[derive(Clone)]
    struct Opener(Arc<Slow>);

    impl Opener {
        fn new() -> Self {
            Self(Arc::new(Slow { begun: Barrier::new(2), may_end: Barrier::new(2) }))
        }
    }

    impl StateFactory for Opener {
        fn open(&self, _: BrokerGroupId, dir: &Path) -> io::Result<Box<dyn ReplicatedState>> {
            let applied: Option<(u64, u64)> = files::read_json(&dir.join("applied"))?;
            Ok(Box::new(Standing(applied.map(|(term, index)| Mark { term, index }), self.0.clone())))
        }
        fn open_copy(&self, group: BrokerGroupId, dir: &Path) -> io::Result<Box<dyn ReplicatedState>> {
            self.open(group, dir)
        }
    }

    fn empty_log() -> CommitLog {
        let (observer, _) = ProgressObserver::new();
        let disk = Arc::new(SimDisk::new());
        let (log, _) = CommitLog::open(disk, Path::new("/log"), LogOptions::default(), observer).unwrap();
        log
    }

    fn received(dir: &Path, (term, index): (u64, u64), last: Option<Mark>) -> Received {
        let received = dir.join("received");
        std::fs::create_dir(&received).unwrap();
        files::write_json(&received.join("applied"), &(term, index)).unwrap();
        Received { dir: received, last }
    }

    #[test]
    fn a_received_state_that_stands_elsewhere_than_said_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (log, opener) = (empty_log(), Opener::new());
        let cell = StateCell::open(GROUP, dir.path(), log.clone(), Arc::new(opener.clone())).unwrap();
        let state_dir = dir.path().join("state");
        let before = current_dir(&state_dir).unwrap();
        for said in [None, Some(Mark { term: 2, index: 6 }), Some(Mark { term: 1, index: 5 })] {
            let refused = cell.switch_to(&received(dir.path(), (2, 5), said)).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{said:?}: {refused}");
            let received = received(dir.path(), (2, 5), said);
            let replaced =
                StateCell::replace_damaged(GROUP, dir.path(), log.clone(), Arc::new(opener.clone()), &received);
            assert!(replaced.is_err_and(|refused| refused.kind() == io::ErrorKind::InvalidData), "{said:?}");
            assert_eq!(current_dir(&state_dir).unwrap(), before, "{said:?}");
            assert_eq!(*cell.applied().borrow(), None, "{said:?}");
        }
        let mark = Mark { term: 2, index: 5 };
        cell.switch_to(&received(dir.path(), (2, 5), Some(mark))).unwrap();
        assert_ne!(current_dir(&state_dir).unwrap(), before);
        assert_eq!(*cell.applied().borrow(), Some(mark));
    }
    #[test]
    fn entries_can_be_applied_while_the_state_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let opener = Opener::new();
        let cell = StateCell::open(GROUP, dir.path(), empty_log(), Arc::new(opener.clone())).unwrap();
        let writes: [fn(&StateCell) -> bool; 3] = [
            |cell| cell.make_durable().is_ok(),
            |cell| cell.take_snapshot().is_ok(),
            |cell| cell.materialize(Path::new("copy")).is_ok(),
        ];
        for write in writes {
            std::thread::scope(|scope| {
                let writing = scope.spawn(|| write(&cell));
                opener.0.begun.wait();
                let is_free = cell.inner.try_lock().is_some();
                opener.0.may_end.wait();
                assert!(writing.join().unwrap() && is_free);
            });
        }
    }
}
