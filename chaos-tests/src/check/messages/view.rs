//! A history of single messages, indexed the ways that the checkers ask for.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::messages::{End, Form, MessageEvent, MessageTopic, Outcome, Spot};
use crate::history::{Event, Fault, History, Run, Value};

pub struct MessageView<'a> {
    pub run: &'a Run,
    pub topics: &'a [MessageTopic],
    /// All attempts to send a value together.
    pub sends: BTreeMap<Value, Sends<'a>>,
    /// In the order of recording.
    pub deliveries: Vec<Delivery>,
    /// Indexes into `deliveries`.
    pub deliveries_at: BTreeMap<Spot, Vec<usize>>,
    pub settles: BTreeMap<Spot, Vec<Settle<'a>>>,
    /// In the order of recording.
    pub moves: BTreeMap<Spot, Vec<Move<'a>>>,
    pub ends: BTreeMap<Value, Vec<Ended<'a>>>,
    pub recalls: BTreeMap<Value, Vec<Recall<'a>>>,
    /// What Kafka's reader was given during the run.
    pub reads: Vec<Read>,
    /// What each member of a topic's broadcasting group was given.
    pub copies: BTreeMap<(u16, u32), Vec<(Spot, Value)>>,
    /// The read of all at the end.
    pub finals: BTreeMap<Spot, Value>,
    /// Where a value is in that read.
    pub spots: BTreeMap<Value, Vec<Spot>>,
    /// Topics of which that read is whole.
    pub whole: BTreeSet<u16>,
    /// Where a dead letter says that it comes from, and what it holds.
    pub dead_letters: BTreeMap<Spot, Value>,
    /// (how long it took, what was owed then).
    pub drained: Option<(u64, u64)>,
    /// When a node's wall clock was wrong.
    wrong_clocks: Vec<std::ops::Range<u64>>,
}

pub struct Sends<'a> {
    pub topic: u16,
    pub form: Form,
    pub attempts: Vec<Attempt<'a>>,
}

pub struct Attempt<'a> {
    pub time_ms: u64,
    pub outcome: &'a Outcome,
    pub offset: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    pub asked_ms: u64,
    pub time_ms: u64,
    pub call: u64,
    pub spot: Spot,
    pub value: Value,
    pub attempt: i32,
    pub receipt: u64,
    pub invisible_ms: u64,
}

pub struct Settle<'a> {
    pub asked_ms: u64,
    pub time_ms: u64,
    pub outcome: &'a Outcome,
}

pub struct Move<'a> {
    pub asked_ms: u64,
    pub receipt: u64,
    pub invisible_ms: u64,
    pub outcome: &'a Outcome,
    pub next: Option<u64>,
}

pub struct Ended<'a> {
    pub asked_ms: u64,
    pub transaction: u64,
    pub end: End,
    pub asked: bool,
    pub outcome: &'a Outcome,
}

pub struct Recall<'a> {
    pub time_ms: u64,
    pub outcome: &'a Outcome,
}

#[derive(Debug, Clone, Copy)]
pub struct Read {
    pub time_ms: u64,
    pub spot: Spot,
    pub value: Value,
}

impl Sends<'_> {
    /// When the first attempt was answered.
    pub fn first_ms(&self) -> u64 {
        self.attempts.iter().map(|attempt| attempt.time_ms).min().unwrap_or(0)
    }

    pub fn acked_ms(&self) -> Option<u64> {
        self.attempts.iter().find(|attempt| *attempt.outcome == Outcome::Ok).map(|attempt| attempt.time_ms)
    }

    /// The broker may have it.
    pub fn may_exist(&self) -> bool {
        self.attempts.iter().any(|attempt| !matches!(attempt.outcome, Outcome::Refused(_)))
    }

    pub fn is_open(&self) -> bool {
        self.attempts.iter().any(|attempt| matches!(attempt.outcome, Outcome::Open(_)))
    }
}

/// What a leader decided by a wrong clock arrives a little later.
const LATE_MS: u64 = 2_000;

fn wrong_clocks(history: &History) -> Vec<std::ops::Range<u64>> {
    let mut ranges: Vec<(u32, std::ops::Range<u64>)> = Vec::new();
    for event in &history.events {
        match *event {
            Event::FaultBegan { time_ms, node, fault: Fault::Clock, .. } => ranges.push((node, time_ms..u64::MAX)),
            Event::FaultEnded { time_ms, node } => {
                let open = ranges.iter_mut().filter(|(of, range)| *of == node && range.end == u64::MAX);
                open.for_each(|(_, range)| range.end = time_ms + LATE_MS);
            }
            _ => {}
        }
    }
    ranges.into_iter().map(|(_, range)| range).collect()
}

impl<'a> MessageView<'a> {
    /// Whether what was decided about then may go by a wrong wall clock: delays and invisible times do.
    pub fn clock_may_be_wrong(&self, time_ms: u64) -> bool {
        self.clock_may_be_wrong_within(time_ms..=time_ms)
    }

    /// The same of a time that is not known exactly.
    pub fn clock_may_be_wrong_within(&self, times_ms: std::ops::RangeInclusive<u64>) -> bool {
        let overlaps = |range: &std::ops::Range<u64>| range.start <= *times_ms.end() && *times_ms.start() < range.end;
        self.wrong_clocks.iter().any(overlaps)
    }

    pub fn new(history: &'a History) -> MessageView<'a> {
        let mut view = MessageView {
            run: &history.run,
            topics: &history.message_topics,
            sends: BTreeMap::new(),
            deliveries: Vec::new(),
            deliveries_at: BTreeMap::new(),
            settles: BTreeMap::new(),
            moves: BTreeMap::new(),
            ends: BTreeMap::new(),
            recalls: BTreeMap::new(),
            reads: Vec::new(),
            copies: BTreeMap::new(),
            wrong_clocks: wrong_clocks(history),
            finals: BTreeMap::new(),
            spots: BTreeMap::new(),
            whole: (0..history.message_topics.len() as u16).collect(),
            dead_letters: BTreeMap::new(),
            drained: None,
        };
        let mut ends_read = BTreeMap::new();
        for event in &history.events {
            if let Event::Message(event) = event {
                view.take(event, &mut ends_read);
            }
        }
        view.whole.retain(|topic| {
            let partitions = 0..history.message_topics[usize::from(*topic)].partition_count;
            partitions.into_iter().all(|partition| ends_read.get(&(*topic, partition)) == Some(&true))
        });
        view
    }

    /// A message may be settled: somebody acknowledged it, and that was not refused.
    pub fn may_be_settled(&self, spot: Spot) -> bool {
        self.settles_at(spot).iter().any(|settle| !matches!(settle.outcome, Outcome::Refused(_)))
    }

    pub fn settles_at(&self, spot: Spot) -> &[Settle<'a>] {
        self.settles.get(&spot).map_or(&[], Vec::as_slice)
    }

    /// Everything that some consumer, of RocketMQ or Kafka, was given, with when and by whom.
    pub fn given(&self) -> impl Iterator<Item = (u64, Spot, Value, &'static str)> + '_ {
        let deliveries =
            self.deliveries.iter().map(|given| (given.time_ms, given.spot, given.value, "a RocketMQ consumer"));
        deliveries.chain(self.reads.iter().map(|read| (read.time_ms, read.spot, read.value, "a Kafka reader")))
    }

    fn take(&mut self, event: &'a MessageEvent, ends_read: &mut BTreeMap<(u16, i32), bool>) {
        match *event {
            MessageEvent::Sent { time_ms, topic, value, form, ref outcome, offset, .. } => {
                let sends = self.sends.entry(value).or_insert(Sends { topic, form, attempts: Vec::new() });
                sends.attempts.push(Attempt { time_ms, outcome, offset });
            }
            MessageEvent::Delivered {
                asked_ms, time_ms, call, spot, value, attempt, receipt, invisible_ms, ..
            } => {
                self.deliveries_at.entry(spot).or_default().push(self.deliveries.len());
                self.deliveries.push(Delivery { asked_ms, time_ms, call, spot, value, attempt, receipt, invisible_ms });
            }
            MessageEvent::Settled { asked_ms, time_ms, spot, ref outcome, .. } => {
                self.settles.entry(spot).or_default().push(Settle { asked_ms, time_ms, outcome });
            }
            MessageEvent::Moved { asked_ms, spot, receipt, invisible_ms, ref outcome, next, .. } => {
                let moved = Move { asked_ms, receipt, invisible_ms, outcome, next };
                self.moves.entry(spot).or_default().push(moved);
            }
            MessageEvent::Ended { asked_ms, value, transaction, end, asked, ref outcome, .. } => {
                let ended = Ended { asked_ms, transaction, end, asked, outcome };
                self.ends.entry(value).or_default().push(ended);
            }
            MessageEvent::Recalled { time_ms, value, ref outcome, .. } => {
                self.recalls.entry(value).or_default().push(Recall { time_ms, outcome });
            }
            MessageEvent::Read { time_ms, spot, value } => self.reads.push(Read { time_ms, spot, value }),
            MessageEvent::Copied { member, spot, value, .. } => {
                self.copies.entry((spot.topic, member)).or_default().push((spot, value));
            }
            MessageEvent::FinalRecord { spot, value } => {
                self.finals.insert(spot, value);
                self.spots.entry(value).or_default().push(spot);
            }
            MessageEvent::FinalEnd { topic, partition, read_all, .. } => {
                ends_read.insert((topic, partition), read_all);
            }
            MessageEvent::DeadLetter { origin, value } => drop(self.dead_letters.insert(origin, value)),
            MessageEvent::Drained { waited_ms, owed } => self.drained = Some((waited_ms, owed)),
        }
    }
}
