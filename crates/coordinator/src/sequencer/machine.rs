//! [`Sequencer`]: phases, the queue, and one batch at a time.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use duolog_record::entry::{BatchMeta, ENTRY_HEADER_BYTES, EntryHeader, NO_OFFSET, Payload, SLOT_BYTES};
use duolog_state::StateError;
use duolog_state::run::RunBarrier;
use duolog_types::{LogIndex, ProducerId, ReplicationMode, Term, TimestampMs, TopicPartition, limits};

use super::ending::{self, Ending, Endings};
use super::filling::{Filling, Partition};
use super::in_flight::{InFlight, InFlightEntry, Waiting};
use super::output::{AheadBatch, Answer, Output, ProduceRefusal, Produced, Proposal, ProposedEntry, Reply};
use super::producer::{self, Claim, Origin, ProducerWindow, Verdict};
use super::refused::RefusedSequences;
use super::state::SequencerState;
use super::{EndItem, Item, ProduceItem, WaiterId};

/// Bytes that wait to be sequenced, at most: twice an entry, so that the next one can always be filled.
const QUEUE_BYTES_MAX: usize = 2 * limits::ENTRY_BYTES_TARGET;
/// Producer windows in memory, at most; those with nothing in flight are dropped and read again.
const PRODUCER_WINDOWS_MAX: usize = 32_768;
/// Producers that are noted as seen in a term of `async` topics, at most; when full, none may be ahead any more.
const SEEN_PRODUCERS_MAX: usize = 262_144;

type ProducerKey = (TopicPartition, ProducerId);

/// The sequencer of one broker group on this node. See the module.
#[derive(Debug, Default)]
pub struct Sequencer {
    phase: Phase,
    queue: VecDeque<Item>,
    queued_bytes: usize,
    in_flight: InFlight,
    applied: Option<LogIndex>,
    /// What this run knows of partitions, read at their first use.
    partitions: BTreeMap<TopicPartition, Partition>,
    /// What this run knows of producers, read at their first use.
    windows: BTreeMap<ProducerKey, ProducerWindow>,
    /// Ends of hidden batches that are in flight.
    endings: Endings,
    /// Producers of `async` topics that had a batch accepted in this term, and the entry with the first one.
    seen_in_term: BTreeMap<ProducerKey, EntryHeader>,
    /// Producers that were taken ahead of a gap in this term: what lies in the gap was kept nowhere.
    jumped: BTreeSet<ProducerKey>,
    refused: RefusedSequences,
    /// The first batch of each producer that came behind a gap, until one of its batches is accepted.
    gaps: RefusedSequences,
    last_term: Option<Term>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not leading.
    #[default]
    Stopped,
    /// The barrier is proposed; nothing else is until it is applied.
    Opening(RunBarrier),
    /// The barrier was refused.
    Closed(RunBarrier),
    /// Entries are proposed.
    Running { run: RunBarrier, next_number: u64 },
}

impl Sequencer {
    /// A sequencer of a node that does not lead.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// This node leads in `term`: opens run `run` (0 unless the state has an open run of this very term).
    ///
    /// # Panics
    /// When the term is older than one that it led before.
    pub fn start(&mut self, term: Term, run: u64) -> Output {
        assert!(self.last_term.is_none_or(|last| last <= term), "term {term} after {:?}", self.last_term);
        let mut output = self.stop();
        if self.last_term != Some(term) {
            self.seen_in_term.clear();
            self.jumped.clear();
            self.gaps.clear();
            // With another leader in between producers have gone on there.
            if self.last_term.is_none_or(|last| term.0 > last.0 + 1) {
                self.refused.clear();
            }
        }
        self.last_term = Some(term);
        self.open(RunBarrier { term, run }, &mut output);
        output
    }

    /// This node does not lead any more: everybody who waits here gets "unknown, retry". Whoever was told to wait for
    /// an index is the driver's to answer.
    pub fn stop(&mut self) -> Output {
        let mut output = Output::default();
        let entries = self.in_flight.take_all().into_iter().map(|(_, entry)| entry).collect();
        // What was never proposed is certainly not kept.
        self.refuse(entries, ProduceRefusal::NotLeading, &mut output);
        self.phase = Phase::Stopped;
        output
    }

    /// The barrier was refused by Raft, or applied without opening its run. [`Sequencer::reopen`] tries again.
    pub fn barrier_refused(&mut self, barrier: RunBarrier) {
        if self.phase == Phase::Opening(barrier) {
            self.phase = Phase::Closed(barrier);
        }
    }

    /// Opens the next run after a refused barrier; the driver decides when.
    pub fn reopen(&mut self) -> Output {
        let mut output = Output::default();
        if let Phase::Closed(RunBarrier { term, run }) = self.phase {
            self.open(RunBarrier { term, run: run + 1 }, &mut output);
        }
        output
    }

    /// The barrier is applied and opened its run: nothing of an earlier run is in flight any more.
    pub fn barrier_applied(&mut self, barrier: RunBarrier) -> Output {
        let mut output = Output::default();
        if self.phase != Phase::Opening(barrier) {
            return output;
        }
        // What is not applied by now was never appended, or does not count.
        for (id, entry) in self.in_flight.take_all() {
            self.forget_first(id, &entry);
            entry.refuse(&mut output.replies);
        }
        self.phase = Phase::Running { run: barrier, next_number: 0 };
        output
    }

    /// Takes an item. It is answered in this output or in one to come.
    pub fn submit(&mut self, item: impl Into<Item>) -> Output {
        let mut output = Output::default();
        let item = item.into();
        if self.phase == Phase::Stopped {
            output.refuse(item.waiter(), ProduceRefusal::NotLeading);
            return output;
        }
        self.queued_bytes += item.size_bytes();
        self.queue.push_back(item);
        output
    }

    /// Whether the driver should submit more. Its own queue is bounded; this bounds what waits here.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.queued_bytes < QUEUE_BYTES_MAX
    }

    /// Whether [`Sequencer::propose`] would do something now.
    #[must_use]
    pub fn ready_to_propose(&self) -> bool {
        matches!(self.phase, Phase::Running { .. }) && self.queue.front().is_some_and(|item| self.has_space_for(item))
    }

    /// Bytes of entries that are proposed and not applied.
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight.size_bytes()
    }

    /// Sequences what waits into at most one entry, up to `ENTRY_BYTES_TARGET`; one larger batch travels alone.
    ///
    /// When the state fails, the output says so and proposes nothing: the replica stops, and the driver calls
    /// [`Sequencer::stop`], which answers everybody who waits.
    pub fn propose(&mut self, state: &dyn SequencerState) -> Output {
        let mut output = Output::default();
        let Phase::Running { run, next_number } = self.phase else {
            return output;
        };
        let id = EntryHeader { run_term: run.term, run: run.run, number: next_number };
        let mut filling = Filling::new(id);
        while let Some(item) = self.next_item(&filling) {
            if let Err(error) = self.sequence(&item, state, &mut filling, &mut output) {
                // Everybody stays known, so that `stop` answers them.
                self.queued_bytes += item.size_bytes();
                self.queue.push_front(item);
                self.in_flight.insert(id, filling.entry);
                self.phase = Phase::Closed(run);
                output.failed = Some(error);
                return output;
            }
        }
        let Some(flush) = filling.flush else {
            return output;
        };
        self.phase = Phase::Running { run, next_number: next_number + 1 };
        filling.entry.size_bytes = filling.builder.size_bytes();
        self.in_flight.insert(id, filling.entry);
        let body = filling.builder.finish();
        output.proposals.push(Proposal::Batches(ProposedEntry { header: id, body, flush }));
        self.trim_windows();
        output
    }

    /// The entry lies in the leader's log, and the append hook's judge counts it. Its waiters learn what to wait for.
    ///
    /// An entry of the run before it that was not reported was refused: then this one does not count either.
    pub fn proposal_appended(&mut self, id: EntryHeader, index: LogIndex) -> Output {
        if let Some(missing) = self.in_flight.first_missing_before(id) {
            return self.proposal_refused(missing);
        }
        let mut output = Output::default();
        self.in_flight.appended(id, index, &mut output.replies);
        if let Some(applied) = self.applied {
            self.drop_applied(applied);
        }
        output
    }

    /// Raft refused the entry, or the judge does not count it: the rest of the run is refused, with what is queued (so
    /// that the order of a producer's sends is kept), and a new run begins.
    pub fn proposal_refused(&mut self, id: EntryHeader) -> Output {
        let mut output = Output::default();
        let is_current = self.run().is_some_and(|run| (run.term, run.run) == (id.run_term, id.run));
        if !is_current || !self.in_flight.contains(id) {
            return output;
        }
        let entries = self.in_flight.take_from(id);
        for (id, entry) in &entries {
            self.forget_first(*id, entry);
        }
        let entries = entries.into_iter().map(|(_, entry)| entry).collect();
        self.refuse(entries, ProduceRefusal::Unknown, &mut output);
        self.open(RunBarrier { term: id.run_term, run: id.run + 1 }, &mut output);
        output
    }

    /// Everything through `index` is applied and visible in the state.
    pub fn applied(&mut self, index: LogIndex) {
        self.applied = self.applied.max(Some(index));
        self.drop_applied(index);
    }

    /// From now on the state knows what is applied.
    fn drop_applied(&mut self, through: LogIndex) {
        for address in self.in_flight.applied(through) {
            self.endings.remove(&address);
        }
    }

    /// The partition was deleted. Items for it are answered when they are sequenced.
    pub fn partition_deleted(&mut self, partition: TopicPartition) {
        self.partitions.remove(&partition);
        self.windows.retain(|(tp, _), _| *tp != partition);
        self.seen_in_term.retain(|(tp, _), _| *tp != partition);
        self.jumped.retain(|(tp, _)| *tp != partition);
    }

    fn run(&self) -> Option<RunBarrier> {
        match self.phase {
            Phase::Stopped => None,
            Phase::Opening(run) | Phase::Closed(run) | Phase::Running { run, .. } => Some(run),
        }
    }

    fn open(&mut self, barrier: RunBarrier, output: &mut Output) {
        self.phase = Phase::Opening(barrier);
        self.forget_run();
        output.proposals.push(Proposal::Barrier(barrier));
    }

    /// Answers the waiters of these entries and of the queue, and notes where their producers have to go on.
    fn refuse(&mut self, entries: Vec<InFlightEntry>, queued: ProduceRefusal, output: &mut Output) {
        for entry in entries {
            for (key, claim) in entry.claims_to_retry() {
                self.refused.note(key, claim);
            }
            entry.refuse(&mut output.replies);
        }
        self.queued_bytes = 0;
        for item in std::mem::take(&mut self.queue) {
            if let Item::Produce(item) = &item
                && let Some((id, claim)) = claim_of(item)
            {
                self.refused.note((item.partition, id), &claim);
            }
            output.refuse(item.waiter(), queued);
        }
        self.forget_run();
    }

    /// The entry does not count: whoever had its first batch of the term there had none.
    fn forget_first(&mut self, id: EntryHeader, entry: &InFlightEntry) {
        for (key, ..) in &entry.claims {
            if self.seen_in_term.get(key) == Some(&id) {
                self.seen_in_term.remove(key);
            }
        }
    }

    /// What a run has learned is of no use to the next one.
    fn forget_run(&mut self) {
        self.partitions.clear();
        self.windows.clear();
        self.endings.clear();
    }

    /// The next item, if the entry has room for it.
    fn next_item(&mut self, filling: &Filling) -> Option<Item> {
        let item = self.queue.front()?;
        let size_bytes = filling.builder.size_bytes() + SLOT_BYTES + item.size_bytes();
        let is_fitting = size_bytes <= limits::ENTRY_BYTES_TARGET
            && self.in_flight.size_bytes() + size_bytes <= limits::IN_FLIGHT_BYTES_MAX;
        if !(is_fitting || filling.builder.is_empty() && self.has_space_for(item)) {
            return None;
        }
        self.queued_bytes -= item.size_bytes();
        self.queue.pop_front()
    }

    /// Whether an entry with this item alone keeps the bound; a single entry may always fly.
    fn has_space_for(&self, item: &Item) -> bool {
        let size_bytes = ENTRY_HEADER_BYTES + SLOT_BYTES + item.size_bytes();
        self.in_flight.size_bytes() == 0 || self.in_flight.size_bytes() + size_bytes <= limits::IN_FLIGHT_BYTES_MAX
    }

    /// Judges one item: answers it, or puts it into the entry.
    fn sequence(
        &mut self,
        item: &Item,
        state: &dyn SequencerState,
        filling: &mut Filling,
        output: &mut Output,
    ) -> Result<(), StateError> {
        if !self.load_partition(item.partition(), state)? {
            output.refuse(item.waiter(), ProduceRefusal::UnknownPartition);
            return Ok(());
        }
        match item {
            Item::Produce(item) => self.sequence_batch(item, state, filling, output),
            Item::End(item) => self.sequence_end(item, state, filling, output),
        }
    }

    fn sequence_batch(
        &mut self,
        item: &ProduceItem,
        state: &dyn SequencerState,
        filling: &mut Filling,
        output: &mut Output,
    ) -> Result<(), StateError> {
        let Some((producer_id, claim)) = claim_of(item) else {
            self.accept(item, filling);
            return Ok(());
        };
        let key = (item.partition, producer_id);
        self.load_window(key, state)?;
        match producer::judge(self.windows.get(&key), &claim) {
            Verdict::New => match self.refused.missing_before(key, &claim) {
                Some(missing) => output.refuse(item.waiter, self.behind_gap(key, &claim, missing - 1)),
                // Nothing can come before sequence 0.
                None if claim.base_sequence == 0 => self.accept_claim(item, key, &claim, filling),
                None if self.is_settled(key, &claim) => {
                    self.jumped.insert(key);
                    self.accept_claim(item, key, &claim, filling);
                }
                None => output.refuse(item.waiter, ProduceRefusal::NotLeading),
            },
            Verdict::Next => self.accept_claim(item, key, &claim, filling),
            Verdict::Ahead { last } if self.may_be_ahead(item, key, &claim) => {
                if self.is_settled(key, &claim) {
                    let found = claim.base_sequence;
                    output.ahead.push(AheadBatch { partition: item.partition, producer_id, last, found });
                    self.jumped.insert(key);
                    self.accept_claim(item, key, &claim, filling);
                } else {
                    output.refuse(item.waiter, ProduceRefusal::NotLeading);
                }
            }
            Verdict::Ahead { last } => output.refuse(item.waiter, self.behind_gap(key, &claim, last)),
            Verdict::Overlap { last } => output.refuse(item.waiter, out_of_order(&claim, last)),
            Verdict::Duplicate(original) => {
                // What was refused before it is kept after all.
                self.refused.forget(key);
                self.join(item.waiter, original.produced, original.origin, filling, output);
            }
            // Behind a jump nobody knows what was kept: never say that it was.
            Verdict::OlderDuplicate if self.jumped.contains(&key) => {
                output.refuse(item.waiter, out_of_order(&claim, claim.base_sequence));
            }
            Verdict::OlderDuplicate => output.refuse(item.waiter, ProduceRefusal::DuplicateSequence),
            Verdict::StaleEpoch { current } => {
                output.refuse(item.waiter, ProduceRefusal::StaleEpoch { found: claim.epoch, current });
            }
        }
        Ok(())
    }

    /// Ends a hidden batch, unless it ended before.
    fn sequence_end(
        &mut self,
        item: &EndItem,
        state: &dyn SequencerState,
        filling: &mut Filling,
        output: &mut Output,
    ) -> Result<(), StateError> {
        match self.endings.get(&item.address).copied() {
            Some(ending) if ending.term != item.term => output.refuse(item.waiter, ProduceRefusal::NoSuchHidden),
            Some(ending) if ending.end == item.end => {
                self.join(item.waiter, ending.produced, Some(ending.origin), filling, output);
            }
            // It may be lost yet: nothing final can be said.
            Some(_) => output.refuse(item.waiter, ProduceRefusal::Unknown),
            None => match state.hidden(item.partition, item.address)?.filter(|row| row.term == item.term) {
                None => output.refuse(item.waiter, ProduceRefusal::NoSuchHidden),
                Some(row) => match ending::judge(&row.state, item.end) {
                    ending::Verdict::Accept => self.accept_end(item, row.payload(item.address), filling),
                    ending::Verdict::Done(offset) => {
                        let produced = Produced {
                            base_offset: offset.unwrap_or(NO_OFFSET),
                            max_timestamp: TimestampMs(-1),
                            hidden_slot: None,
                        };
                        output.replies.push(Reply { waiter: item.waiter, answer: Answer::Done(produced) });
                    }
                    ending::Verdict::Refuse => output.refuse(item.waiter, ProduceRefusal::EndedOtherwise),
                },
            },
        }
        Ok(())
    }

    /// Reads the partition at its first use in the run; whether it is hosted here.
    fn load_partition(&mut self, tp: TopicPartition, state: &dyn SequencerState) -> Result<bool, StateError> {
        if let Entry::Vacant(vacant) = self.partitions.entry(tp) {
            let Some(next_offset) = state.log_end(tp)? else {
                return Ok(false);
            };
            vacant.insert(Partition::new(next_offset));
        }
        Ok(true)
    }

    fn load_window(&mut self, key: ProducerKey, state: &dyn SequencerState) -> Result<(), StateError> {
        if !self.windows.contains_key(&key)
            && let Some(window) = state.producer(key.0, key.1)?.and_then(ProducerWindow::of)
        {
            self.windows.insert(key, window);
        }
        Ok(())
    }

    /// DESIGN 4, "After a loss that the mode allows": once per producer, partition and term, as its first batch.
    fn may_be_ahead(&self, item: &ProduceItem, key: ProducerKey, claim: &Claim) -> bool {
        item.durability.replication == ReplicationMode::Async
            && !item.batch.view().is_transactional()
            && !self.seen_in_term.contains_key(&key)
            && self.seen_in_term.len() < SEEN_PRODUCERS_MAX
            && self.refused.missing_before(key, claim).is_none()
    }

    /// Whether a batch that begins behind a gap is the first one that its producer has to send, as far as can be known.
    ///
    /// Requests are pipelined: the batch before it may have been refused a moment ago, when this node did not lead yet. So
    /// the first attempt is refused and noted; what comes again as the earliest of all that were noted is the first one.
    fn is_settled(&mut self, key: ProducerKey, claim: &Claim) -> bool {
        let settled = self.refused.is_noted(key, claim);
        if !settled {
            self.refused.note(key, claim);
        }
        settled
    }

    /// The answer to a batch behind a gap: the first time "retry", only then that it is out of order.
    ///
    /// Requests are pipelined: the batch before it may have been refused a moment ago, here or at the leader before, and be on
    /// its way again. librdkafka goes on with a new epoch after OUT_OF_ORDER, in all partitions, and what was kept of those without
    /// an answer is kept twice.
    fn behind_gap(&mut self, key: ProducerKey, claim: &Claim, last: i32) -> ProduceRefusal {
        if self.gaps.is_noted(key, claim) {
            return out_of_order(claim, last);
        }
        self.gaps.note(key, claim);
        ProduceRefusal::NotLeading
    }

    fn accept_claim(&mut self, item: &ProduceItem, key: ProducerKey, claim: &Claim, filling: &mut Filling) {
        let produced = self.accept(item, filling);
        let origin = Origin { entry: filling.id, ack_point: item.durability.ack_point() };
        let in_flight = &self.in_flight;
        let is_in_flight = |entry| entry == filling.id || in_flight.contains(entry);
        match self.windows.get_mut(&key) {
            Some(window) => window.push(claim, produced, origin, is_in_flight),
            None => drop(self.windows.insert(key, ProducerWindow::new(claim, produced, origin))),
        }
        filling.entry.claims.push((key, *claim, origin.ack_point));
        self.refused.forget(key);
        self.gaps.forget(key);
        if item.durability.replication == ReplicationMode::Async && self.seen_in_term.len() < SEEN_PRODUCERS_MAX {
            self.seen_in_term.entry(key).or_insert(filling.id);
        }
    }

    /// Assigns the offset and puts the batch into the entry.
    fn accept(&mut self, item: &ProduceItem, filling: &mut Filling) -> Produced {
        let partition = self.partitions.get_mut(&item.partition).expect("loaded before it is judged");
        let records = i64::from(item.batch.view().record_count());
        filling.wish(partition.flush_wish(item.flush, item.flush_records, records));
        let base_offset = if item.hidden.is_some() { NO_OFFSET } else { partition.take_offsets(records) };
        let meta = BatchMeta {
            partition: item.partition,
            base_offset,
            durability: item.durability,
            flags: 0,
            log_append_time: item.log_append_time,
        };
        let hidden_slot = item.hidden.map(|_| filling.builder.len() as u32);
        let log_append_time = match item.hidden {
            Some(hidden) => {
                filling.builder.push_hidden(meta, hidden, &item.batch);
                meta.log_append_time
            }
            None => filling.push(meta, &item.batch).log_append_time,
        };
        let max_timestamp = log_append_time.unwrap_or(item.batch.view().max_timestamp());
        let produced = Produced { base_offset, max_timestamp, hidden_slot };
        let ack_point = item.durability.ack_point();
        filling.entry.push_waiting(Waiting { waiter: item.waiter, ack_point, produced });
        produced
    }

    /// Puts the end of a hidden batch into the entry.
    fn accept_end(&mut self, item: &EndItem, payload: Payload, filling: &mut Filling) {
        let partition = self.partitions.get_mut(&item.partition).expect("loaded before it is judged");
        let records = i64::from(item.end.makes_visible());
        filling.wish(partition.flush_wish(item.flush, item.flush_records, records));
        let close = item.close();
        let base_offset = if close.is_some() { NO_OFFSET } else { partition.take_offsets(records) };
        let (partition, durability) = (item.partition, item.durability);
        let meta = BatchMeta { partition, base_offset, durability, flags: 0, log_append_time: None };
        match close {
            Some(close) => filling.builder.push_close(meta, close),
            None => filling.push_reference(meta, payload, item.now),
        }
        let produced = Produced { base_offset, max_timestamp: item.now, hidden_slot: None };
        let ack_point = item.durability.ack_point();
        filling.entry.push_waiting(Waiting { waiter: item.waiter, ack_point, produced });
        filling.entry.ends.push(item.address);
        let origin = Origin { entry: filling.id, ack_point };
        self.endings.insert(item.address, Ending { end: item.end, term: item.term, produced, origin });
    }

    /// A duplicate waits for what its original waits for; an applied original is answered at once.
    fn join(
        &mut self,
        waiter: WaiterId,
        produced: Produced,
        origin: Option<Origin>,
        filling: &mut Filling,
        output: &mut Output,
    ) {
        let in_flight = origin.and_then(|Origin { entry: id, ack_point }| {
            let entry = if id == filling.id { Some(&mut filling.entry) } else { self.in_flight.get_mut(id) };
            entry.map(|entry| (id, entry, ack_point))
        });
        match in_flight {
            Some((id, entry, ack_point)) => {
                entry.wait(id, Waiting { waiter, ack_point, produced }, &mut output.replies);
            }
            None => output.replies.push(Reply { waiter, answer: Answer::Done(produced) }),
        }
    }

    /// Drops windows that the state can give back.
    fn trim_windows(&mut self) {
        if self.windows.len() > PRODUCER_WINDOWS_MAX {
            let in_flight = &self.in_flight;
            self.windows.retain(|_, window| window.is_in_flight(|entry| in_flight.contains(entry)));
        }
    }
}

impl Output {
    fn refuse(&mut self, waiter: WaiterId, refusal: ProduceRefusal) {
        self.replies.push(Reply { waiter, answer: Answer::Refused(refusal) });
    }
}

/// The producer's claim, when the batch is of an idempotent producer.
fn claim_of(item: &ProduceItem) -> Option<(ProducerId, Claim)> {
    let view = item.batch.view();
    let record_count = u32::try_from(view.record_count()).expect("split_batches refuses negative counts");
    let claim = Claim { epoch: view.producer_epoch(), base_sequence: view.base_sequence(), record_count };
    (view.producer_id() >= ProducerId(0)).then_some((view.producer_id(), claim))
}

fn out_of_order(claim: &Claim, last: i32) -> ProduceRefusal {
    ProduceRefusal::OutOfOrderSequence { found: claim.base_sequence, last }
}
