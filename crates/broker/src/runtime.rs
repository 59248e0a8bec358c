//! One broker group on this node as the broker uses it: the applied state, the leader's log, who waits for what.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use duolog_replication::{BrokerGroup, Leadership};
use duolog_state::run::RunJudge;
use duolog_state::{StateEvent, reader};
use duolog_types::{BrokerGroupId, LogIndex, NodeId, Offset, Term, TimestampMs, TopicPartition};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot, watch};

use crate::api::{AckLease, ItemResult};
use crate::backend::{StateReader, StateSink};
use crate::error::BrokerError;
use crate::hidden::HiddenTimes;
use crate::leader_log::LeaderLog;
use crate::pop::{PopQueues, Submitted};
use crate::sequencer_task::{self, SequencerEvent, SequencerHandle, SequencerQueues};
use crate::wakeups::Wakeups;

/// What was sequenced.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequenced {
    /// Offset of the first record.
    pub(crate) base_offset: Offset,
    /// The time that the leader stamped, if it did.
    pub(crate) log_append_time: Option<TimestampMs>,
    /// See [`crate::api::Produced::lease`].
    pub(crate) lease: Option<AckLease>,
    /// The entry that carries it; `None` when it was applied before.
    pub(crate) entry: Option<(Term, LogIndex)>,
    /// The slot of a batch that is hidden.
    pub(crate) hidden_slot: Option<u32>,
}

/// A producer that waits for its ack point.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) reply: oneshot::Sender<ItemResult<Sequenced>>,
    pub(crate) sequenced: Sequenced,
}

/// A broker group on this node.
pub(crate) struct GroupRuntime {
    id: BrokerGroupId,
    node_id: NodeId,
    started: Instant,
    tables: RwLock<Option<Arc<dyn StateReader>>>,
    group: OnceLock<Arc<BrokerGroup>>,
    leader: Mutex<Option<LeaderLog<Waiter>>>,
    wakeups: Wakeups,
    /// The term in which this node serves: it leads, and everything of earlier terms is applied.
    serving: watch::Sender<Option<Term>>,
    /// Events of the applied state that other parts follow, by kind.
    catalog_changed: watch::Sender<u64>,
    topics_changed: watch::Sender<u64>,
    sequencer: SequencerHandle,
    judge: Mutex<RunJudge>,
    pop: PopQueues,
    hidden: HiddenTimes,
    /// Batches that were taken ahead of the replicated sequence, since the start.
    ahead: AtomicU64,
    /// How often a batch that cannot be unpacked was passed over, since the start.
    unreadable: AtomicU64,
    /// Committed offsets and idle producers whose time was over while this node led.
    expired_offsets: AtomicU64,
    expired_producers: AtomicU64,
    /// Why this replica cannot go on.
    failed: watch::Sender<Option<String>>,
}

impl GroupRuntime {
    /// The runtime, and the queues of its sequencer's task and of the one that proposes deliveries.
    pub(crate) fn new(
        id: BrokerGroupId,
        node_id: NodeId,
    ) -> (Arc<Self>, SequencerQueues, mpsc::UnboundedReceiver<Submitted>) {
        let (sequencer, queues) = sequencer_task::queues();
        let (pop, submitted) = PopQueues::new();
        let runtime = Arc::new(Self {
            id,
            node_id,
            started: Instant::now(),
            tables: RwLock::new(None),
            group: OnceLock::new(),
            leader: Mutex::new(None),
            wakeups: Wakeups::default(),
            serving: watch::channel(None).0,
            catalog_changed: watch::channel(0).0,
            topics_changed: watch::channel(0).0,
            sequencer,
            judge: Mutex::new(RunJudge::default()),
            pop,
            hidden: HiddenTimes::default(),
            ahead: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
            expired_offsets: AtomicU64::new(0),
            expired_producers: AtomicU64::new(0),
            failed: watch::channel(None).0,
        });
        (runtime, queues, submitted)
    }

    /// Connects the replica, once it is open.
    pub(crate) fn attach(&self, group: Arc<BrokerGroup>) {
        assert!(self.group.set(group).is_ok(), "a runtime is attached once");
    }

    pub(crate) fn id(&self) -> BrokerGroupId {
        self.id
    }

    /// Milliseconds of a clock that only this runtime uses.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The replica.
    pub(crate) fn group(&self) -> &Arc<BrokerGroup> {
        self.group.get().expect("attached before requests come in")
    }

    /// The applied state.
    pub(crate) fn tables(&self) -> Arc<dyn StateReader> {
        self.tables.read().clone().expect("opened before requests come in")
    }

    pub(crate) fn leadership(&self) -> Leadership {
        *self.group().leadership().borrow()
    }

    pub(crate) fn leader(&self) -> &Mutex<Option<LeaderLog<Waiter>>> {
        &self.leader
    }

    pub(crate) fn subscribe_serving(&self) -> watch::Receiver<Option<Term>> {
        self.serving.subscribe()
    }

    pub(crate) fn subscribe_catalog(&self) -> watch::Receiver<u64> {
        self.catalog_changed.subscribe()
    }

    pub(crate) fn subscribe_topics(&self) -> watch::Receiver<u64> {
        self.topics_changed.subscribe()
    }

    fn bump(sender: &watch::Sender<u64>) {
        sender.send_modify(|count| *count += 1);
    }

    /// The long polls of this broker group.
    pub(crate) fn wakeups(&self) -> &Wakeups {
        &self.wakeups
    }

    /// This node begins to serve a term: everything before is applied. A later run of the same term changes nothing.
    pub(crate) fn begin_term(&self, term: Term) {
        let mut leader = self.leader.lock();
        if leader.as_ref().is_some_and(|log| log.term() == term) {
            return;
        }
        *leader = Some(LeaderLog::new(term));
        drop(leader);
        self.hidden.begin_term();
        self.serving.send_replace(Some(term));
        self.wakeups.wake_all();
    }

    /// The term has ended: everyone who waits gets "unknown, retry", never "failed".
    pub(crate) fn end_term(&self) {
        self.serving.send_replace(None);
        let ended = self.leader.lock().take();
        if let Some(log) = ended {
            for waiter in log.end() {
                // The connection may have gone.
                let _ = waiter.reply.send(Err(outcome_unknown()));
            }
        }
        self.wakeups.wake_all();
    }

    pub(crate) fn not_leader(&self) -> BrokerError {
        let leadership = self.leadership();
        let leader = leadership.leader.filter(|leader| *leader != self.node_id);
        BrokerError::NotLeader { leader, epoch: leader.map(|_| leadership.term.leader_epoch()) }
    }

    /// The term in which this node serves, once it does: requests that come before are parked here, in order.
    ///
    /// # Errors
    /// `NotLeader` when this node does not lead, or not soon enough.
    pub(crate) async fn served_term(&self, deadline: tokio::time::Instant) -> Result<Term, BrokerError> {
        let leadership = self.leadership();
        if leadership.is_self && *self.serving.borrow() == Some(leadership.term) {
            return Ok(leadership.term);
        }
        let mut serving = self.serving.subscribe();
        let mut leadership = self.group().leadership();
        loop {
            let now = *leadership.borrow_and_update();
            if !now.is_self {
                return Err(self.not_leader());
            }
            if *serving.borrow_and_update() == Some(now.term) {
                return Ok(now.term);
            }
            tokio::select! {
                changed = serving.changed() => changed.map_err(|_| self.not_leader())?,
                changed = leadership.changed() => changed.map_err(|_| self.not_leader())?,
                () = tokio::time::sleep_until(deadline) => return Err(self.not_leader()),
            }
        }
    }

    /// High watermark and log end of a partition that this node serves; `None` when it is not hosted here.
    pub(crate) fn ends(&self, partition: TopicPartition) -> Result<Option<(Offset, Offset)>, BrokerError> {
        let mut leader = self.leader.lock();
        let log = leader.as_mut().ok_or_else(|| self.not_leader())?;
        if let Some(ends) = log.ends(partition) {
            return Ok(Some(ends));
        }
        // Nothing was appended in this term: under the lock nothing can be, so that the applied end is the end.
        let end = reader::log_end(&*self.tables(), partition).map_err(storage)?;
        if let Some(end) = end {
            log.learn(partition, end);
        }
        Ok(end.map(|end| (end, end)))
    }

    /// Where batches go to be sequenced.
    pub(crate) fn sequencer(&self) -> &SequencerHandle {
        &self.sequencer
    }

    /// What consumer groups have taken by single messages.
    pub(crate) fn pop(&self) -> &PopQueues {
        &self.pop
    }

    /// When something becomes due about hidden batches.
    pub(crate) fn hidden(&self) -> &HiddenTimes {
        &self.hidden
    }

    /// Counts a batch that was taken ahead of the replicated sequence.
    pub(crate) fn count_ahead(&self) {
        self.ahead.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ahead(&self) -> u64 {
        self.ahead.load(Ordering::Relaxed)
    }

    /// Counts a batch that a consumer group passes over because it cannot be unpacked.
    pub(crate) fn count_unreadable(&self) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// Only the leader counts, so that the sum over the nodes is true.
    fn count_expired(&self, counter: &AtomicU64, count: usize) {
        if self.serving.borrow().is_some() {
            counter.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    pub(crate) fn expired_offsets(&self) -> u64 {
        self.expired_offsets.load(Ordering::Relaxed)
    }

    pub(crate) fn expired_producers(&self) -> u64 {
        self.expired_producers.load(Ordering::Relaxed)
    }

    /// This replica cannot go on: the node ends.
    pub(crate) fn fail(&self, reason: String) {
        self.failed.send_replace(Some(reason));
    }

    pub(crate) fn subscribe_failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }

    /// Which of the log's entries count, as the append hook sees it.
    pub(crate) fn judge(&self) -> &Mutex<RunJudge> {
        &self.judge
    }
}

/// The answer to a producer whose batch may be kept or not.
///
/// Not "not leader": clients take that for "certainly not kept", and then send other batches under the same sequences.
pub(crate) fn outcome_unknown() -> BrokerError {
    BrokerError::RequestTimedOut("the leader's term has ended; the batch may have been kept".to_owned())
}

/// A failed read of the state.
pub(crate) fn storage(error: impl std::fmt::Display) -> BrokerError {
    BrokerError::Storage(error.to_string())
}

impl StateSink for GroupRuntime {
    fn opened(&self, tables: Arc<dyn StateReader>) {
        *self.tables.write() = Some(tables);
        Self::bump(&self.catalog_changed);
        Self::bump(&self.topics_changed);
    }

    fn applied(&self, index: LogIndex, events: &[StateEvent]) {
        let mut touched = Vec::new();
        let mut deleted = Vec::new();
        let (mut catalog, mut topics) = (false, false);
        for event in events {
            match event {
                StateEvent::BatchApplied { partition, .. } => touched.push(*partition),
                StateEvent::PartitionDeleted { partition } => {
                    deleted.push(*partition);
                    topics = true;
                }
                StateEvent::CatalogChanged { .. } => catalog = true,
                StateEvent::PartitionCreated { .. } | StateEvent::TopicConfigChanged { .. } => topics = true,
                StateEvent::OffsetPulledBack { group, partition, from, to } => {
                    tracing::warn!(
                        consumer_group = %group, %partition, %from, %to,
                        "pulled back a committed offset that lay beyond the log end after an allowed loss"
                    );
                }
                StateEvent::HiddenStored { hidden, .. } => self.hidden.stored(*hidden),
                StateEvent::OffsetsExpired { count, .. } => self.count_expired(&self.expired_offsets, *count),
                StateEvent::ProducersForgotten { count, .. } => self.count_expired(&self.expired_producers, *count),
                StateEvent::LogStartAdvanced { .. }
                | StateEvent::GroupChanged { .. }
                | StateEvent::GroupDeleted { .. }
                | StateEvent::OffsetsChanged { .. } => {}
            }
        }
        if let Some(leader) = self.leader.lock().as_mut() {
            leader.applied(index, touched);
            for partition in &deleted {
                leader.forget(*partition);
            }
        }
        for partition in deleted {
            self.pop.forget_partition(partition);
            // The task ends with the node.
            let _ = self.sequencer.events.send(SequencerEvent::PartitionDeleted(partition));
        }
        if catalog {
            Self::bump(&self.catalog_changed);
        }
        if topics {
            Self::bump(&self.topics_changed);
            self.wakeups.wake_all();
        }
    }
}
