//! The queues of the partitions that a broker group leads, one per consumer group and partition.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use duolog_coordinator::pop::{PopQueue, PopUpdate};
use duolog_record::group::GroupId;
use duolog_types::{DeliveryId, Term, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::progress::Told;
use super::start;
use crate::api::ItemResult;
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::fetch::Served;
use crate::runtime::GroupRuntime;

/// Answers that are remembered for a retry with the same id, per queue.
const ATTEMPTS_REMEMBERED: usize = 64;

/// The life of a set of queues: it ends with the term, or when a change of one of them has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) term: Term,
    number: u64,
}

/// A change on its way to the log.
pub(crate) struct Submitted {
    pub(crate) life: Life,
    pub(crate) update: PopUpdate,
    pub(crate) reply: oneshot::Sender<ItemResult<()>>,
}

/// What one consumer group has taken of one partition, with what only the leader remembers.
pub(crate) struct Queue {
    pub(crate) pop: PopQueue,
    life: Life,
    answered: VecDeque<(String, DeliveryId)>,
    /// What was told of its progress.
    pub(super) told: Told,
    /// Whether a consumer has asked since the queue was touched last.
    pub(super) is_used: bool,
}

impl Queue {
    fn new(pop: PopQueue, life: Life, told: Told) -> Self {
        Self { pop, life, answered: VecDeque::new(), told, is_used: false }
    }

    /// The delivery that a request with this id was answered with.
    pub(crate) fn answered(&self, attempt_id: &str) -> Option<DeliveryId> {
        self.answered.iter().find(|(known, _)| known == attempt_id).map(|(_, delivery)| *delivery)
    }

    /// The consumer does not want a delivery, or a part of it: no retry gets it.
    pub(super) fn forget_answer(&mut self, delivery: DeliveryId) {
        self.answered.retain(|(_, known)| *known != delivery);
    }

    /// A request with this id was answered with this delivery, whatever it was answered with before.
    pub(crate) fn remember(&mut self, attempt_id: String, delivery: DeliveryId) {
        self.answered.retain(|(known, _)| *known != attempt_id);
        if self.answered.len() == ATTEMPTS_REMEMBERED {
            self.answered.pop_front();
        }
        self.answered.push_back((attempt_id, delivery));
    }
}

pub(crate) type QueueHandle = Arc<tokio::sync::Mutex<Queue>>;

/// All queues of a broker group. They live for a term at most.
///
/// A queue runs ahead of the applied state by what is proposed. When a proposal fails without an end of the term (a full disk),
/// nothing that rests on it may follow: a later change would move the cursor past what was never delivered. So the life of all
/// queues ends; what they have not proposed yet is refused, and they are loaded anew once nothing is under way any more.
pub(crate) struct PopQueues {
    inner: Mutex<Inner>,
    submit: mpsc::UnboundedSender<Submitted>,
}

#[derive(Default)]
struct Inner {
    life: Option<Life>,
    queues: HashMap<(GroupId, TopicPartition), QueueHandle>,
    /// Changes of this and earlier lives of the term that were handed to Raft or wait for it.
    under_way: usize,
    has_failed: bool,
}

impl Inner {
    fn send(
        &mut self,
        submit: &mpsc::UnboundedSender<Submitted>,
        life: Life,
        update: PopUpdate,
        reply: oneshot::Sender<ItemResult<()>>,
    ) {
        self.under_way += 1;
        // A closed channel drops the reply, which the waiter sees: the node ends.
        let _ = submit.send(Submitted { life, update, reply });
    }
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
        served: &Served,
        group: &GroupId,
        partition: TopicPartition,
    ) -> ItemResult<QueueHandle> {
        let term = served.term;
        let mut inner = self.inner.lock();
        if inner.life.is_some_and(|life| life.term > term) {
            return Err(runtime.not_leader());
        }
        if inner.life.is_none_or(|life| life.term < term) {
            // Everything of earlier terms is applied, or never will be.
            *inner = Inner { life: Some(Life { term, number: 0 }), ..Inner::default() };
        }
        if inner.has_failed {
            return Err(BrokerError::LeaderNotAvailable);
        }
        let life = inner.life.unwrap_or(Life { term, number: 0 });
        if let Some(queue) = inner.queues.get(&(group.clone(), partition)) {
            return Ok(queue.clone());
        }
        let (pop, told, first) = start::load(broker, runtime, served, group, partition)?;
        let queue = Arc::new(tokio::sync::Mutex::new(Queue::new(pop, life, told)));
        inner.queues.insert((group.clone(), partition), queue.clone());
        if let Some(update) = first {
            // Nobody waits for it: when it fails, the life of the queue ends.
            inner.send(&self.submit, life, update, oneshot::channel().0);
        }
        Ok(queue)
    }

    /// Every queue of the term.
    pub(crate) fn all(&self, term: Term) -> Vec<QueueHandle> {
        let inner = self.inner.lock();
        let is_current = inner.life.is_some_and(|life| life.term == term);
        if is_current { inner.queues.values().cloned().collect() } else { Vec::new() }
    }

    /// Hands a change of a queue to the proposer. The queue is locked, so that changes come in their order; the answer is waited for
    /// without.
    pub(crate) fn submit(&self, queue: &Queue, update: PopUpdate) -> oneshot::Receiver<ItemResult<()>> {
        let (reply, answer) = oneshot::channel();
        let mut inner = self.inner.lock();
        if inner.life == Some(queue.life) {
            inner.send(&self.submit, queue.life, update, reply);
        }
        answer
    }

    /// Whether changes of this life may still be proposed.
    pub(crate) fn is_alive(&self, life: Life) -> bool {
        self.inner.lock().life == Some(life)
    }

    /// Changes were applied, or failed.
    pub(crate) fn ended(&self, life: Life, count: usize, is_applied: bool) {
        let mut inner = self.inner.lock();
        if inner.life.is_none_or(|current| current.term != life.term) {
            return;
        }
        inner.under_way = inner.under_way.saturating_sub(count);
        if !is_applied && inner.life == Some(life) {
            inner.queues.clear();
            inner.has_failed = true;
            inner.life = Some(Life { number: life.number + 1, ..life });
        }
        if inner.under_way == 0 {
            inner.has_failed = false;
        }
    }

    /// Forgets a group in a partition. Whoever has this queue yet is refused, and begins anew when he comes again.
    pub(super) async fn forget(&self, queue: &mut Queue) -> ItemResult<()> {
        let (group, partition) = (queue.pop.group().clone(), queue.pop.partition());
        let mut update = PopUpdate::new(group.clone(), partition);
        update.forget = true;
        let applied = self.submit(queue, update);
        applied.await.map_err(|_| BrokerError::LeaderNotAvailable)??;
        let mut inner = self.inner.lock();
        if inner.life == Some(queue.life) {
            inner.queues.remove(&(group, partition));
        }
        queue.life.number = u64::MAX;
        Ok(())
    }

    pub(crate) fn forget_partition(&self, partition: TopicPartition) {
        self.inner.lock().queues.retain(|(_, known), _| *known != partition);
    }
}

#[cfg(test)]
mod tests {
    use duolog_state::reader;
    use duolog_types::{Offset, TimestampMs, TopicId};

    use super::*;

    const PARTITION: TopicPartition = TopicPartition { topic: TopicId([1; 16]), partition: 0 };

    fn queue(life: Life) -> Queue {
        let pop = PopQueue::load(GroupId("g".to_owned()), PARTITION, Offset(0), reader::PopState::default());
        Queue::new(pop, life, Told::nothing(TimestampMs(0), None))
    }

    #[test]
    fn of_the_answers_to_an_attempt_the_last_one_counts() {
        let mut queue = queue(Life { term: Term(3), number: 0 });
        for delivery in 1..=3 {
            queue.remember("again".to_owned(), DeliveryId(delivery));
        }
        assert_eq!(queue.answered("again"), Some(DeliveryId(3)));
        for delivery in 0..ATTEMPTS_REMEMBERED as u128 {
            assert_eq!(queue.answered("again"), Some(DeliveryId(3)), "{delivery} others are remembered beside it");
            queue.remember(delivery.to_string(), DeliveryId(10 + delivery));
        }
        assert_eq!((queue.answered("again"), queue.answered("0")), (None, Some(DeliveryId(10))));
    }

    #[test]
    fn nothing_is_proposed_that_rests_on_a_change_that_failed() {
        let (queues, mut submitted) = PopQueues::new();
        let first = Life { term: Term(3), number: 0 };
        queues.inner.lock().life = Some(first);
        let mut queue = queue(first);
        let take = |queue: &mut Queue, id| {
            let mut taking = queue.pop.take(TimestampMs(1), 1, 9);
            let cursor = queue.pop.cursor();
            queue.pop.offer(&mut taking, cursor, None, true);
            let due = TimestampMs(9);
            let update = queue.pop.deliver(taking, (DeliveryId(id), due, None), (DeliveryId(id + 1), due)).unwrap();
            queues.submit(queue, update)
        };
        let (mut one, mut two) = (take(&mut queue, 10), take(&mut queue, 20));
        let handed_over: Vec<Life> =
            std::iter::from_fn(|| submitted.try_recv().ok()).map(|change| change.life).collect();
        assert_eq!(handed_over, [first, first]);
        queues.ended(first, 1, false);
        assert!(!queues.is_alive(first), "the second one must not be proposed");
        let mut three = take(&mut queue, 30);
        assert!(submitted.try_recv().is_err() && three.try_recv().is_err(), "a change of a dead queue goes nowhere");
        assert!(queues.inner.lock().has_failed, "something is under way yet");
        queues.ended(first, 1, false);
        let inner = queues.inner.lock();
        assert_eq!((inner.has_failed, inner.life), (false, Some(Life { term: Term(3), number: 1 })));
        drop(inner);
        assert!(one.try_recv().is_err() && two.try_recv().is_err());
    }
}
