//! openraft's log storage on the commit log.
//!
//! Votes, appends, truncations and purge marks go through the log's one ordered queue. `IOFlushed` is called only after
//! fdatasync. Nothing here waits for a disk but the vote.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use duolog_commit_log::{CommitLog, LogEntry, LogError, LogObserver};
use duolog_state::EntryKind;
use duolog_types::{FlushWish, LogIndex, Term};
use futures_util::Stream;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::{oneshot, watch};

use crate::guard::Guard;
use crate::scrub::Scrub;
use crate::type_config::{RaftEntry, RaftLogId, RaftMembership, RaftVote, TypeConfig, raft_log_id, term_of};
use crate::watermarks::Mark;

/// Bytes of entries that one read for replication returns; one larger entry is returned alone.
const READ_BYTES_MAX: usize = 1 << 20;
/// Damage is looked for in so many entries: those of one read of openraft are fewer.
const READ_ENTRIES_MAX: u64 = 1 << 16;

/// Sees every entry of this replica in log order, in the moment in which it is appended.
pub trait EntryTap: Send + Sync + 'static {
    /// An entry was appended (not written yet). Entries of all kinds, of leader and follower.
    fn entry_appended(&self, term: Term, index: LogIndex, kind: EntryKind, body: &Bytes);
    /// Entries after this index were taken out again.
    fn truncated_after(&self, index: Option<LogIndex>);
    /// Whether something in the entry may be answered before it is flushed: then the power-loss guard must know first.
    fn is_answered_unflushed(&self, kind: EntryKind, body: &Bytes) -> bool;
}

/// Watches on a log's own progress.
#[derive(Clone)]
pub(crate) struct LogProgress {
    /// Last entry written to the page cache.
    pub written: watch::Receiver<Option<Mark>>,
    /// Last entry flushed.
    pub flushed: watch::Receiver<Option<Mark>>,
    /// Set once the log has failed; the node must stop.
    pub failed: watch::Receiver<Option<String>>,
}

/// Turns the log's callbacks into watches.
pub(crate) struct ProgressObserver {
    written: watch::Sender<Option<Mark>>,
    flushed: watch::Sender<Option<Mark>>,
    failed: watch::Sender<Option<String>>,
}

impl ProgressObserver {
    pub(crate) fn new() -> (Arc<Self>, LogProgress) {
        let (written, written_rx) = watch::channel(None);
        let (flushed, flushed_rx) = watch::channel(None);
        let (failed, failed_rx) = watch::channel(None);
        let progress = LogProgress { written: written_rx, flushed: flushed_rx, failed: failed_rx };
        (Arc::new(Self { written, flushed, failed }), progress)
    }

    /// What recovery found counts as written and flushed: it was rewritten and flushed.
    pub(crate) fn recovered(&self, last: Option<Mark>) {
        self.written.send_replace(last);
        self.flushed.send_replace(last);
    }
}

impl LogObserver for ProgressObserver {
    fn written(&self, term: Term, index: LogIndex) {
        self.written.send_replace(Some(Mark { term: term.0, index: index.0 }));
    }

    fn flushed(&self, term: Term, index: LogIndex) {
        self.flushed.send_replace(Some(Mark { term: term.0, index: index.0 }));
    }

    fn failed(&self, error: &LogError) {
        self.failed.send_replace(Some(error.to_string()));
    }
}

/// The log of one broker group as openraft sees it.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: CommitLog,
    tap: Arc<dyn EntryTap>,
    guard: Arc<Guard>,
    scrub: Arc<Scrub>,
}

impl LogStore {
    pub(crate) fn new(log: CommitLog, tap: Arc<dyn EntryTap>, guard: Arc<Guard>, scrub: Arc<Scrub>) -> Self {
        Self { log, tap, guard, scrub }
    }

    /// The first damaged entry of those that one read may cover.
    fn first_damaged(&self, start: u64, end: u64) -> Option<LogIndex> {
        (start..end.min(start + READ_ENTRIES_MAX)).map(LogIndex).find(|index| self.log.verify_stored(*index).is_err())
    }
}

fn io_error(error: LogError) -> io::Error {
    io::Error::other(error)
}

/// The vote as the log keeps it: term, node id, committed.
pub(crate) fn encode_vote(vote: &RaftVote) -> Bytes {
    let mut bytes = Vec::with_capacity(17);
    bytes.extend_from_slice(&vote.leader_id.term.to_le_bytes());
    bytes.extend_from_slice(&vote.leader_id.voted_for.to_le_bytes());
    bytes.push(u8::from(vote.committed));
    bytes.into()
}

pub(crate) fn decode_vote(bytes: &[u8]) -> Result<RaftVote, String> {
    let fixed: &[u8; 17] = bytes.try_into().map_err(|_| format!("a vote has 17 bytes, found {}", bytes.len()))?;
    let (term, rest) = fixed.split_at(8);
    let (node, committed) = rest.split_at(8);
    let number = |b: &[u8]| u64::from_le_bytes(b.try_into().expect("eight bytes"));
    Ok(match committed[0] {
        0 => RaftVote::new(number(term), number(node)),
        _ => RaftVote::new_committed(number(term), number(node)),
    })
}

/// An openraft entry as the log keeps it. Membership is JSON: rare, small, readable by every version.
pub(crate) fn to_log_entry(entry: &RaftEntry) -> LogEntry {
    let (kind, flush, body) = match &entry.payload {
        EntryPayload::Blank => (EntryKind::Blank, FlushWish::Now, Bytes::new()),
        EntryPayload::Membership(membership) => {
            let json = serde_json::to_vec(membership).expect("a membership is plain data");
            (EntryKind::Membership, FlushWish::Now, json.into())
        }
        EntryPayload::Normal(proposal) => (proposal.kind, proposal.flush, proposal.body.clone()),
    };
    LogEntry {
        index: LogIndex(entry.log_id.index),
        term: Term(term_of(&entry.log_id)),
        kind: kind.to_byte(),
        flush,
        body,
    }
}

/// The inverse of [`to_log_entry`].
pub(crate) fn from_log_entry(entry: LogEntry) -> Result<RaftEntry, io::Error> {
    let log_id = raft_log_id(entry.term.0, entry.index.0);
    let kind = EntryKind::from_byte(entry.kind)
        .ok_or_else(|| io::Error::other(format!("entry {} has the unknown kind {}", entry.index, entry.kind)))?;
    let payload = match kind {
        EntryKind::Blank => EntryPayload::Blank,
        EntryKind::Membership => {
            let membership: RaftMembership = serde_json::from_slice(&entry.body)
                .map_err(|e| io::Error::other(format!("membership of entry {}: {e}", entry.index)))?;
            EntryPayload::Membership(membership)
        }
        EntryKind::Batches | EntryKind::Command | EntryKind::RunBarrier => {
            EntryPayload::Normal(crate::Proposal { kind, flush: entry.flush, body: entry.body })
        }
    };
    Ok(RaftEntry { log_id, payload })
}

fn half_open(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl LogStore {
    /// Waits for the repair of what is damaged: openraft ends a node whose log cannot be read.
    async fn read(&self, start: u64, end: u64, bytes_max: usize) -> Result<Vec<RaftEntry>, io::Error> {
        if start >= end {
            return Ok(Vec::new());
        }
        loop {
            let error = match self.log.read(LogIndex(start)..LogIndex(end), bytes_max) {
                Ok(entries) => return entries.into_iter().map(from_log_entry).collect(),
                Err(error) => error,
            };
            let is_damaged = matches!(error, LogError::Corrupt { .. });
            match is_damaged.then(|| self.first_damaged(start, end)).flatten() {
                Some(index) if self.scrub.repaired(index).await => {}
                _ => return Err(io_error(error)),
            }
        }
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        let (start, end) = half_open(&range);
        self.read(start, end, usize::MAX).await
    }

    /// Committed entries for apply, read in pieces so that a long recovery does not fill the memory.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<RaftEntry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = half_open(&range);
        let store = self.clone();
        futures_util::stream::unfold((start, Vec::new().into_iter()), move |(mut next, mut piece)| {
            let store = store.clone();
            async move {
                loop {
                    if let Some(entry) = piece.next() {
                        return Some((Ok(entry), (next, piece)));
                    }
                    if next >= end {
                        return None;
                    }
                    match store.read(next, end, READ_BYTES_MAX).await {
                        Ok(entries) if entries.is_empty() => {
                            let error = io::Error::other(format!("log entry {next} is missing"));
                            return Some((Err(error), (end, piece)));
                        }
                        Ok(entries) => {
                            next += entries.len() as u64;
                            piece = entries.into_iter();
                        }
                        Err(error) => return Some((Err(error), (end, piece))),
                    }
                }
            }
        })
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<RaftEntry>, io::Error> {
        self.read(start, end, READ_BYTES_MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<RaftVote>, io::Error> {
        self.log.vote().map(|bytes| decode_vote(&bytes).map_err(io::Error::other)).transpose()
    }
}

/// Takes out what lies behind `keep`, durably.
pub(crate) async fn truncate_durably(log: &CommitLog, keep: Option<LogIndex>) -> io::Result<()> {
    log.truncate_after(keep).map_err(io::Error::other)?;
    let (sender, receiver) = oneshot::channel();
    log.flush(Box::new(move |result| {
        // Nobody listens when the node is stopping.
        let _ = sender.send(result);
    }));
    receiver.await.map_err(io::Error::other)?.map_err(io::Error::other)
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let purged = self.log.purged().map(|(term, index)| raft_log_id(term.0, index.0));
        let last = self.log.last().map(|(term, index)| raft_log_id(term.0, index.0));
        Ok(LogState { last_purged_log_id: purged, last_log_id: last.max(purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> Result<(), io::Error> {
        let (sender, receiver) = oneshot::channel();
        self.log.save_vote(
            encode_vote(vote),
            Box::new(move |result| {
                // The core has gone when nobody listens.
                let _ = sender.send(result);
            }),
        );
        receiver.await.map_err(|_| io::Error::other("the log was closed"))?.map_err(io_error)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut log_entries = Vec::new();
        let mut unflushed = false;
        for entry in entries {
            let log_entry = to_log_entry(&entry);
            let kind = EntryKind::from_byte(log_entry.kind).expect("made by to_log_entry");
            self.tap.entry_appended(log_entry.term, log_entry.index, kind, &log_entry.body);
            unflushed |= !self.guard.is_exposed() && self.tap.is_answered_unflushed(kind, &log_entry.body);
            log_entries.push(log_entry);
        }
        if unflushed {
            // Before any answer for an entry that waits for its flush: the leader's own count and the follower's mark.
            self.guard.expose()?;
        }
        self.log
            .append(
                log_entries,
                Some(Box::new(move |result: Result<(), LogError>| callback.io_completed(result.map_err(io_error)))),
            )
            .map_err(io_error)
    }

    async fn truncate_after(&mut self, last_log_id: Option<RaftLogId>) -> Result<(), io::Error> {
        let index = last_log_id.map(|id| LogIndex(id.index));
        self.tap.truncated_after(index);
        self.log.truncate_after(index).map_err(io_error)
    }

    /// Records the mark only: retention deletes segments, and readers that serve consumers go on below it.
    async fn purge(&mut self, log_id: RaftLogId) -> Result<(), io::Error> {
        self.log.purge(LogIndex(log_id.index), Term(term_of(&log_id)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use duolog_commit_log::{LogOptions, SimDisk};
    use duolog_types::BrokerGroupId;

    use super::*;

    struct NoTap;

    impl EntryTap for NoTap {
        fn entry_appended(&self, _: Term, _: LogIndex, _: EntryKind, _: &Bytes) {}
        fn truncated_after(&self, _: Option<LogIndex>) {}
        fn is_answered_unflushed(&self, _: EntryKind, _: &Bytes) -> bool {
            false
        }
    }

    fn store(bodies_bytes: &[usize]) -> LogStore {
        let dir = tempfile::tempdir().unwrap();
        let (observer, _) = ProgressObserver::new();
        let disk = Arc::new(SimDisk::new());
        let (log, _) = CommitLog::open(disk, dir.path(), LogOptions::default(), observer).unwrap();
        let entries = (0..).zip(bodies_bytes).map(|(index, bytes)| LogEntry {
            index: LogIndex(index),
            term: Term(1),
            kind: EntryKind::Batches.to_byte(),
            flush: FlushWish::Now,
            body: vec![0; *bytes].into(),
        });
        log.append(entries.collect(), None).unwrap();
        let guard = Guard::open(dir.path(), &dir.path().join("boot_id"), &[BrokerGroupId(0)]).unwrap();
        LogStore::new(log, Arc::new(NoTap), Arc::new(guard), Arc::new(Scrub::new(crate::ScrubOptions::default())))
    }

    async fn sizes(store: &mut LogStore, start: u64, end: u64) -> Vec<usize> {
        let size = |entry: RaftEntry| match entry.payload {
            EntryPayload::Normal(proposal) => proposal.body.len(),
            EntryPayload::Blank | EntryPayload::Membership(_) => 0,
        };
        store.limited_get_log_entries(start, end).await.unwrap().into_iter().map(size).collect()
    }

    #[tokio::test]
    async fn raft_must_05_reads_for_replication_are_bounded_in_bytes() {
        const KIB: usize = 1 << 10;
        let mut store = store(&[300 * KIB, 300 * KIB, 300 * KIB, 300 * KIB, 5_000 * KIB, 10, READ_BYTES_MAX, 1, 1]);
        for (start, end, expected) in [
            (0, 9, vec![300 * KIB; 3]),
            (0, 2, vec![300 * KIB; 2]),
            (3, 9, vec![300 * KIB]),
            // At least one, however large; and nothing with it.
            (4, 9, vec![5_000 * KIB]),
            (5, 9, vec![10]),
            (6, 9, vec![READ_BYTES_MAX]),
            (7, 9, vec![1, 1]),
        ] {
            assert_eq!(sizes(&mut store, start, end).await, expected, "{start}..{end}");
        }
        // One after the other they are the whole log.
        let mut next = 0;
        while next < 9 {
            next += sizes(&mut store, next, 9).await.len() as u64;
        }
        assert_eq!(next, 9);
    }
}
