//! The scrubber: reads what lies in sealed files, slowly, and puts damaged entries back from another replica.
//!
//! ```text
//!  every so often: sealed segments, archives ──▶ verify each entry ──┐
//!  a reader meets a damaged entry (suspect) ─────────────────────────┴─▶ ask the others for it ──▶ CommitLog::repair
//! ```
//!
//! Service goes on meanwhile: a consumer that meets a damaged entry is refused and tries again; Raft's own reader waits for the repair,
//! since openraft ends a node whose log cannot be read.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use duolog_commit_log::{CommitLog, LogEntry, LogError, Repair, SegmentRole};
use duolog_types::{BrokerGroupId, LogIndex, NodeId};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::blocking::blocking;
use crate::group::{GroupRaft, members_of};
use crate::identity::Identity;
use crate::peer::Peer;
use crate::testing::Hooks;
use crate::type_config::Member;
use crate::wire;

/// How the scrubber goes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScrubOptions {
    /// What a node reads in a second, all broker groups together; 0: only what readers find damaged is repaired.
    pub bytes_per_second: u64,
    /// From the end of a pass over everything to the next one, in milliseconds.
    pub interval_ms: u64,
}

impl Default for ScrubOptions {
    fn default() -> Self {
        Self { bytes_per_second: 4 << 20, interval_ms: 86_400_000 }
    }
}

impl ScrubOptions {
    /// From the end of a pass to the next one.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }

    /// From a start to the first pass.
    #[must_use]
    pub fn first_pass(&self) -> Duration {
        self.interval().min(FIRST_PASS_MAX)
    }
}

/// Longest wait between a start and the first pass.
const FIRST_PASS_MAX: Duration = Duration::from_secs(60);
/// What is verified in one go.
const CHUNK_BYTES: u64 = 256 << 10;
const CHUNK_ENTRIES: usize = 256;
/// Longest wait of Raft's reader for a repair.
const REPAIR_WAIT: Duration = Duration::from_secs(10);

type Suspect = (LogIndex, Option<oneshot::Sender<bool>>);

/// What the readers of a group's log tell its scrubber, and what it has done.
pub(crate) struct Scrub {
    pub(crate) options: ScrubOptions,
    suspects: mpsc::UnboundedSender<Suspect>,
    queue: Mutex<Option<mpsc::UnboundedReceiver<Suspect>>>,
    pub(crate) counts: ScrubCounts,
}

/// Counters since the start.
#[derive(Debug, Default)]
pub struct ScrubCounts {
    verified_bytes: AtomicU64,
    damaged: AtomicU64,
    repaired: AtomicU64,
}

impl ScrubCounts {
    /// Bytes of entries that were read and verified.
    pub fn verified_bytes(&self) -> u64 {
        self.verified_bytes.load(Ordering::Relaxed)
    }

    /// Entries that were found damaged.
    pub fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Entries that were put back.
    pub fn repaired(&self) -> u64 {
        self.repaired.load(Ordering::Relaxed)
    }
}

impl Scrub {
    pub(crate) fn new(options: ScrubOptions) -> Self {
        let (suspects, queue) = mpsc::unbounded_channel();
        Self { options, suspects, queue: Mutex::new(Some(queue)), counts: ScrubCounts::default() }
    }

    /// An entry seems to be damaged.
    pub(crate) fn suspect(&self, index: LogIndex) {
        // Without a scrubber the node is stopping.
        let _ = self.suspects.send((index, None));
    }

    /// Whether a damaged entry was put back; waits for that.
    pub(crate) async fn repaired(&self, index: LogIndex) -> bool {
        let (reply, repaired) = oneshot::channel();
        let _ = self.suspects.send((index, Some(reply)));
        matches!(timeout(REPAIR_WAIT, repaired).await, Ok(Ok(true)))
    }
}

/// Whom a broker group's scrubber asks: members, or, while the group is being opened, the configured nodes.
pub(crate) struct Peers {
    pub(crate) configured: Vec<(NodeId, Member)>,
    pub(crate) raft: OnceLock<GroupRaft>,
}

impl Peers {
    fn without(&self, own: NodeId) -> Vec<(NodeId, Member)> {
        let peers = match self.raft.get() {
            Some(raft) => members_of(raft).into_iter().map(|view| (view.node_id, view.member)).collect(),
            None => self.configured.clone(),
        };
        peers.into_iter().filter(|(node, _)| *node != own).collect()
    }
}

/// The scrubber of a broker group's replica.
pub(crate) struct Scrubber {
    pub(crate) group: BrokerGroupId,
    pub(crate) node_id: NodeId,
    pub(crate) log: CommitLog,
    pub(crate) identity: Arc<Identity>,
    pub(crate) hooks: Hooks,
    pub(crate) peers: Arc<Peers>,
    pub(crate) scrub: Arc<Scrub>,
}

/// What is left of a pass.
struct Pass {
    ranges: VecDeque<Range<u64>>,
    next_at: Instant,
}

impl Scrubber {
    /// Runs as long as the group does; from before its Raft core is built, which reads the log.
    pub(crate) async fn run(self) {
        let Some(mut suspects) = self.scrub.queue.lock().take() else { return };
        let ScrubOptions { bytes_per_second, .. } = self.scrub.options;
        let interval = self.scrub.options.interval();
        let mut pass = Pass { ranges: VecDeque::new(), next_at: Instant::now() + self.scrub.options.first_pass() };
        let mut hopeless = BTreeSet::new();
        loop {
            tokio::select! {
                biased;
                suspect = suspects.recv() => {
                    let Some((index, reply)) = suspect else { return };
                    let is_whole = self.mend(index, &mut hopeless).await;
                    // A consumer does not wait.
                    let _ = reply.map(|reply| reply.send(is_whole));
                }
                () = tokio::time::sleep_until(pass.next_at), if bytes_per_second > 0 => {
                    if pass.ranges.is_empty() {
                        pass.ranges = sealed(&self.log);
                    }
                    let (bytes, damaged) = self.verify_some(&mut pass.ranges).await;
                    if let Some(index) = damaged {
                        self.mend(index, &mut hopeless).await;
                    }
                    let is_over = pass.ranges.is_empty();
                    let took = Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64);
                    pass.next_at = Instant::now() + if is_over { interval } else { took };
                }
            }
        }
    }

    /// Verifies some entries, up to the first that is damaged. Gives how many bytes they had.
    async fn verify_some(&self, ranges: &mut VecDeque<Range<u64>>) -> (u64, Option<LogIndex>) {
        let Some(range) = ranges.pop_front() else { return (0, None) };
        let (log, from) = (self.log.clone(), range.clone());
        match blocking(move || verify(&log, &from)).await {
            Ok((bytes, next, damaged)) => {
                self.scrub.counts.verified_bytes.fetch_add(bytes, Ordering::Relaxed);
                if next < range.end {
                    ranges.push_front(next..range.end);
                }
                (bytes, damaged)
            }
            Err(error) => {
                tracing::warn!(broker_group = %self.group, %error, "cannot verify the log; the next pass tries again");
                ranges.clear();
                (0, None)
            }
        }
    }

    /// Puts an entry back if it is damaged. Whether it is whole then, or gone.
    async fn mend(&self, index: LogIndex, hopeless: &mut BTreeSet<LogIndex>) -> bool {
        let (broker_group, log_index, log) = (self.group, index, self.log.clone());
        let damage = match blocking(move || Ok(log.verify_stored(index))).await {
            Ok(Ok(_)) => return true,
            Ok(Err(error)) => error,
            Err(error) => {
                tracing::warn!(%broker_group, %log_index, %error, "cannot verify an entry of the log");
                return false;
            }
        };
        let is_known = hopeless.contains(&index);
        if !is_known {
            self.scrub.counts.damaged.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%broker_group, %log_index, %damage, "an entry of the log is damaged");
        }
        for (node, member) in self.peers.without(self.node_id) {
            let Some(entry) = self.ask(node, &member, index).await else { continue };
            let log = self.log.clone();
            match blocking(move || log.repair(&entry).map_err(io::Error::other)).await {
                Ok(Repair::Repaired) => {
                    self.scrub.counts.repaired.fetch_add(1, Ordering::Relaxed);
                    hopeless.remove(&index);
                    tracing::info!(%broker_group, %log_index, from = %node, "the damaged entry is whole again");
                    return true;
                }
                Ok(Repair::NotNeeded) => return true,
                Ok(Repair::Impossible) => {}
                Err(error) => tracing::warn!(%broker_group, %log_index, %error, "a repair failed"),
            }
        }
        if !is_known {
            hopeless.insert(index);
            tracing::error!(
                %broker_group, %log_index, %damage,
                "a damaged entry of the log could not be put back from another node: no other node that answers has it, or too \
                 much of the file is gone. It is not served. If the others are whole, put a new node in the place of this one: duolog \
                 cluster replace"
            );
        }
        false
    }

    /// The entry as another node has it.
    async fn ask(&self, node: NodeId, member: &Member, index: LogIndex) -> Option<LogEntry> {
        let mut peer = Peer::new(&self.hooks, &self.identity, self.group, (node, member)).ok()?;
        wire::log_entry_from_wire(peer.entry(index.0).await.ok()??).ok()
    }
}

/// Log indexes of the files that do not change any more.
fn sealed(log: &CommitLog) -> VecDeque<Range<u64>> {
    let segments = log.segments().into_iter().filter(|segment| segment.role != SegmentRole::Active);
    segments.filter_map(|segment| Some(segment.first.0..segment.last_inclusive?.0 + 1)).collect()
}

/// Bytes that were verified, where to go on, and a damaged entry.
fn verify(log: &CommitLog, range: &Range<u64>) -> io::Result<(u64, u64, Option<LogIndex>)> {
    let mut bytes = 0;
    for index in range.clone().take(CHUNK_ENTRIES) {
        match log.verify_stored(LogIndex(index)) {
            Ok(found) => bytes += found.unwrap_or(0),
            Err(LogError::Corrupt { .. }) => return Ok((bytes, index + 1, Some(LogIndex(index)))),
            Err(error) => return Err(io::Error::other(error)),
        }
        if bytes >= CHUNK_BYTES {
            return Ok((bytes, index + 1, None));
        }
    }
    Ok((bytes, range.end.min(range.start + CHUNK_ENTRIES as u64), None))
}
