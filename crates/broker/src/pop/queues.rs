//! The queues of the partitions that a broker group leads, one per consumer group and partition.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use duolog_coordinator::pop::{PopQueue, PopUpdate};
use duolog_record::group::GroupId;
use duolog_state::reader;
use duolog_types::{DeliveryId, Offset, Term, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::api::ItemResult;
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::runtime::{GroupRuntime, storage};

/// Answers that are remembered for a retry with the same id, per queue.
const ATTEMPTS_REMEMBERED: usize = 64;

/// A change on its way to the log.
pub(crate) struct Submitted {
    pub(crate) term: Term,
    pub(crate) update: PopUpdate,
    pub(crate) reply: oneshot::Sender<ItemResult<()>>,
}

/// What one consumer group has taken of one partition, with what only the leader remembers.
pub(crate) struct Queue {
    pub(crate) pop: PopQueue,
    answered: VecDeque<(String, DeliveryId)>,
}

impl Queue {
    /// The delivery that a request with this id was answered with.
    pub(crate) fn answered(&self, attempt_id: &str) -> Option<DeliveryId> {
        self.answered.iter().find(|(known, _)| known == attempt_id).map(|(_, delivery)| *delivery)
    }

    pub(crate) fn remember(&mut self, attempt_id: String, delivery: DeliveryId) {
        if self.answered.len() == ATTEMPTS_REMEMBERED {
            self.answered.pop_front();
        }
        self.answered.push_back((attempt_id, delivery));
    }
}

pub(crate) type QueueHandle = Arc<tokio::sync::Mutex<Queue>>;

/// All queues of a broker group. They live for a term.
///
/// A queue runs ahead of the applied state by what is proposed. When a proposal fails without an end of the term, all are
/// forgotten, and loaded anew once nothing is under way any more.
pub(crate) struct PopQueues {
    inner: Mutex<Inner>,
    submit: mpsc::UnboundedSender<Submitted>,
}

#[derive(Default)]
struct Inner {
    term: Option<Term>,
    queues: HashMap<(GroupId, TopicPartition), QueueHandle>,
    under_way: usize,
    has_failed: bool,
}

impl PopQueues {
    /// The queues, and where their changes come out.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Submitted>) {
        let (submit, submitted) = mpsc::unbounded_channel();
        (Self { inner: Mutex::new(Inner::default()), submit }, submitted)
    }

    /// The queue of a group in a partition that this node serves in `term`.
    pub(crate) fn queue(
        &self,
        broker: &Broker,
        runtime: &GroupRuntime,
        term: Term,
        group: &GroupId,
        partition: TopicPartition,
    ) -> ItemResult<QueueHandle> {
        let mut inner = self.inner.lock();
        if inner.term.is_some_and(|known| known > term) {
            return Err(runtime.not_leader());
        }
        if inner.term != Some(term) {
            // Everything of earlier terms is applied, or never will be.
            *inner = Inner { term: Some(term), ..Inner::default() };
        }
        if inner.has_failed {
            return Err(BrokerError::LeaderNotAvailable);
        }
        if let Some(queue) = inner.queues.get(&(group.clone(), partition)) {
            return Ok(queue.clone());
        }
        let tables = runtime.tables();
        let state = reader::pop_state(&*tables, partition, group).map_err(storage)?;
        let start = match state.cursor {
            Some(cursor) => cursor,
            None => first_cursor(broker, runtime, group, partition)?,
        };
        let pop = PopQueue::load(group.clone(), partition, start, state);
        let queue = Arc::new(tokio::sync::Mutex::new(Queue { pop, answered: VecDeque::new() }));
        inner.queues.insert((group.clone(), partition), queue.clone());
        Ok(queue)
    }

    /// Every queue of the term.
    pub(crate) fn all(&self, term: Term) -> Vec<QueueHandle> {
        let inner = self.inner.lock();
        if inner.term == Some(term) { inner.queues.values().cloned().collect() } else { Vec::new() }
    }

    /// Hands a change to the proposer. To be called with the queue locked, so that changes come in their order; the answer is
    /// waited for without.
    pub(crate) fn submit(&self, term: Term, update: PopUpdate) -> oneshot::Receiver<ItemResult<()>> {
        let (reply, answer) = oneshot::channel();
        let mut inner = self.inner.lock();
        if inner.term == Some(term) {
            inner.under_way += 1;
            // A closed channel drops the reply, which the waiter sees: the node ends.
            let _ = self.submit.send(Submitted { term, update, reply });
        }
        answer
    }

    /// A change was applied, or failed.
    pub(crate) fn ended(&self, term: Term, count: usize, is_applied: bool) {
        let mut inner = self.inner.lock();
        if inner.term != Some(term) {
            return;
        }
        inner.under_way = inner.under_way.saturating_sub(count);
        if !is_applied {
            inner.queues.clear();
            inner.has_failed = true;
        }
        if inner.under_way == 0 {
            inner.has_failed = false;
        }
    }

    pub(crate) fn forget_partition(&self, partition: TopicPartition) {
        self.inner.lock().queues.retain(|(_, known), _| *known != partition);
    }
}

/// Where a group begins that has taken nothing yet: at its committed offset, if Kafka clients committed one, else at the first
/// record that is kept.
fn first_cursor(
    broker: &Broker,
    runtime: &GroupRuntime,
    group: &GroupId,
    partition: TopicPartition,
) -> ItemResult<Offset> {
    let coordinator = broker.runtime(broker.coordinating_group(&group.0)?)?;
    let committed = reader::committed_offset(&*coordinator.tables(), group, partition).map_err(storage)?;
    if let Some(committed) = committed {
        return Ok(committed.offset);
    }
    let row = reader::partition_row(&*runtime.tables(), partition).map_err(storage)?;
    Ok(row.map_or(Offset(0), |row| row.log_start))
}
