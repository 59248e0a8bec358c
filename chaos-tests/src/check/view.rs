//! A history, indexed the ways that the checkers ask for.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Event, Fault, History, Place, Topic, Value};

pub struct View<'a> {
    pub history: &'a History,
    pub acks: Vec<Ack>,
    pub faults: Vec<FaultAt>,
    /// Per partition, the records of the final read in the order of reading: (offset, value).
    pub finals: BTreeMap<Place, Vec<(i64, Value)>>,
    /// Per partition, what the final read holds at an offset. Of a repeated offset the first.
    pub final_by_offset: BTreeMap<Place, BTreeMap<i64, Value>>,
    /// Per partition, the values of the final read.
    pub final_values: BTreeMap<Place, BTreeSet<Value>>,
    /// Per partition, the values that any consumer saw.
    pub seen_values: BTreeMap<Place, BTreeSet<Value>>,
}

/// A positive delivery report.
#[derive(Debug, Clone, Copy)]
pub struct Ack {
    pub time_ms: u64,
    pub place: Place,
    pub offset: Option<i64>,
    pub value: Value,
    /// The node whose answer it was.
    pub by: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
pub struct FaultAt {
    pub time_ms: u64,
    pub round: u32,
    pub node: u32,
    pub fault: Fault,
    /// None: it was not over in the end.
    pub end_ms: Option<u64>,
}

impl<'a> View<'a> {
    pub fn new(history: &'a History) -> View<'a> {
        let mut view = View {
            history,
            acks: Vec::new(),
            faults: Vec::new(),
            finals: BTreeMap::new(),
            final_by_offset: BTreeMap::new(),
            final_values: BTreeMap::new(),
            seen_values: BTreeMap::new(),
        };
        for event in &history.events {
            view.take(event);
        }
        view
    }

    pub fn topic(&self, place: Place) -> &Topic {
        &self.history.topics[usize::from(place.topic)]
    }

    pub fn final_value(&self, place: Place, offset: i64) -> Option<Value> {
        self.final_by_offset.get(&place)?.get(&offset).copied()
    }

    pub fn is_in_final(&self, place: Place, value: Value) -> bool {
        self.final_values.get(&place).is_some_and(|values| values.contains(&value))
    }

    pub fn was_seen(&self, place: Place, value: Value) -> bool {
        self.seen_values.get(&place).is_some_and(|values| values.contains(&value))
    }

    fn take(&mut self, event: &Event) {
        match *event {
            Event::Acked { time_ms, place, offset, value, by, .. } => {
                self.acks.push(Ack { time_ms, place, offset, value, by });
            }
            Event::FaultBegan { time_ms, round, node, fault, .. } => {
                self.faults.push(FaultAt { time_ms, round, node, fault, end_ms: None });
            }
            Event::FaultEnded { time_ms, node } => {
                for fault in self.faults.iter_mut().filter(|fault| fault.node == node && fault.end_ms.is_none()) {
                    fault.end_ms = Some(time_ms);
                }
            }
            Event::FinalRecord { place, offset, value } => {
                self.finals.entry(place).or_default().push((offset, value));
                self.final_by_offset.entry(place).or_default().entry(offset).or_insert(value);
                self.final_values.entry(place).or_default().insert(value);
            }
            Event::Seen { place, value, .. } => {
                self.seen_values.entry(place).or_default().insert(value);
            }
            _ => {}
        }
    }
}
