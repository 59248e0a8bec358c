//! The task that drives a broker group's sequencer, and the one that releases producers by the watermarks.
//!
//! ```text
//!  produce ─▶ requests ─▶ [Sequencer] ─▶ proposals ─▶ Raft ─▶ log.append ─▶ Hook: judge, LeaderLog ─▶ Appended event
//!                              ▲  │                                                                        │
//!                              │  └─ replies: "wait for (term, index, point)" ─▶ LeaderLog ─▶ released by watermarks
//!                              └──────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariant: only this task proposes batches, so their order in the log is the order in which they were sequenced.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use duolog_coordinator::sequencer::{
    Answer, Item, Output, ProduceRefusal, Produced, Proposal as SequencerProposal, ProposedEntry, Reply, Sequencer,
    TableState, WaiterId,
};
use duolog_record::entry::EntryHeader;
use duolog_replication::{Leadership, Proposal, Watermarks, outcome};
use duolog_state::run::RunBarrier;
use duolog_state::{EntryKind, Response};
use duolog_types::{AckPoint, FlushWish, LogIndex, Term, TopicPartition};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::api::{AckLease, ItemResult};
use crate::error::BrokerError;
use crate::runtime::{GroupRuntime, Sequenced, Waiter, outcome_unknown};

/// Bytes of batches that wait for the task. Requests in progress have a smaller budget at the front ends, so this bounds those
/// that were given up and still lie here, because the group has no quorum. Each keeps at most about twice its own bytes in memory: see
/// [`crate::api::ProducePartition::records`].
const WAITING_BYTES_MAX: usize = 64 << 20;
/// What a batch counts at least: its place in the queue.
const WAITING_BYTES_MIN: usize = 256;
/// A refused barrier is tried again after this time: a new leader must first hear from a quorum.
const REOPEN_AFTER: Duration = Duration::from_millis(5);

/// Something to be sequenced.
pub(crate) struct SequenceRequest {
    /// Its waiter is of [`SequencerHandle::waiter`].
    pub(crate) item: Item,
    pub(crate) reply: oneshot::Sender<ItemResult<Sequenced>>,
    /// Its share of the queue, until the sequencer takes it.
    pub(crate) room: OwnedSemaphorePermit,
}

/// What the task is told by the log and the state.
#[derive(Debug)]
pub(crate) enum SequencerEvent {
    /// An entry lies in this leader's log, and counts.
    Appended(EntryHeader, LogIndex),
    /// An entry lies in this leader's log, and does not count.
    DoesNotCount(EntryHeader),
    /// A partition is gone.
    PartitionDeleted(TopicPartition),
}

/// The ends of the task's queues.
pub(crate) struct SequencerHandle {
    /// Never waits, so that a producer's pipelined batches keep their order; bounded by [`SequencerHandle::room_for`].
    pub(crate) requests: mpsc::UnboundedSender<SequenceRequest>,
    pub(crate) events: mpsc::UnboundedSender<SequencerEvent>,
    room: Arc<Semaphore>,
    next_waiter: AtomicU64,
}

impl SequencerHandle {
    /// A number that no other waiter has.
    pub(crate) fn waiter(&self) -> WaiterId {
        WaiterId(self.next_waiter.fetch_add(1, Ordering::Relaxed))
    }

    /// A share of the queue for a batch; `None` when too much waits already.
    pub(crate) fn room_for(&self, batch_bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = batch_bytes.clamp(WAITING_BYTES_MIN, WAITING_BYTES_MAX);
        self.room.clone().try_acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX)).ok()
    }
}

pub(crate) struct SequencerQueues {
    requests: mpsc::UnboundedReceiver<SequenceRequest>,
    events: mpsc::UnboundedReceiver<SequencerEvent>,
}

/// The queues of one group's task. Events are bounded by what is in flight.
pub(crate) fn queues() -> (SequencerHandle, SequencerQueues) {
    let (requests, requests_rx) = mpsc::unbounded_channel();
    let (events, events_rx) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(WAITING_BYTES_MAX));
    let handle = SequencerHandle { requests, events, room, next_waiter: AtomicU64::new(0) };
    (handle, SequencerQueues { requests: requests_rx, events: events_rx })
}

/// A producer that is not told yet what to wait for.
struct Unsequenced {
    reply: oneshot::Sender<ItemResult<Sequenced>>,
    stamps_time: bool,
}

/// How a proposal ended.
enum Outcome {
    Barrier(RunBarrier, bool),
    Batches(EntryHeader, bool),
}

struct Task {
    runtime: Arc<GroupRuntime>,
    sequencer: Sequencer,
    leading: Option<Term>,
    waiting: HashMap<WaiterId, Unsequenced>,
    outcomes: FuturesUnordered<BoxFuture<'static, Outcome>>,
    reopen_at: Option<tokio::time::Instant>,
}

/// Runs as long as the group does.
pub(crate) async fn run(runtime: Arc<GroupRuntime>, mut queues: SequencerQueues) {
    let mut leadership = runtime.group().leadership();
    let mut applied = runtime.group().applied();
    let mut handing_over = runtime.group().handing_over();
    let mut task = Task {
        runtime,
        sequencer: Sequencer::new(),
        leading: None,
        waiting: HashMap::new(),
        outcomes: FuturesUnordered::new(),
        reopen_at: None,
    };
    loop {
        let now = *leadership.borrow_and_update();
        task.follow_leadership(now).await;
        let reopen_at = task.reopen_at.unwrap_or_else(|| tokio::time::Instant::now() + Duration::from_secs(3_600));
        tokio::select! {
            biased;
            changed = leadership.changed() => if changed.is_err() { break },
            changed = handing_over.changed() => if changed.is_err() { break },
            Some(event) = queues.events.recv() => task.on_event(event).await,
            Some(outcome) = task.outcomes.next(), if !task.outcomes.is_empty() => task.on_outcome(outcome).await,
            changed = applied.changed() => {
                if changed.is_err() { break }
                let mark = *applied.borrow_and_update();
                if let Some(mark) = mark { task.sequencer.applied(LogIndex(mark.index)); }
            }
            () = tokio::time::sleep_until(reopen_at), if task.reopen_at.is_some() => {
                task.reopen_at = None;
                let output = task.sequencer.reopen();
                task.carry_out(output).await;
            }
            request = queues.requests.recv(), if task.sequencer.has_room() => match request {
                Some(request) => {
                    task.submit(request).await;
                    // The runtime runs a task that was woken before all others: without this, each message would be an entry of its own.
                    tokio::task::yield_now().await;
                    // Everything that waits goes into the same entries.
                    while task.sequencer.has_room() && let Ok(more) = queues.requests.try_recv() {
                        task.submit(more).await;
                    }
                }
                None => break,
            },
        }
        // While leadership is handed over what comes waits, and is refused when it is gone: certainly not taken.
        if !*handing_over.borrow_and_update() {
            task.propose().await;
        }
    }
    task.follow_leadership(Leadership::default()).await;
}

impl Task {
    async fn follow_leadership(&mut self, now: Leadership) {
        let leading = now.is_self.then_some(now.term);
        if leading == self.leading {
            return;
        }
        if self.leading.is_some() {
            let output = self.sequencer.stop();
            self.carry_out(output).await;
            self.runtime.end_term();
            self.reopen_at = None;
        }
        self.leading = leading;
        if let Some(term) = leading {
            tracing::info!(broker_group = %self.runtime.id(), %term, "leads");
            let output = self.sequencer.start(term, 0);
            self.carry_out(output).await;
        }
    }

    async fn submit(&mut self, request: SequenceRequest) {
        drop(request.room);
        let SequenceRequest { item, reply, .. } = request;
        let stamps_time = matches!(&item, Item::Produce(item) if item.log_append_time.is_some());
        self.waiting.insert(item.waiter(), Unsequenced { reply, stamps_time });
        let output = self.sequencer.submit(item);
        self.carry_out(output).await;
    }

    async fn propose(&mut self) {
        while self.sequencer.ready_to_propose() {
            let tables = self.runtime.tables();
            let output = self.sequencer.propose(&TableState(&*tables));
            let failed = output.failed.is_some();
            self.carry_out(output).await;
            if failed {
                return;
            }
        }
    }

    async fn on_event(&mut self, event: SequencerEvent) {
        let output = match event {
            SequencerEvent::Appended(header, index) => self.sequencer.proposal_appended(header, index),
            SequencerEvent::DoesNotCount(header) => self.sequencer.proposal_refused(header),
            SequencerEvent::PartitionDeleted(partition) => {
                self.sequencer.partition_deleted(partition);
                return;
            }
        };
        self.carry_out(output).await;
    }

    async fn on_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Barrier(barrier, true) => {
                if self.leading == Some(barrier.term) {
                    self.runtime.begin_term(barrier.term);
                }
                let output = self.sequencer.barrier_applied(barrier);
                self.carry_out(output).await;
            }
            Outcome::Barrier(barrier, false) => {
                self.sequencer.barrier_refused(barrier);
                self.reopen_at = Some(tokio::time::Instant::now() + REOPEN_AFTER);
            }
            Outcome::Batches(_, true) => {}
            Outcome::Batches(header, false) => {
                let output = self.sequencer.proposal_refused(header);
                self.carry_out(output).await;
            }
        }
    }

    /// Carries out what the machine wants, in order.
    async fn carry_out(&mut self, output: Output) {
        for ahead in &output.ahead {
            self.runtime.count_ahead();
            tracing::warn!(
                broker_group = %self.runtime.id(), partition = %ahead.partition, producer_id = %ahead.producer_id,
                replicated = ahead.last, found = ahead.found,
                "took a batch ahead of the producer's replicated sequence: the mode allowed the loss of what is between"
            );
        }
        if let Some(error) = &output.failed {
            self.runtime.fail(format!("the state of broker group {} cannot be read: {error}", self.runtime.id()));
        }
        for proposal in output.proposals {
            match proposal {
                SequencerProposal::Barrier(barrier) => self.propose_barrier(barrier).await,
                SequencerProposal::Batches(entry) => self.propose_batches(entry).await,
            }
        }
        for reply in output.replies {
            self.reply(reply);
        }
    }

    async fn propose_barrier(&mut self, barrier: RunBarrier) {
        let proposal = Proposal { kind: EntryKind::RunBarrier, flush: FlushWish::Now, body: barrier.encode() };
        match self.runtime.group().propose_as(barrier.term, proposal).await {
            Ok(receiver) => self.outcomes.push(Box::pin(async move {
                let opened = match receiver.await.map(outcome) {
                    Ok(Ok((_, response))) => response.0 == Response::RunOpened,
                    Ok(Err(_)) | Err(_) => false,
                };
                Outcome::Barrier(barrier, opened)
            })),
            Err(_) => self.outcomes.push(Box::pin(std::future::ready(Outcome::Barrier(barrier, false)))),
        }
    }

    async fn propose_batches(&mut self, entry: ProposedEntry) {
        let header = entry.header;
        let proposal = Proposal { kind: EntryKind::Batches, flush: entry.flush, body: entry.body };
        match self.runtime.group().propose_as(header.run_term, proposal).await {
            Ok(receiver) => self.outcomes.push(Box::pin(async move {
                let kept = matches!(receiver.await.map(outcome), Ok(Ok(_)));
                Outcome::Batches(header, kept)
            })),
            Err(_) => self.outcomes.push(Box::pin(std::future::ready(Outcome::Batches(header, false)))),
        }
    }

    fn reply(&mut self, reply: Reply) {
        let Some(waiting) = self.waiting.remove(&reply.waiter) else { return };
        let told = |produced: Produced, entry, lease| Sequenced {
            base_offset: produced.base_offset,
            log_append_time: waiting.stamps_time.then_some(produced.max_timestamp),
            lease,
            entry,
            hidden_slot: produced.hidden_slot,
        };
        match reply.answer {
            Answer::WaitFor { term, index, ack_point, produced } => {
                let lease = match ack_point {
                    AckPoint::Appended | AckPoint::Flushed => Some(AckLease { broker_group: self.runtime.id(), term }),
                    AckPoint::Received | AckPoint::Committed => None,
                };
                let waiter = Waiter { reply: waiting.reply, sequenced: told(produced, Some((term, index)), lease) };
                let mut leader = self.runtime.leader().lock();
                match leader.as_mut().filter(|log| log.term() == term) {
                    Some(log) => {
                        log.wait(index, ack_point, vec![waiter]);
                        let released = log.release();
                        drop(leader);
                        answer_all(released);
                    }
                    None => {
                        drop(leader);
                        let _ = waiter.reply.send(Err(outcome_unknown()));
                    }
                }
            }
            Answer::Done(produced) => {
                let _ = waiting.reply.send(Ok(told(produced, None, None)));
            }
            Answer::Refused(refusal) => {
                // A leader that was paused judges by an old state: a final answer would end the producer.
                let leads = self.leading.is_some_and(|term| self.runtime.group().lease_is_valid(term));
                let error =
                    if leads { refused(&self.runtime, refusal) } else { refused_without_lease(&self.runtime, refusal) };
                let _ = waiting.reply.send(Err(error));
            }
        }
    }
}

fn refused(runtime: &GroupRuntime, refusal: ProduceRefusal) -> BrokerError {
    match refusal {
        ProduceRefusal::Unknown => outcome_unknown(),
        ProduceRefusal::NotLeading => runtime.not_leader(),
        ProduceRefusal::UnknownPartition => BrokerError::LeaderNotAvailable,
        ProduceRefusal::NoSuchHidden | ProduceRefusal::EndedOtherwise => {
            BrokerError::InvalidReceipt(refusal.to_string())
        }
        ProduceRefusal::OutOfOrderSequence { found, last } => {
            tracing::info!(broker_group = %runtime.id(), found, last, "a producer's batch is out of order");
            BrokerError::OutOfOrderSequence { found, last }
        }
        ProduceRefusal::DuplicateSequence => BrokerError::DuplicateSequence,
        ProduceRefusal::StaleEpoch { found, current } => {
            BrokerError::InvalidProducerEpoch { found: found.0, current: current.0 }
        }
    }
}

fn refused_without_lease(runtime: &GroupRuntime, refusal: ProduceRefusal) -> BrokerError {
    match refusal {
        ProduceRefusal::Unknown => outcome_unknown(),
        ProduceRefusal::NotLeading
        | ProduceRefusal::UnknownPartition
        | ProduceRefusal::NoSuchHidden
        | ProduceRefusal::EndedOtherwise
        | ProduceRefusal::OutOfOrderSequence { .. }
        | ProduceRefusal::DuplicateSequence
        | ProduceRefusal::StaleEpoch { .. } => runtime.not_leader(),
    }
}

/// Tells producers that their ack point is reached. A connection that has gone is no error.
fn answer_all(waiters: Vec<Waiter>) {
    for waiter in waiters {
        let _ = waiter.reply.send(Ok(waiter.sequenced));
    }
}

/// A leader without a lease looks again after this time.
const LEASE_LOOK: Duration = Duration::from_millis(20);

/// Follows the watermarks: releases acks, moves high watermarks, wakes long polls.
pub(crate) async fn release(runtime: Arc<GroupRuntime>) {
    let mut watermarks = runtime.group().watermarks();
    loop {
        let marks = *watermarks.borrow_and_update();
        let leased = runtime.group().lease_is_valid(Term(marks.term));
        let marks = if leased { marks } else { without_lease(marks) };
        let released = runtime.leader().lock().as_mut().map(|log| log.advance(marks));
        if let Some(released) = released {
            answer_all(released.waiters);
            runtime.wakeups().wake(&released.visible);
        }
        let open = if leased || marks.term == 0 {
            watermarks.changed().await.is_ok()
        } else {
            // A time-out is a look at the lease.
            tokio::time::timeout(LEASE_LOOK, watermarks.changed()).await.unwrap_or(Ok(())).is_ok()
        };
        if !open {
            return;
        }
    }
}

/// What a leader may answer that cannot know whether another one has been elected (it was paused or cut off): only what a
/// quorum has. Otherwise `async` topics would lose what was acknowledged long after the lease.
fn without_lease(marks: Watermarks) -> Watermarks {
    Watermarks {
        appended_next: marks.appended_next.min(marks.received_next),
        flushed_next: marks.flushed_next.min(marks.received_next),
        ..marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_in_bytes_and_in_number() {
        let (handle, _queues) = queues();
        let large: Vec<_> = std::iter::from_fn(|| handle.room_for(1 << 20)).collect();
        assert_eq!(large.len(), 64);
        assert!(handle.room_for(1).is_none(), "not even a small one");
        drop(large);
        assert_eq!(std::iter::from_fn(|| handle.room_for(1)).collect::<Vec<_>>().len(), WAITING_BYTES_MAX / 256);
        assert!(handle.room_for(usize::MAX).is_some(), "one alone always fits");
    }
}
