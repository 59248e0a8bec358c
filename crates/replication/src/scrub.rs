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
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use duolog_commit_log::{LogEntry, LogError, Repair, SegmentRole};
use duolog_types::LogIndex;
use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tonic::Request;

use crate::cluster::Shared;
use crate::group::{BrokerGroup, MemberView};
use crate::wire::{self, proto};

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

/// Longest wait between a start and the first pass.
const FIRST_PASS_MAX: Duration = Duration::from_secs(60);
/// What is verified in one go.
const CHUNK_BYTES: u64 = 256 << 10;
const CHUNK_ENTRIES: usize = 256;
/// An entry may be large.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait of Raft's reader for a repair.
const REPAIR_WAIT: Duration = Duration::from_secs(10);

type Suspect = (LogIndex, Option<oneshot::Sender<bool>>);

/// What the readers of a group's log tell its scrubber, and what it has done.
pub(crate) struct Scrub {
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
    pub(crate) fn new() -> Self {
        let (suspects, queue) = mpsc::unbounded_channel();
        Self { suspects, queue: Mutex::new(Some(queue)), counts: ScrubCounts::default() }
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

/// What is left of a pass.
struct Pass {
    ranges: VecDeque<Range<u64>>,
    next_at: Instant,
}

/// Runs as long as the group does.
pub(crate) async fn run(shared: Arc<Shared>, group: Arc<BrokerGroup>) {
    let Some(mut suspects) = group.scrub.queue.lock().take() else { return };
    let ScrubOptions { bytes_per_second, interval_ms } = shared.options.scrub;
    let rate = bytes_per_second / u64::from(shared.options.broker_groups.max(1));
    let interval = Duration::from_millis(interval_ms);
    let mut pass = Pass { ranges: VecDeque::new(), next_at: Instant::now() + interval.min(FIRST_PASS_MAX) };
    let mut hopeless = BTreeSet::new();
    loop {
        tokio::select! {
            biased;
            suspect = suspects.recv() => {
                let Some((index, reply)) = suspect else { return };
                let is_whole = mend(&shared, &group, index, &mut hopeless).await;
                // A consumer does not wait.
                let _ = reply.map(|reply| reply.send(is_whole));
            }
            () = tokio::time::sleep_until(pass.next_at), if rate > 0 => {
                if pass.ranges.is_empty() {
                    pass.ranges = sealed(&group);
                }
                let (bytes, damaged) = verify_some(&group, &mut pass.ranges).await;
                if let Some(index) = damaged {
                    mend(&shared, &group, index, &mut hopeless).await;
                }
                let pause = if pass.ranges.is_empty() { interval } else { Duration::from_secs_f64(bytes as f64 / rate as f64) };
                pass.next_at = Instant::now() + pause;
            }
        }
    }
}

/// Log indexes of the files that do not change any more.
fn sealed(group: &BrokerGroup) -> VecDeque<Range<u64>> {
    let segments = group.log().segments().into_iter().filter(|segment| segment.role != SegmentRole::Active);
    segments.filter_map(|segment| Some(segment.first.0..segment.last_inclusive?.0 + 1)).collect()
}

/// Verifies some entries, up to the first that is damaged. Gives how many bytes they had.
async fn verify_some(group: &Arc<BrokerGroup>, ranges: &mut VecDeque<Range<u64>>) -> (u64, Option<LogIndex>) {
    let Some(range) = ranges.pop_front() else { return (0, None) };
    let log = group.log().clone();
    let from = range.clone();
    let verified = blocking(move || {
        let mut bytes = 0;
        for index in from.clone().take(CHUNK_ENTRIES) {
            match log.verify_stored(LogIndex(index)) {
                Ok(found) => bytes += found.unwrap_or(0),
                Err(LogError::Corrupt { .. }) => return Ok((bytes, index + 1, Some(LogIndex(index)))),
                Err(error) => return Err(io::Error::other(error)),
            }
            if bytes >= CHUNK_BYTES {
                return Ok((bytes, index + 1, None));
            }
        }
        Ok((bytes, from.end.min(from.start + CHUNK_ENTRIES as u64), None))
    });
    match verified.await {
        Ok((bytes, next, damaged)) => {
            group.scrub.counts.verified_bytes.fetch_add(bytes, Ordering::Relaxed);
            if next < range.end {
                ranges.push_front(next..range.end);
            }
            (bytes, damaged)
        }
        Err(error) => {
            tracing::warn!(broker_group = %group.id(), %error, "cannot verify the log; the next pass tries again");
            ranges.clear();
            (0, None)
        }
    }
}

/// Puts an entry back if it is damaged. Whether it is whole then, or gone.
async fn mend(
    shared: &Arc<Shared>,
    group: &Arc<BrokerGroup>,
    index: LogIndex,
    hopeless: &mut BTreeSet<LogIndex>,
) -> bool {
    let log = group.log().clone();
    let damage = match blocking(move || Ok(log.verify_stored(index))).await {
        Ok(Ok(_)) => return true,
        Ok(Err(error)) => error,
        Err(error) => {
            tracing::warn!(broker_group = %group.id(), log_index = %index, %error, "cannot verify an entry of the log");
            return false;
        }
    };
    let is_known = hopeless.contains(&index);
    if !is_known {
        group.scrub.counts.damaged.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(broker_group = %group.id(), log_index = %index, %damage, "an entry of the log is damaged");
    }
    for view in group.members().into_iter().filter(|view| view.node_id != shared.node_id()) {
        let Some(entry) = ask(shared, group, &view, index).await else { continue };
        let log = group.log().clone();
        match blocking(move || Ok(log.repair(&entry))).await {
            Ok(Ok(Repair::Repaired)) => {
                group.scrub.counts.repaired.fetch_add(1, Ordering::Relaxed);
                hopeless.remove(&index);
                tracing::info!(broker_group = %group.id(), log_index = %index, from = %view.node_id, "the damaged entry is whole again");
                return true;
            }
            Ok(Ok(Repair::NotNeeded)) => return true,
            Ok(Ok(Repair::Impossible)) => {}
            Ok(Err(error)) => {
                tracing::warn!(broker_group = %group.id(), log_index = %index, %error, "a repair failed");
            }
            Err(error) => tracing::warn!(broker_group = %group.id(), log_index = %index, %error, "a repair failed"),
        }
    }
    if !is_known {
        hopeless.insert(index);
        tracing::error!(
            broker_group = %group.id(), log_index = %index, %damage,
            "a damaged entry of the log could not be put back from another node: no other node that answers has it, or too much of \
             the file is gone. It is not served. If the others are whole, put a new node in the place of this one: duolog cluster replace"
        );
    }
    false
}

/// The entry as another member has it.
async fn ask(shared: &Shared, group: &BrokerGroup, view: &MemberView, index: LogIndex) -> Option<LogEntry> {
    let mut client = shared.hooks.connect(view.node_id, &view.member).ok()?;
    let mut request = Request::new(proto::ReadEntryRequest { group: group.id().0, index: index.0 });
    shared.identity.sign(&mut request, view.node_id, &view.member.incarnation);
    request.set_timeout(ASK_TIMEOUT);
    let entry = client.read_entry(request).await.ok()?.into_inner().entry?;
    wire::log_entry_from_wire(entry).ok()
}

/// Runs what waits for a disk.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match Handle::current().runtime_flavor() {
        // In a simulation nothing runs beside.
        RuntimeFlavor::CurrentThread => run(),
        _ => tokio::task::spawn_blocking(run).await.map_err(io::Error::other)?,
    }
}
