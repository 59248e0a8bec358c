//! A clean history, and ways to spoil it: each checker's tests plant one violation and ask that it is found.
//!
//! Two topics of two partitions, 1,250 records each in ten seconds, alternating over the partitions; a tail reader and a
//! group member saw all; a follower is killed twice. And [`messages`] of RocketMQ clients.

pub mod messages;

use super::{Findings, Verdict, check};
use crate::history::{Event, Fault, History, Place, Run, Sync, Topic, Value, WatermarkSource};

pub const SYNC: u16 = 0;
pub const ASYNC: u16 = 1;
pub const TAIL: u32 = 1;
pub const MEMBER: u32 = 2;

/// Leads everything.
const LEADER: u32 = 0;
const FOLLOWER: u32 = 1;

const RECORD_COUNT: u64 = 1_250;
const LOAD_MS: u64 = 10_000;

pub struct Plant {
    pub history: History,
}

/// A record that was taken away.
pub struct Lost {
    pub time_ms: u64,
}

pub fn clean() -> History {
    Plant::clean().history
}

pub fn finds(plant: &Plant, property: &str) {
    let findings = check(&plant.history);
    assert!(
        findings.violations.iter().any(|violation| violation.property == property),
        "{property} was not found among {:?}",
        findings.violations
    );
}

pub fn passes(plant: &Plant) -> Findings {
    let findings = check(&plant.history);
    assert_eq!(findings.verdict(), Verdict::Passed, "{:?} {:?}", findings.violations, findings.inconclusive);
    findings
}

impl Plant {
    pub fn clean() -> Plant {
        let topic = |name: &str, replication| Topic {
            name: name.to_string(),
            replication,
            flush: Sync::Async,
            partition_count: 2,
            has_group: true,
        };
        let topics = vec![topic("sync", Sync::Sync), topic("async", Sync::Async)];
        let run = Run {
            seed: 1,
            node_count: 3,
            faults: vec![],
            without_faults: false,
            load_begin_ms: 0,
            load_end_ms: LOAD_MS,
        };
        let mut plant =
            Plant { history: History { run, topics, message_topics: messages::topics(), events: Vec::new() } };
        for topic in [SYNC, ASYNC] {
            plant.fill(topic);
        }
        for (round, time_ms) in [(1, 2_000), (2, 7_000)] {
            plant.fault(round, FOLLOWER, time_ms, Fault::Kill);
        }
        plant.fill_messages();
        plant
    }

    fn fill(&mut self, topic: u16) {
        let events = &mut self.history.events;
        let first_producer = 1 + 10 * u32::from(topic);
        for partition in 0..2 {
            events.push(Event::Assigned { time_ms: 0, reader: MEMBER, place: Place { topic, partition } });
        }
        for i in 0..RECORD_COUNT {
            let place = Place { topic, partition: (i % 2) as i32 };
            let offset = (i / 2) as i64;
            let value = Value::Sent { producer: first_producer + (i / 2 % 2) as u32, sequence: i / 4 * 2 + i % 2 };
            let time_ms = i * 8;
            let (sent_ms, offset_told) = (Some(time_ms), Some(offset));
            events.push(Event::Acked { sent_ms, time_ms, place, offset: offset_told, value, by: Some(LEADER) });
            for reader in [TAIL, MEMBER] {
                events.push(Event::Seen { time_ms: time_ms + 5, reader, place, offset, value });
            }
            events.push(Event::FinalRecord { place, offset, value });
        }
        for producer in [first_producer, first_producer + 1] {
            events.push(Event::ProducerEnded { topic, producer, sent: RECORD_COUNT });
        }
        for partition in 0..2 {
            let place = Place { topic, partition };
            let high_watermark = (RECORD_COUNT / 2) as i64;
            events.push(Event::FinalEnd { place, log_start_offset: 0, high_watermark, read_all: true });
            events.push(Event::CommitAcked { asked_ms: 4_000, time_ms: 4_010, place, offset: 100 });
            events.push(Event::CommittedRead { asked_ms: 5_000, time_ms: 5_010, place, offset: Some(100) });
        }
        events.push(Event::Probe { topic, waited_ms: 100, acked: true, seen: true });
    }

    // ---- faults

    pub fn fault_of_leader(&mut self, time_ms: u64, fault: Fault) {
        self.fault(3, LEADER, time_ms, fault);
    }

    pub fn fault_of_follower(&mut self, time_ms: u64, fault: Fault) {
        self.fault(3, FOLLOWER, time_ms, fault);
    }

    pub fn last_fault_ends(&mut self, at_ms: u64) {
        let Some(Event::FaultEnded { time_ms, .. }) = self.history.events.last_mut() else {
            panic!("no fault was planted")
        };
        *time_ms = at_ms;
    }

    /// The leader acknowledges something so long after all else.
    pub fn acknowledge_once_more(&mut self, delay_ms: u64) {
        let mut acks = self.history.events.iter().filter(|event| matches!(event, Event::Acked { .. }));
        let mut last = acks.next_back().expect("the clean history has acknowledgements").clone();
        let Event::Acked { time_ms, .. } = &mut last else { unreachable!("it was chosen for that") };
        *time_ms += delay_ms;
        self.history.events.push(last);
    }

    pub fn keep_kills(&mut self, count: usize) {
        let mut left = count;
        self.history.events.retain(|event| match event {
            Event::FaultBegan { .. } if left == 0 => false,
            Event::FaultBegan { .. } => {
                left -= 1;
                true
            }
            _ => true,
        });
    }

    fn fault(&mut self, round: u32, node: u32, time_ms: u64, fault: Fault) {
        self.history.events.push(Event::FaultBegan {
            time_ms,
            round,
            node,
            fault,
            leads: vec![],
            detail: String::new(),
        });
        self.history.events.push(Event::FaultEnded { time_ms: time_ms + 500, node });
    }

    // ---- the log

    /// The next offset after partition's last one.
    pub fn end(&self, topic: u16, partition: i32) -> i64 {
        let records =
            self.history.events.iter().filter(
                |event| matches!(event, Event::FinalRecord { place, .. } if *place == Place { topic, partition }),
            );
        records.count() as i64
    }

    pub fn final_at(&self, topic: u16, partition: i32, offset: i64) -> Value {
        let found = self.history.events.iter().find_map(|event| match *event {
            Event::FinalRecord { place, offset: at, value } if place == Place { topic, partition } && at == offset => {
                Some(value)
            }
            _ => None,
        });
        found.expect("the clean history has this offset")
    }

    /// Takes the last record of partition 0 from the log; nobody saw it.
    pub fn lose_last_unseen(&mut self, topic: u16) -> Lost {
        let offset = self.end(topic, 0) - 1;
        for reader in [TAIL, MEMBER] {
            self.unsee(reader, topic, 0, offset);
        }
        self.lose_last_seen(topic)
    }

    /// Takes the last record of partition 0 from the log.
    pub fn lose_last_seen(&mut self, topic: u16) -> Lost {
        let place = Place { topic, partition: 0 };
        let offset = self.end(topic, 0) - 1;
        self.remove_final(topic, 0, offset);
        self.set_end(place, offset);
        let time_ms = self.history.events.iter().find_map(|event| match *event {
            Event::Acked { time_ms, place: at, offset: Some(acked), .. } if at == place && acked == offset => {
                Some(time_ms)
            }
            _ => None,
        });
        Lost { time_ms: time_ms.expect("every record of the clean history is acknowledged") }
    }

    pub fn remove_final(&mut self, topic: u16, partition: i32, offset: i64) {
        self.history.events.retain(|event| {
            !matches!(event, Event::FinalRecord { place, offset: at, .. }
                if *place == Place { topic, partition } && *at == offset)
        });
    }

    pub fn repeat_final(&mut self, topic: u16, partition: i32, offset: i64) {
        let value = self.final_at(topic, partition, offset);
        let place = Place { topic, partition };
        self.history.events.push(Event::FinalRecord { place, offset, value });
    }

    pub fn change_final(&mut self, topic: u16, partition: i32, offset: i64, to: Value) {
        for event in &mut self.history.events {
            if let Event::FinalRecord { place, offset: at, value } = event
                && *place == (Place { topic, partition })
                && *at == offset
            {
                *value = to;
            }
        }
    }

    pub fn swap_finals(&mut self, topic: u16, partition: i32, one: i64, other: i64) {
        let (first, second) = (self.final_at(topic, partition, one), self.final_at(topic, partition, other));
        self.change_final(topic, partition, one, second);
        self.change_final(topic, partition, other, first);
    }

    pub fn append_final(&mut self, topic: u16, partition: i32, value: Value) {
        let offset = self.end(topic, partition);
        let place = Place { topic, partition };
        self.history.events.push(Event::FinalRecord { place, offset, value });
        self.set_end(place, offset + 1);
    }

    pub fn append_duplicate(&mut self, topic: u16, from: i32, to: i32) {
        let value = self.final_at(topic, from, 0);
        self.append_final(topic, to, value);
    }

    pub fn set_log_start(&mut self, topic: u16, partition: i32, to: i64) {
        self.edit_end(Place { topic, partition }, |log_start_offset, _, _| *log_start_offset = to);
    }

    pub fn set_unread(&mut self, topic: u16, partition: i32) {
        self.edit_end(Place { topic, partition }, |_, _, read_all| *read_all = false);
    }

    fn set_end(&mut self, place: Place, to: i64) {
        self.edit_end(place, |_, high_watermark, _| *high_watermark = to);
    }

    fn edit_end(&mut self, at: Place, edit: impl Fn(&mut i64, &mut i64, &mut bool)) {
        for event in &mut self.history.events {
            if let Event::FinalEnd { place, log_start_offset, high_watermark, read_all } = event
                && *place == at
            {
                edit(log_start_offset, high_watermark, read_all);
            }
        }
    }

    // ---- clients

    pub fn forget_acked_offsets(&mut self) {
        for event in &mut self.history.events {
            if let Event::Acked { offset, .. } = event {
                *offset = None;
            }
        }
    }

    pub fn swap_two_acked_offsets(&mut self, topic: u16) {
        for event in &mut self.history.events {
            if let Event::Acked { place, offset: Some(offset), .. } = event
                && *place == (Place { topic, partition: 0 })
            {
                *offset = match *offset {
                    3 => 4,
                    4 => 3,
                    other => other,
                };
            }
        }
    }

    pub fn see(&mut self, topic: u16, partition: i32, offset: i64, value: Value) {
        let place = Place { topic, partition };
        self.history.events.push(Event::Seen { time_ms: 50_000, reader: TAIL, place, offset, value });
    }

    pub fn unsee(&mut self, by: u32, topic: u16, partition: i32, offset: i64) {
        self.history.events.retain(|event| {
            !matches!(event, Event::Seen { reader, place, offset: at, .. }
                if *reader == by && *place == Place { topic, partition } && *at == offset)
        });
    }

    pub fn watermark(
        &mut self,
        source: WatermarkSource,
        topic: u16,
        partition: i32,
        (asked_ms, time_ms): (u64, u64),
        offset: i64,
    ) {
        let place = Place { topic, partition };
        self.history.events.push(Event::HighWatermark { asked_ms, time_ms, source, place, offset });
    }
}

#[test]
fn a_clean_history_passes() {
    let findings = passes(&Plant::clean());
    assert_eq!(findings.kills, 2);
    assert_eq!(findings.topics[0].acked, RECORD_COUNT);
    assert_eq!(findings.topics[0].consumed, RECORD_COUNT);
    let letters = &findings.messages[usize::from(messages::LETTERS)];
    assert_eq!((letters.delivered, letters.redelivered, letters.settled, letters.dead_letters), (64, 64, 32, 32));
    let transactions = &findings.messages[usize::from(messages::TRANSACTION)];
    assert_eq!((transactions.committed, transactions.rolled_back, transactions.asked), (48, 16, 22));
}
