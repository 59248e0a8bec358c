//! Consumers of one group that receive, acknowledge, move and lose messages, with fail-overs in between, over the real state machine.
//!
//! Held after every step: the applied state is what the queue says; a message is delivered again only when its time was over; in
//! a message group nothing is delivered before an earlier one is settled, unless right behind it. At the end every wanted message
//! was settled.

use std::collections::{BTreeMap, BTreeSet};

use duolog_coordinator::pop::{Bounds, ConnectionId, Offer, PopQueue, PopState, PopUpdate, Renewal};
use duolog_record::group::GroupId;
use duolog_state::command::{Command, PartitionCommand};
use duolog_state::reader;
use duolog_state::{AppliedEntry, EntryKind, Machine, MemoryTables};
use duolog_types::{DeliveryId, LogIndex, Offset, Term, TimestampMs, TopicConfig, TopicId, TopicPartition};
use proptest::prelude::*;

const TP: TopicPartition = TopicPartition { topic: TopicId([7; 16]), partition: 3 };
const ATTEMPTS_MAX: u32 = 4;
const BURIAL_MS: i64 = 50;
/// So that a few messages reach them.
const NARROW: Bounds = Bounds { held_max: 3, ahead: 1 };

fn connection_of(keeper: u8) -> ConnectionId {
    ConnectionId(u64::from(keeper))
}

#[derive(Debug, Clone)]
enum Step {
    /// A record of this message group (0: none); whether the filter wants it.
    Append(u64, bool),
    Receive {
        count: usize,
        invisible_ms: i64,
        keeper: Option<u8>,
    },
    Acknowledge(usize),
    Move {
        receipt: usize,
        invisible_ms: i64,
    },
    Keep(u8),
    /// The answer with the delivery of a receipt is given once more.
    AnswerAgain(usize),
    Pass(i64),
    Touch,
    /// Back or forth by this many messages.
    Seek(i64),
    Forget,
    FailOver,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u64..4, prop::bool::weighted(0.8)).prop_map(|(group, wanted)| Step::Append(group, wanted)),
        6 => (1_usize..6, 0_i64..200, prop::option::of(0_u8..2))
            .prop_map(|(count, invisible_ms, keeper)| Step::Receive { count, invisible_ms, keeper }),
        6 => (0_usize..64).prop_map(Step::Acknowledge),
        2 => (0_usize..64, 0_i64..100).prop_map(|(receipt, invisible_ms)| Step::Move { receipt, invisible_ms }),
        1 => (0_u8..2).prop_map(Step::Keep),
        1 => (0_usize..64).prop_map(Step::AnswerAgain),
        3 => (1_i64..120).prop_map(Step::Pass),
        1 => Just(Step::Touch),
        1 => (-5_i64..3).prop_map(Step::Seek),
        1 => Just(Step::Forget),
        1 => Just(Step::FailOver),
    ]
}

struct World {
    machine: Machine<MemoryTables>,
    index: u64,
    queue: PopQueue,
    log: Vec<(Option<u64>, bool)>,
    now: i64,
    next_id: u128,
    /// Receipts that consumers hold, good or not.
    receipts: Vec<(DeliveryId, Offset)>,
    /// When each message that is out is due.
    due: BTreeMap<Offset, i64>,
    settled: BTreeSet<Offset>,
    /// Messages that were delivered as often as is allowed, by their last delivery.
    exhausted: Vec<(DeliveryId, Offset)>,
}

fn group() -> GroupId {
    GroupId("g".to_owned())
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            machine: Machine::open(MemoryTables::default()).unwrap(),
            index: 0,
            queue: PopQueue::load(group(), TP, Offset(0), Default::default()).with_bounds(NARROW),
            log: Vec::new(),
            now: 1_000,
            next_id: 1,
            receipts: Vec::new(),
            due: BTreeMap::new(),
            settled: BTreeSet::new(),
            exhausted: Vec::new(),
        };
        world.apply(&Command::Partitions(PartitionCommand::UpsertTopic {
            topic_id: TP.topic,
            catalog_version: 1,
            partitions: vec![TP.partition],
            config: TopicConfig::default(),
        }));
        world
    }

    fn apply(&mut self, command: &Command) {
        let entry = AppliedEntry {
            index: LogIndex(self.index),
            term: Term(1),
            kind: EntryKind::Command,
            body: command.encode(),
        };
        self.index += 1;
        self.machine.apply(&[entry]).unwrap();
    }

    fn propose(&mut self, update: PopUpdate) {
        self.apply(&Command::Pop(vec![update]));
    }

    fn load(&self) -> PopQueue {
        let state = reader::pop_state(self.machine.tables(), TP, &group()).unwrap();
        PopQueue::load(group(), TP, Offset(0), state).with_bounds(NARROW)
    }

    fn id(&mut self) -> DeliveryId {
        self.next_id += 1;
        DeliveryId(self.next_id)
    }

    fn receive(&mut self, count: usize, invisible_ms: i64, keeper: Option<u8>) {
        let mut taking = self.queue.take(TimestampMs(self.now), count, ATTEMPTS_MAX);
        while taking.has_room() {
            let cursor = self.queue.cursor();
            let Some((order, is_wanted)) = self.log.get(cursor.0 as usize).copied() else { break };
            if self.queue.offer(&mut taking, cursor, order, is_wanted) == Offer::Full {
                break;
            }
        }
        let taken: Vec<_> = taking.taken().collect();
        let exhausted: Vec<_> = taking.exhausted().collect();
        assert!(taken.len() <= count);
        let mut before: Vec<Offset> = Vec::new();
        for message in &taken {
            let offset = message.offset;
            assert!(self.log[offset.0 as usize].1, "{offset} was not wanted");
            assert!(!self.settled.contains(&offset), "{offset} was settled");
            assert!(self.due.get(&offset).is_none_or(|due| *due <= self.now), "{offset} is out");
            assert!((1..=ATTEMPTS_MAX).contains(&message.attempt));
            self.check_order(offset, &before);
            before.push(offset);
        }
        let (delivery, burial) = (self.id(), self.id());
        let due = self.now + invisible_ms;
        let buried_at = self.now + BURIAL_MS;
        let kept_for = keeper.map(|keeper| keeper.to_string());
        let update =
            self.queue.deliver(taking, (delivery, TimestampMs(due), kept_for), (burial, TimestampMs(buried_at)));
        if let Some(keeper) = keeper {
            self.queue.answered_over(delivery, connection_of(keeper));
        }
        if let Some(update) = update {
            self.propose(update);
        }
        for message in taken {
            self.receipts.push((delivery, message.offset));
            self.due.insert(message.offset, due);
        }
        for offset in exhausted {
            self.exhausted.push((burial, offset));
            self.due.insert(offset, buried_at);
        }
    }

    /// Every earlier message of its group is settled, or delivered right before it.
    fn check_order(&self, offset: Offset, before: &[Offset]) {
        let Some(order) = self.log[offset.0 as usize].0 else { return };
        for (earlier, (other, is_wanted)) in (0..offset.0).map(Offset).zip(&self.log) {
            let is_done = self.settled.contains(&earlier) || before.contains(&earlier);
            assert!(*other != Some(order) || !is_wanted || is_done, "{offset} was delivered before {earlier}");
        }
    }

    fn acknowledge(&mut self, receipt: (DeliveryId, Offset)) {
        let is_out = self.queue.is_out(receipt.0, receipt.1);
        let (good, update) = self.queue.settle(&[receipt, (receipt.0, Offset(9_999))]);
        assert_eq!(good, [is_out, false]);
        if is_out {
            self.settled.insert(receipt.1);
            self.due.remove(&receipt.1);
            self.propose(update);
        } else {
            assert!(update.is_empty());
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Append(group, is_wanted) => self.log.push(((group > 0).then_some(group), is_wanted)),
            Step::Receive { count, invisible_ms, keeper } => self.receive(count, invisible_ms, keeper),
            Step::Acknowledge(at) if !self.receipts.is_empty() => {
                self.acknowledge(self.receipts[at % self.receipts.len()]);
            }
            Step::Move { receipt, invisible_ms } if !self.receipts.is_empty() => {
                let receipt = self.receipts[receipt % self.receipts.len()];
                let (new, due) = (self.id(), self.now + invisible_ms);
                if let Some(update) = self.queue.move_message(receipt, new, TimestampMs(due)) {
                    self.propose(update);
                    self.receipts.push((new, receipt.1));
                    self.due.insert(receipt.1, due);
                    assert!(!self.queue.is_out(receipt.0, receipt.1), "the old receipt is worth nothing");
                }
            }
            Step::AnswerAgain(receipt) if !self.receipts.is_empty() => {
                let (old, _) = self.receipts[receipt % self.receipts.len()];
                let new = self.id();
                let out: Vec<Offset> = self.queue.delivery(old).iter().map(|message| message.offset).collect();
                let due = self.now + 70;
                let update = self.queue.answer_again(old, new, TimestampMs(due));
                assert_eq!(update.is_empty(), out.is_empty());
                if !update.is_empty() {
                    self.propose(update);
                }
                for offset in out {
                    assert!(!self.queue.is_out(old, offset) && self.queue.is_out(new, offset));
                    self.receipts.push((new, offset));
                    self.due.insert(offset, due);
                    self.exhausted.iter_mut().filter(|at| **at == (old, offset)).for_each(|at| at.0 = new);
                }
            }
            Step::Acknowledge(_) | Step::Move { .. } | Step::AnswerAgain(_) => {}
            Step::Keep(keeper) => {
                let (before, due) = (TimestampMs(self.now + 50), TimestampMs(self.now + 300));
                let renewal = Renewal { now: TimestampMs(self.now), before, due, ms_max: i64::MAX };
                let update = self.queue.keep(&keeper.to_string(), connection_of(keeper), renewal);
                for (id, due) in &update.extended {
                    for message in self.queue.delivery(*id) {
                        self.due.insert(message.offset, due.0);
                    }
                }
                if !update.is_empty() {
                    self.propose(update);
                }
            }
            Step::Pass(ms) => self.now += ms,
            Step::Touch => {
                let update = self.queue.touch(TimestampMs(self.now));
                self.propose(update);
                let row = reader::pop_cursor(self.machine.tables(), TP, &group()).unwrap().unwrap();
                assert_eq!((row.offset, row.at), (self.queue.cursor(), TimestampMs(self.now)));
            }
            Step::Seek(by) => self.seek(by),
            Step::Forget => {
                let mut update = PopUpdate::new(group(), TP);
                update.forget = true;
                self.propose(update);
                self.queue = self.load();
                assert_eq!(self.queue.cursor(), Offset(0));
                self.begin_at(Offset(0));
            }
            Step::FailOver => self.queue = self.load(),
        }
    }

    fn seek(&mut self, by: i64) {
        let to = Offset((self.queue.cursor().0 + by).clamp(0, self.log.len() as i64));
        let update = self.queue.seek(to, TimestampMs(self.now));
        self.propose(update);
        assert_eq!((self.queue.pending(), self.queue.progress()), (0, to));
        self.begin_at(to);
    }

    /// What lies before counts as settled, everything else comes anew.
    fn begin_at(&mut self, offset: Offset) {
        self.settled = (0..offset.0).map(Offset).collect();
        self.due.clear();
        self.exhausted.clear();
    }

    fn check(&self) {
        let out = self.queue.deliveries().values().flat_map(|row| &row.messages).map(|message| message.offset);
        assert_eq!(self.queue.progress(), out.min().unwrap_or(self.queue.cursor()));
        let applied = self.load();
        assert_eq!(applied.deliveries(), self.queue.deliveries());
        assert!(applied.cursor() <= self.queue.cursor());
    }

    /// Consumers that do everything right, until nothing comes any more.
    fn settle_all(&mut self) {
        for _ in 0..10_000 {
            self.now += 1_000;
            let before = self.receipts.len();
            self.receive(5, 1, None);
            for at in before..self.receipts.len() {
                self.acknowledge(self.receipts[at]);
            }
            for burial in std::mem::take(&mut self.exhausted) {
                self.acknowledge(burial);
            }
            if self.queue.pending() == 0 && self.queue.cursor().0 as usize == self.log.len() {
                break;
            }
        }
        let wanted = (0..).map(Offset).zip(&self.log).filter(|(_, (_, is_wanted))| *is_wanted);
        for (offset, _) in wanted {
            assert!(self.settled.contains(&offset), "{offset} was lost");
        }
        assert!(self.queue.deliveries().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_message_is_lost_or_delivered_out_of_turn(steps in prop::collection::vec(step(), 1..160)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
            world.check();
        }
        world.settle_all();
    }
}

#[test]
fn what_waits_behind_its_message_group_comes_when_the_first_is_settled() {
    let mut world = World::new();
    for group in [1, 1, 2, 1] {
        world.run(Step::Append(group, true));
    }
    world.receive(1, 100, None);
    // The rest of group 1 is held, and nobody has a receipt for it; group 2 goes on.
    world.receive(5, 100, None);
    assert_eq!(world.receipts.iter().map(|(_, offset)| offset.0).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(world.queue.pending(), 4);
    let forged = (DeliveryId(0), Offset(1));
    assert_eq!(world.queue.settle(&[forged]), (vec![false], PopUpdate::new(group(), TP)));
    assert_eq!(world.queue.move_message(forged, DeliveryId(99), TimestampMs(1)), None);
    world.acknowledge(world.receipts[0]);
    world.queue = world.load();
    world.receive(5, 100, None);
    assert_eq!(world.receipts.iter().map(|(_, offset)| offset.0).collect::<Vec<_>>(), [0, 2, 1, 3]);
}

/// The leader that took these messages out may have ended before its answer was written.
#[test]
fn after_a_fail_over_only_what_the_consumer_surely_has_is_kept_for_it() {
    let mut world = World::new();
    for _ in 0..3 {
        world.run(Step::Append(0, true));
    }
    world.receive(2, 100, Some(1));
    world.run(Step::FailOver);
    world.run(Step::Keep(1));
    assert!(world.due.values().all(|due| *due == 1_100), "nobody knows whether the answer came: {:?}", world.due);
    world.acknowledge(world.receipts[0]);
    world.run(Step::Keep(1));
    assert_eq!(world.due.get(&Offset(1)), Some(&1_100), "it is not due soon enough to be prolonged");
    world.run(Step::Pass(60));
    world.run(Step::Keep(1));
    assert_eq!(world.due.get(&Offset(1)), Some(&1_360), "the consumer has settled its neighbour, so it has this one");
    world.check();
}

/// An answer that was lost must not keep its messages as long as the consumer lives.
#[test]
fn a_sign_of_life_prolongs_what_came_over_its_connection() {
    let mut queue = PopQueue::load(group(), TP, Offset(0), PopState::default());
    for (id, over) in [(7, Some(1)), (8, Some(2)), (9, None)] {
        let mut taking = queue.take(TimestampMs(0), 2, 9);
        for _ in 0..2 {
            queue.offer(&mut taking, queue.cursor(), None, true);
        }
        let kept = (DeliveryId(id), TimestampMs(60), Some("c".to_owned()));
        queue.deliver(taking, kept, (DeliveryId(100), TimestampMs(60))).unwrap();
        if let Some(over) = over {
            queue.answered_over(DeliveryId(id), ConnectionId(over));
        }
    }
    let live = |queue: &mut PopQueue, connection: u64, now: i64| {
        let (before, due) = (TimestampMs(now + 40), TimestampMs(now + 60));
        let renewal = Renewal { now: TimestampMs(now), before, due, ms_max: i64::MAX };
        let update = queue.keep("c", ConnectionId(connection), renewal);
        update.extended.iter().map(|(id, _)| id.0).collect::<Vec<_>>()
    };
    assert_eq!(live(&mut queue, 1, 30), [7], "the others may be lost");
    // It came once: whatever the consumer's connection is now.
    assert_eq!(live(&mut queue, 3, 60), [7]);
    queue.settle(&[(DeliveryId(9), Offset(4))]);
    assert_eq!(live(&mut queue, 3, 90), [7, 9], "a message of it is settled, so it has come");
}

/// What a consumer has forgotten stays out as long as it lives, but not for ever.
#[test]
fn a_delivery_is_not_prolonged_without_end() {
    let mut queue = PopQueue::load(group(), TP, Offset(0), PopState::default());
    let mut taking = queue.take(TimestampMs(0), 1, 9);
    queue.offer(&mut taking, Offset(0), None, true);
    let kept = (DeliveryId(7), TimestampMs(60), Some("c".to_owned()));
    queue.deliver(taking, kept, (DeliveryId(8), TimestampMs(60))).unwrap();
    queue.answered_over(DeliveryId(7), ConnectionId(1));
    let mut live = |now: i64| {
        let (before, due) = (TimestampMs(now + 40), TimestampMs(now + 60));
        let update = queue.keep("c", ConnectionId(1), Renewal { now: TimestampMs(now), before, due, ms_max: 180 });
        update.extended.iter().map(|(_, due)| due.0).collect::<Vec<_>>()
    };
    assert_eq!((live(10), live(30), live(80)), (vec![], vec![90], vec![140]));
    assert_eq!((live(130), live(189)), (vec![190], vec![249]));
    assert_eq!((live(240), live(300)), (vec![], vec![]), "180 ms after the first sign of life");
}

/// A message group that holds as much as it may, and a delivery of it that came to an end before the one with its first message: what waits
/// must not hide the one that it waits for.
#[test]
fn the_first_of_a_message_group_comes_again_however_much_waits_behind_it() {
    let mut queue = PopQueue::load(group(), TP, Offset(0), PopState::default());
    let take = |queue: &mut PopQueue, count: usize, now: i64| {
        let mut taking = queue.take(TimestampMs(now), count, 9);
        while queue.offer(&mut taking, queue.cursor(), Some(1), true) == Offer::Done {}
        let taken: Vec<i64> = taking.taken().map(|taken| taken.offset.0).collect();
        let (id, due) = (DeliveryId(now as u128 + 10), TimestampMs(now + 100));
        queue.deliver(taking, (id, due, None), (DeliveryId(1), due));
        taken
    };
    assert_eq!(take(&mut queue, 6, 0), [0, 1, 2, 3, 4, 5]);
    // Its consumer wants the first one later than the others.
    queue.move_message((DeliveryId(10), Offset(0)), DeliveryId(2), TimestampMs(150)).unwrap();
    assert_eq!(take(&mut queue, 4, 149), [0_i64; 0], "all of them wait for the first one");
    assert_eq!(take(&mut queue, 4, 150), [0, 1, 2, 3]);
}
