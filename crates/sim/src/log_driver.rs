//! Drives the commit logs of a node: a write at once, a flush after the time that its disk takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use duolog_commit_log::{LogDriver, LogSteps, Step};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::random::Random;

/// Most flushes take this long, in milliseconds, and some longer.
const FLUSH_MS: std::ops::Range<u64> = 0..4;
const SLOW_FLUSH_MS: std::ops::Range<u64> = 4..80;
const SLOW_ONE_IN: u64 = 20;
/// The clock stands still within a tick of the simulation: nobody may wait for less.
const TICK: Duration = Duration::from_millis(1);

/// How much longer each flush of a node's disk takes, for as long as its disk is slow; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Slowness(Arc<AtomicU64>);

impl Slowness {
    pub fn set(&self, added: Duration) {
        self.0.store(u64::try_from(added.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn added(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// The logs of one node.
pub fn driver(random: Random, slowness: Slowness) -> LogDriver {
    let random = Mutex::new(random);
    LogDriver::Steps(Arc::new(move |steps| {
        let random = random.lock().fork();
        tokio::spawn(drive(steps, random, slowness.clone()));
    }))
}

async fn drive(steps: LogSteps, mut random: Random, slowness: Slowness) {
    let changed = Arc::new(Notify::new());
    let wake = changed.clone();
    steps.on_change(move || wake.notify_one());
    let mut flush_end: Option<Instant> = None;
    loop {
        let mut wake_at: Option<Instant> = None;
        match steps.write() {
            Step::Ended => return,
            Step::Done => continue,
            Step::Wait(at) => wake_at = earliest(wake_at, at),
        }
        if flush_end.is_none() {
            match steps.begin_flush() {
                Step::Done => flush_end = Some(Instant::now() + duration(&mut random) + slowness.added()),
                Step::Wait(at) => wake_at = earliest(wake_at, at),
                Step::Ended => return,
            }
        }
        if let Some(end) = flush_end {
            if end <= Instant::now() {
                flush_end = None;
                steps.end_flush();
                continue;
            }
            wake_at = earliest(wake_at, Some(end));
        }
        let wait = wake_at.map(|at| at.saturating_duration_since(Instant::now()).max(TICK));
        tokio::select! {
            biased;
            () = changed.notified() => {}
            () = sleep(wait.unwrap_or_default()), if wait.is_some() => {}
        }
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}

fn duration(random: &mut Random) -> Duration {
    let range = if random.one_in(SLOW_ONE_IN) { SLOW_FLUSH_MS } else { FLUSH_MS };
    random.ms(range)
}
