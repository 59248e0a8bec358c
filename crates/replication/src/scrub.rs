//! The scrubber: reads what lies in sealed files, slowly, and puts damaged entries back from another replica.
//!
//! ```text
//!  every so often: sealed segments, archives ──▶ verify each entry ──┐
//!  a reader meets a damaged entry ───────────────────────────────────┴─▶ suspect ──▶ ask the others ──▶ CommitLog::repair
//! ```
//!
//! What the disk cannot read is damage of the entries there, like a flipped bit. An entry that nobody can give is told once and rests (see
//! `repairs.rs`); the pass and other repairs go on.
//!
//! Service goes on meanwhile: a consumer that meets a damaged entry is refused and tries again; Raft's own reader waits for the repair,
//! since openraft ends a node whose log cannot be read.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use duolog_commit_log::{CommitLog, LogEntry, LogError, Repair, SegmentRole};
use duolog_types::{BrokerGroupId, LogIndex, NodeId};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::blocking::blocking;
use crate::group::{GroupRaft, members_of};
use crate::identity::Identity;
use crate::peer::Peer;
use crate::repairs::{Repairs, Waiter};
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

/// Searches for damaged entries at other nodes that go on at once.
const SEARCHES_MAX: usize = 4;

type Suspect = (LogIndex, Option<Waiter>);

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

/// What is known of an entry that seems to be damaged.
struct Search {
    index: LogIndex,
    /// Why it cannot be read; `None`: it is whole, or gone.
    damage: Option<io::Error>,
    /// The entry, and the node that gave it.
    good: Option<(NodeId, LogEntry)>,
}

impl Scrubber {
    /// Runs as long as the group does; from before its Raft core is built, which reads the log.
    pub(crate) async fn run(self) {
        let Some(suspects) = self.scrub.queue.lock().take() else { return };
        tokio::join!(self.verify_all(), self.mend_all(suspects));
    }

    /// Verifies everything that lies in sealed files, again and again.
    async fn verify_all(&self) {
        let options = self.scrub.options;
        if options.bytes_per_second == 0 {
            return;
        }
        sleep(options.first_pass()).await;
        loop {
            for file in sealed(&self.log) {
                self.verify_file(file).await;
            }
            sleep(options.interval()).await;
        }
    }

    /// Verifies the entries of a file, slowly. Damaged ones are put back meanwhile, if they can be.
    async fn verify_file(&self, mut range: Range<u64>) {
        while !range.is_empty() {
            let (log, from) = (self.log.clone(), range.clone());
            let (bytes, next, damaged) = match blocking(move || verify(&log, &from)).await {
                Ok(verified) => verified,
                Err(error) => {
                    let broker_group = self.group;
                    tracing::warn!(%broker_group, %error, "cannot verify a file of the log; goes on with the next one");
                    return;
                }
            };
            self.scrub.counts.verified_bytes.fetch_add(bytes, Ordering::Relaxed);
            if let Some(index) = damaged {
                self.scrub.suspect(index);
            }
            range.start = next;
            // How long a damaged entry is, is not known.
            let read_bytes = if damaged.is_some() { CHUNK_BYTES } else { bytes };
            sleep(Duration::from_secs_f64(read_bytes as f64 / self.scrub.options.bytes_per_second as f64)).await;
        }
    }

    /// Puts back what is suspected and damaged. Searches go on side by side: one may have to wait for a node that does not answer.
    async fn mend_all(&self, mut suspects: mpsc::UnboundedReceiver<Suspect>) {
        let mut repairs = Repairs::default();
        let mut searches: FuturesUnordered<BoxFuture<'_, Search>> = FuturesUnordered::new();
        loop {
            let is_free = searches.len() < SEARCHES_MAX;
            let due = repairs.next_due();
            let (index, waiter) = tokio::select! {
                biased;
                Some(search) = searches.next(), if !searches.is_empty() => {
                    let index = search.index;
                    let is_whole = self.mend(search, repairs.is_hopeless(index)).await;
                    repairs.ended(index, is_whole, Instant::now());
                    continue;
                }
                suspect = suspects.recv(), if is_free => match suspect {
                    Some(suspect) => suspect,
                    None => return,
                },
                index = rested(due), if is_free => (index, None),
            };
            if repairs.suspect(index, waiter, Instant::now()) {
                searches.push(self.search(index, repairs.is_hopeless(index)).boxed());
            }
        }
    }

    /// Looks at an entry, and for it at the other nodes if it is damaged. What they have applied is committed, so it is the same at all.
    async fn search(&self, index: LogIndex, is_hopeless: bool) -> Search {
        let log = self.log.clone();
        let verified = blocking(move || log.verify_stored(index).map_err(io::Error::other)).await;
        let Err(damage) = verified else { return Search { index, damage: None, good: None } };
        if !is_hopeless {
            self.scrub.counts.damaged.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(broker_group = %self.group, log_index = %index, %damage, "an entry of the log is damaged");
        }
        let mut good = None;
        for (node, member) in self.peers.without(self.node_id) {
            if let Some(entry) = self.ask(node, &member, index).await {
                good = Some((node, entry));
                break;
            }
        }
        Search { index, damage: Some(damage), good }
    }

    /// Puts an entry back that was found at another node. Whether it is whole now, or gone; told once where it is not.
    async fn mend(&self, Search { index, damage, good }: Search, is_hopeless: bool) -> bool {
        let Some(damage) = damage else { return true };
        let (broker_group, log_index) = (self.group, index);
        if let Some((node, entry)) = good {
            let log = self.log.clone();
            match blocking(move || log.repair(&entry).map_err(io::Error::other)).await {
                Ok(Repair::Repaired) => {
                    self.scrub.counts.repaired.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(%broker_group, %log_index, from = %node, "the damaged entry is whole again");
                    return true;
                }
                Ok(Repair::NotNeeded) => return true,
                Err(error) if !is_hopeless => tracing::warn!(%broker_group, %log_index, %error, "a repair failed"),
                Ok(Repair::Impossible) | Err(_) => {}
            }
        }
        if !is_hopeless {
            tracing::error!(
                %broker_group, %log_index, %damage,
                "a damaged entry of the log could not be put back from another node: no other node that answers has it, or too \
                 much of the file is gone, or the disk does not take it. It is not served. If the others are whole, put a new node in \
                 the place of this one: duolog cluster replace"
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

/// Resolves when an entry that somebody waits for has rested.
async fn rested(due: Option<(Instant, LogIndex)>) -> LogIndex {
    match due {
        Some((at, index)) => {
            sleep_until(at).await;
            index
        }
        None => std::future::pending().await,
    }
}

/// Log indexes of the files that do not change any more.
fn sealed(log: &CommitLog) -> Vec<Range<u64>> {
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
