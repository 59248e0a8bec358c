//! Delivers delayed messages: the leader sleeps until the first one is due and submits a reference for each that is.
//!
//! Never early: a message is submitted when the leader's clock has passed its time. A message is not submitted again
//! before its reference is applied or has failed; that it is not delivered twice is the sequencer's care.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use duolog_coordinator::sequencer::HiddenEnd;
use duolog_record::entry::Address;
use duolog_state::StateError;
use duolog_state::keys::TimerKind;
use duolog_state::reader::{self, Timer};
use duolog_state::tables::TableReader;
use duolog_types::{Term, TimestampMs};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use super::ending::{locate, submit_end};
use crate::api::ItemResult;
use crate::broker::Broker;
use crate::message_api::HiddenHandle;
use crate::produce::now;
use crate::runtime::{GroupRuntime, Sequenced, storage};

/// Messages that are submitted and whose references are not applied, at most.
const SUBMITTED_MAX: usize = 1_024;
/// Timers that are read at first; more when all of them are due.
const PAGE: usize = 64;
/// The least time between two looks of which the first one has submitted something: what becomes due meanwhile is one entry.
const GATHERED: Duration = Duration::from_millis(10);
/// A delivery that failed is tried again after this time.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Longest sleep, so that a clock that was set is noticed.
const SLEEP_MAX_MS: i64 = 1_000;

/// Runs as long as the broker group does.
pub(crate) async fn deliver(broker: Broker, runtime: Arc<GroupRuntime>) {
    let mut serving = runtime.subscribe_serving();
    let mut task = Task {
        broker,
        runtime: runtime.clone(),
        term: None,
        submitted: BTreeSet::new(),
        quiet_until: Instant::now(),
        ends: FuturesUnordered::new(),
    };
    loop {
        task.follow(*serving.borrow_and_update());
        let sleep = task.look();
        tokio::select! {
            changed = serving.changed() => if changed.is_err() { return },
            Some(address) = task.ends.next(), if !task.ends.is_empty() => task.ended(address),
            () = runtime.hidden().earlier(), if task.term.is_some() => {}
            () = tokio::time::sleep(sleep), if task.term.is_some() => {}
        }
    }
}

struct Task {
    broker: Broker,
    runtime: Arc<GroupRuntime>,
    /// The term in which this node leads.
    term: Option<Term>,
    submitted: BTreeSet<Address>,
    quiet_until: Instant,
    /// One per submitted message: ready when its reference is applied, or when it may be tried again.
    ends: FuturesUnordered<BoxFuture<'static, Address>>,
}

impl Task {
    fn follow(&mut self, term: Option<Term>) {
        if term != self.term {
            self.term = term;
            self.submitted.clear();
            self.ends = FuturesUnordered::new();
        }
    }

    /// One has ended, and all that have ended with it.
    fn ended(&mut self, address: Address) {
        self.submitted.remove(&address);
        while let Some(Some(address)) = self.ends.next().now_or_never() {
            self.submitted.remove(&address);
        }
    }

    /// Submits what is due; how long there is nothing more to do.
    fn look(&mut self) -> Duration {
        if self.term.is_none() {
            return Duration::ZERO;
        }
        let begun = Instant::now();
        if begun < self.quiet_until {
            return self.quiet_until - begun;
        }
        self.runtime.hidden().wake_up();
        let before = self.submitted.len();
        match self.submit_due() {
            Ok(next) => {
                if self.submitted.len() > before {
                    self.quiet_until = begun + GATHERED;
                }
                self.runtime.hidden().fall_asleep(next);
                let sleep_ms = next.0.saturating_sub(now().0).clamp(1, SLEEP_MAX_MS);
                Duration::from_millis(sleep_ms.unsigned_abs())
            }
            Err(error) => {
                tracing::error!(broker_group = %self.runtime.id(), %error, "cannot look for delayed messages");
                RETRY_AFTER
            }
        }
    }

    /// The time of the first message that is not due yet.
    fn submit_due(&mut self) -> ItemResult<TimestampMs> {
        let tables = self.runtime.tables();
        let now = now();
        // Those that are submitted come first.
        let read = |from| due(&*tables, from, now, self.submitted.len() + PAGE);
        let timers = self.runtime.hidden().deliveries.scan(read).map_err(storage)?;
        for timer in timers {
            if timer.time > now {
                return Ok(timer.time);
            }
            // With all places taken the next one that ends brings us back.
            if self.submitted.len() < SUBMITTED_MAX && !self.submitted.contains(&timer.address) {
                self.submit(&timer)?;
            }
        }
        Ok(TimestampMs(i64::MAX))
    }

    fn submit(&mut self, timer: &Timer) -> ItemResult<()> {
        let (partition, address) = (timer.partition, timer.address);
        // Recalled a moment ago.
        let Some(row) = reader::hidden(&*self.runtime.tables(), partition, address).map_err(storage)? else {
            return Ok(());
        };
        let handle = HiddenHandle { partition, index: address.index, term: row.term, slot: address.slot };
        let answer = locate(&self.broker, &handle)
            .and_then(|place| submit_end(&self.runtime, &place, &handle, HiddenEnd::Deliver));
        let runtime = self.runtime.clone();
        self.submitted.insert(address);
        self.ends.push(Box::pin(async move {
            let sequenced = match answer {
                Ok(answer) => answer.await.unwrap_or_else(|_| Err(runtime.not_leader())),
                Err(error) => Err(error),
            };
            match sequenced {
                Ok(sequenced) => applied(&runtime, sequenced).await,
                // Most of them were recalled, or the term has ended.
                Err(error) => {
                    tracing::debug!(broker_group = %runtime.id(), %partition, %error, "a delayed message was not delivered");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
            address
        }));
        Ok(())
    }
}

/// The first timers, up to one that is not due yet, as far as there is room for them; `page` are read at first.
fn due(
    tables: &dyn TableReader,
    from: TimestampMs,
    now: TimestampMs,
    mut page: usize,
) -> Result<Vec<Timer>, StateError> {
    loop {
        let timers = reader::timers(tables, TimerKind::Delivery, from, page.min(SUBMITTED_MAX + 1))?;
        let is_enough =
            page > SUBMITTED_MAX || timers.len() < page || timers.last().is_some_and(|last| last.time > now);
        if is_enough {
            return Ok(timers);
        }
        page *= 2;
    }
}

/// Waits until the reference is applied. When the term ends before, the task forgets it.
async fn applied(runtime: &GroupRuntime, sequenced: Sequenced) {
    if let Some((_, index)) = sequenced.entry {
        // The watch ends with the node.
        let _ = runtime.group().applied().wait_for(|mark| mark.is_some_and(|mark| mark.index >= index.0)).await;
    }
}
