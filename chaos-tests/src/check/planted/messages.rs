//! The single messages of the clean history, and ways to spoil them.
//!
//! One topic of each kind with two partitions and a message every 150 ms. Each is sent, delivered and acknowledged within a few
//! milliseconds, but: some come twice; every eighth delayed one is taken back; every fourth transaction is rolled back, and every third
//! is asked about; every second letter dies after three deliveries; of filtered ones a third is delivered.

use super::Plant;
use crate::history::messages::{End, Form, Kind, MessageEvent, MessageTopic, Outcome, Spot};
use crate::history::{Event, Sync, Value};

pub const NORMAL: u16 = 0;
pub const ORDERED: u16 = 1;
pub const DELAY: u16 = 2;
pub const TRANSACTION: u16 = 3;
pub const LETTERS: u16 = 4;
pub const FILTERED: u16 = 5;

pub const INVISIBLE_MS: u64 = 5_000;

const COUNT: u64 = 64;
const EVERY_MS: u64 = 150;
const DELAY_MS: u64 = 1_000;
const LETTER_ATTEMPTS: i32 = 3;
/// After everything else.
const LATE_MS: u64 = 90_000;

pub fn refused() -> Outcome {
    Outcome::Refused("INVALID_RECEIPT_HANDLE".into())
}

pub fn open() -> Outcome {
    Outcome::Open("timed out".into())
}

/// Where an event is about one place.
pub fn spot_of(event: &MessageEvent) -> Option<Spot> {
    let mut event = event.clone();
    spot_in(&mut event).copied()
}

fn spot_in(event: &mut MessageEvent) -> Option<&mut Spot> {
    match event {
        MessageEvent::Delivered { spot, .. }
        | MessageEvent::Settled { spot, .. }
        | MessageEvent::Moved { spot, .. }
        | MessageEvent::Read { spot, .. }
        | MessageEvent::FinalRecord { spot, .. }
        | MessageEvent::Copied { spot, .. }
        | MessageEvent::DeadLetter { origin: spot, .. } => Some(spot),
        _ => None,
    }
}

pub fn topics() -> Vec<MessageTopic> {
    let topic = |(name, kind): (&str, Kind)| MessageTopic {
        name: name.to_string(),
        kind,
        replication: Sync::Sync,
        flush: Sync::Async,
        partition_count: 2,
        group: format!("group-of-{name}"),
        broadcast_members: if kind == Kind::Normal { 2 } else { 0 },
    };
    let kinds = [
        ("normal", Kind::Normal),
        ("fifo", Kind::Fifo),
        ("delay", Kind::Delay),
        ("transaction", Kind::Transaction),
        ("letters", Kind::Letters),
        ("filtered", Kind::Filtered),
    ];
    kinds.map(topic).into()
}

/// One message's life in the making.
struct Life {
    topic: u16,
    value: Value,
    spot: Spot,
}

impl Plant {
    pub(super) fn fill_messages(&mut self) {
        for topic in [NORMAL, ORDERED, DELAY, TRANSACTION, LETTERS, FILTERED] {
            let mut ends = [0, 0];
            for i in 0..COUNT {
                let partition = i % 2;
                let offset = ends[partition as usize];
                let spot = Spot { topic, partition: partition as i32, offset };
                // The producer's number is the message group.
                let producer = 100 * u32::from(topic) + 1_000 + partition as u32;
                let life = Life { topic, value: Value::Sent { producer, sequence: i / 2 }, spot };
                if self.live(&life, i, i * EVERY_MS) {
                    ends[partition as usize] += 1;
                    self.push_message(MessageEvent::FinalRecord { spot, value: life.value });
                }
            }
            for (partition, high_watermark) in (0..).zip(ends) {
                self.push_message(MessageEvent::FinalEnd { topic, partition, high_watermark, read_all: true });
            }
        }
        self.push_message(MessageEvent::Drained { waited_ms: 9_000, owed: 0 });
    }

    /// Whether the message becomes visible.
    fn live(&mut self, life: &Life, i: u64, at_ms: u64) -> bool {
        let Life { topic, value, spot } = *life;
        match topic {
            NORMAL | ORDERED => {
                let order = 100 * u32::from(topic) + 1_000 + spot.partition as u32;
                self.sent(life, at_ms, if topic == NORMAL { Form::Plain } else { Form::Ordered { order } });
                // Nothing comes after the last one of a message group.
                let is_withheld = if topic == NORMAL { i % 16 == 3 } else { i + 2 >= COUNT };
                for member in 0..if topic == NORMAL { 2 } else { 0 } {
                    self.push_message(MessageEvent::Copied { time_ms: at_ms + 10, member, spot, value });
                }
                self.delivered(life, at_ms + 10, 1, INVISIBLE_MS);
                if is_withheld {
                    self.delivered(life, at_ms + 20 + INVISIBLE_MS, 2, INVISIBLE_MS);
                }
                self.settled(life, at_ms + if is_withheld { 25 + INVISIBLE_MS } else { 15 });
            }
            DELAY => {
                let due_ms = at_ms + DELAY_MS;
                self.sent(life, at_ms, Form::Delayed { due_ms });
                let recall =
                    |time_ms, outcome| MessageEvent::Recalled { asked_ms: time_ms - 5, time_ms, topic, value, outcome };
                if i % 8 == 1 {
                    self.push_message(recall(at_ms + DELAY_MS / 2, Outcome::Ok));
                    return false;
                }
                if i == 2 {
                    self.push_message(recall(due_ms + 10, refused()));
                }
                self.push_message(MessageEvent::Read { time_ms: due_ms + 5, spot, value });
                self.delivered(life, due_ms + 10, 1, INVISIBLE_MS);
                self.settled(life, due_ms + 15);
            }
            TRANSACTION => {
                let end = if i.is_multiple_of(4) { End::RollBack } else { End::Commit };
                let asked = i.is_multiple_of(3);
                self.sent(life, at_ms, Form::Half { end, asked });
                let asked_ms = at_ms + if asked { 1_500 } else { 10 };
                let (time_ms, outcome) = (asked_ms + 5, Outcome::Ok);
                let ended =
                    MessageEvent::Ended { asked_ms, time_ms, topic, value, transaction: i, end, asked, outcome };
                self.push_message(ended);
                if end == End::RollBack {
                    return false;
                }
                self.push_message(MessageEvent::Read { time_ms: time_ms + 5, spot, value });
                self.delivered(life, time_ms + 10, 1, INVISIBLE_MS);
                self.settled(life, time_ms + 15);
            }
            FILTERED => {
                self.sent(life, at_ms, Form::Plain);
                if self.history.message_topics[usize::from(topic)].wants(value) {
                    let attempts = if i < 4 { 2 } else { 1 };
                    for attempt in 1..=attempts {
                        self.delivered(life, at_ms + (10 + INVISIBLE_MS) * attempt as u64, attempt, INVISIBLE_MS);
                    }
                    self.settled(life, at_ms + 15 + (10 + INVISIBLE_MS) * attempts as u64);
                }
            }
            _ if i.is_multiple_of(2) => {
                self.sent(life, at_ms, Form::Doomed);
                for attempt in 1..=LETTER_ATTEMPTS {
                    self.delivered(life, at_ms + 1_010 * attempt as u64, attempt, 1_000);
                }
                self.push_message(MessageEvent::DeadLetter { origin: spot, value });
            }
            _ => {
                self.sent(life, at_ms, Form::Plain);
                self.delivered(life, at_ms + 10, 1, 1_000);
                self.settled(life, at_ms + 15);
            }
        }
        true
    }

    fn sent(&mut self, life: &Life, at_ms: u64, form: Form) {
        let Life { topic, value, spot } = *life;
        let is_visible = !matches!(form, Form::Delayed { .. } | Form::Half { .. });
        let offset = is_visible.then_some(spot.offset);
        let (asked_ms, time_ms, outcome) = (at_ms, at_ms + 5, Outcome::Ok);
        self.push_message(MessageEvent::Sent { asked_ms, time_ms, topic, value, form, outcome, offset });
    }

    fn delivered(&mut self, life: &Life, time_ms: u64, attempt: i32, invisible_ms: u64) {
        let Life { value, spot, .. } = *life;
        let number = self.history.events.len() as u64;
        let (asked_ms, call, receipt) = (time_ms - 4, number, number);
        self.push_message(MessageEvent::Delivered {
            asked_ms,
            time_ms,
            reader: 1,
            call,
            spot,
            value,
            attempt,
            receipt,
            invisible_ms,
        });
    }

    fn settled(&mut self, life: &Life, time_ms: u64) {
        let (spot, asked_ms) = (life.spot, time_ms - 4);
        self.push_message(MessageEvent::Settled { asked_ms, time_ms, spot, receipt: 0, outcome: Outcome::Ok });
    }

    // ---- looking

    pub fn find_message<T>(&self, find: impl Fn(&MessageEvent) -> Option<T>) -> T {
        let mut messages = self.history.events.iter().filter_map(|event| match event {
            Event::Message(event) => find(event),
            _ => None,
        });
        messages.next().expect("the clean history has this event")
    }

    pub fn first_final(&self, topic: u16) -> (Spot, Value) {
        self.find_message(|event| match *event {
            MessageEvent::FinalRecord { spot, value } if spot.topic == topic => Some((spot, value)),
            _ => None,
        })
    }

    pub fn value_at(&self, at: Spot) -> Value {
        self.find_message(|event| match *event {
            MessageEvent::FinalRecord { spot, value } if spot == at => Some(value),
            _ => None,
        })
    }

    pub fn settled_ms(&self, at: Spot) -> u64 {
        self.find_message(|event| match *event {
            MessageEvent::Settled { spot, time_ms, .. } if spot == at => Some(time_ms),
            _ => None,
        })
    }

    /// The message's first consumer changes how long it is invisible, as soon as it has it.
    pub fn move_first(&mut self, at: Spot, invisible_ms: u64, outcome: Outcome) {
        let asked_ms = self.asked_ms(at);
        let receipt = self.find_message(|event| match *event {
            MessageEvent::Delivered { spot, receipt, .. } if spot == at => Some(receipt),
            _ => None,
        });
        let (time_ms, next) = (asked_ms + 1, Some(u64::MAX - 1));
        self.push_message(MessageEvent::Moved { asked_ms, time_ms, spot: at, receipt, invisible_ms, outcome, next });
    }

    /// When the call began that was given the message first.
    pub fn asked_ms(&self, at: Spot) -> u64 {
        self.find_message(|event| match *event {
            MessageEvent::Delivered { spot, asked_ms, .. } if spot == at => Some(asked_ms),
            _ => None,
        })
    }

    /// Two that follow each other.
    pub fn two_of_a_message_group(&self) -> (Spot, Spot) {
        let (first, _) = self.first_final(ORDERED);
        (first, Spot { offset: first.offset + 1, ..first })
    }

    pub fn attempt(&self, topic: u16, value: Value, outcome: Outcome) -> MessageEvent {
        let form = self.find_message(|event| match *event {
            MessageEvent::Sent { value: sent, form, .. } if sent == value => Some(form),
            _ => None,
        });
        MessageEvent::Sent { asked_ms: 1, time_ms: 2, topic, value, form, outcome, offset: None }
    }

    // ---- spoiling

    pub fn push_message(&mut self, event: MessageEvent) {
        self.history.events.push(Event::Message(event));
    }

    pub fn retain_messages(&mut self, mut keeps: impl FnMut(&MessageEvent) -> bool) {
        self.history.events.retain(|event| match event {
            Event::Message(event) => keeps(event),
            _ => true,
        });
    }

    pub fn remove_first(&mut self, is_it: impl Fn(&MessageEvent) -> bool) {
        let at = self.history.events.iter().position(|event| matches!(event, Event::Message(event) if is_it(event)));
        self.history.events.remove(at.expect("the clean history has this event"));
    }

    /// `change` says whether it has changed the event.
    pub fn change_first(&mut self, mut change: impl FnMut(&mut MessageEvent) -> bool) {
        let is_changed = self.messages_mut().any(&mut change);
        assert!(is_changed, "the clean history has this event");
    }

    /// The message was seen first at another time, by a Kafka reader or by a consumer of single messages.
    pub fn move_first_sight(&mut self, of: Spot, by_kafka: bool, seen_ms: u64) {
        self.change_first(|event| match event {
            MessageEvent::Read { spot, time_ms, .. } if by_kafka && *spot == of => {
                *time_ms = seen_ms;
                true
            }
            MessageEvent::Delivered { spot, time_ms, .. } if !by_kafka && *spot == of => {
                *time_ms = seen_ms;
                true
            }
            _ => false,
        });
    }

    pub fn deliver_again(&mut self, spot: Spot, asked_ms: u64, time_ms: u64) {
        let attempts = self.history.events.iter();
        let attempts = attempts
            .filter(|event| matches!(event, Event::Message(MessageEvent::Delivered { spot: at, .. }) if *at == spot));
        let attempt = attempts.count() as i32 + 1;
        let value = self.value_at(spot);
        self.push_message(MessageEvent::Delivered {
            asked_ms,
            time_ms,
            reader: 2,
            call: u64::MAX,
            spot,
            value,
            attempt,
            receipt: u64::MAX,
            invisible_ms: INVISIBLE_MS,
        });
    }

    /// One answer gives both, the first one first or not.
    pub fn deliver_together(&mut self, first: Spot, second: Spot, is_ordered: bool) {
        let time_ms = self.asked_ms(first) + 1;
        self.retain_messages(
            |event| !matches!(event, MessageEvent::Delivered { spot, .. } if [first, second].contains(spot)),
        );
        for spot in if is_ordered { [first, second] } else { [second, first] } {
            self.deliver_again(spot, time_ms, time_ms);
        }
    }

    pub fn swap_spots(&mut self, one: Spot, other: Spot) {
        for spot in self.messages_mut().filter_map(spot_in) {
            *spot = match *spot {
                spot if spot == one => other,
                spot if spot == other => one,
                spot => spot,
            };
        }
    }

    /// The message is there once more, at the end of its partition, delivered and acknowledged late.
    pub fn keep_again(&mut self, of: Spot) {
        let value = self.value_at(of);
        let places = self.history.events.iter().filter_map(|event| match event {
            Event::Message(MessageEvent::FinalRecord { spot, .. }) => Some(*spot),
            _ => None,
        });
        let of_partition = places.filter(|spot| (spot.topic, spot.partition) == (of.topic, of.partition));
        let offset = of_partition.map(|spot| spot.offset).max().map_or(0, |last| last + 1);
        let life = Life { topic: of.topic, value, spot: Spot { offset, ..of } };
        self.delivered(&life, LATE_MS, 1, INVISIBLE_MS);
        self.settled(&life, LATE_MS + 5);
        self.push_message(MessageEvent::FinalRecord { spot: life.spot, value });
    }

    pub fn refuse_recalls(&mut self) {
        for event in self.messages_mut() {
            if let MessageEvent::Recalled { outcome, .. } = event {
                *outcome = refused();
            }
        }
    }

    /// An acknowledged send per second.
    pub fn slow_down_sends(&mut self, of: u16) {
        let mut next_ms = 0;
        for event in self.messages_mut() {
            if let MessageEvent::Sent { topic, time_ms, .. } = event
                && *topic == of
            {
                *time_ms = next_ms;
                next_ms += 1_000;
            }
        }
    }

    fn messages_mut(&mut self) -> impl Iterator<Item = &mut MessageEvent> {
        self.history.events.iter_mut().filter_map(|event| match event {
            Event::Message(event) => Some(event),
            _ => None,
        })
    }
}
