//! What the plots show, second by second, computed from a history.

use std::collections::BTreeMap;

use crate::history::messages::{MessageEvent, Outcome};
use crate::history::{Event, Fault, History, Place};

/// Shorter times without an acknowledgement are no unavailability: the client's own waits are as long.
pub const GAP_MS_MIN: u64 = 500;

pub struct Timeline {
    /// The latest time of an acknowledgement or a fault: then comes the final read.
    pub end_ms: u64,
    pub lines: Vec<Line>,
    pub bands: Vec<Band>,
}

/// The acknowledgements of one mode, or of all RocketMQ clients.
pub struct Line {
    pub name: String,
    /// Per second from the run's start.
    pub acked: Vec<u32>,
    /// Per second, median and 99th percentile in milliseconds; None without an acknowledgement that says when it was sent.
    pub latency: Vec<Option<(u64, u64)>>,
    /// Half-open times of the load without an acknowledgement, of [`GAP_MS_MIN`] and more.
    pub gaps: Vec<(u64, u64)>,
}

/// A fault of a node, from its beginning to its end.
pub struct Band {
    pub node: u32,
    pub fault: Fault,
    pub begin_ms: u64,
    pub end_ms: u64,
    pub leads: usize,
    pub detail: String,
}

impl Timeline {
    pub fn new(history: &History) -> Timeline {
        let end_ms = history.events.iter().filter_map(time_of).max().unwrap_or(0).max(history.run.load_end_ms);
        let mut acks: BTreeMap<String, Vec<(u64, Option<u64>)>> = BTreeMap::new();
        for topic in &history.topics {
            acks.entry(topic.mode()).or_default();
        }
        for event in &history.events {
            match event {
                Event::Acked { sent_ms, time_ms, place: Place { topic, .. }, .. } => {
                    let took = sent_ms.map(|sent_ms| time_ms.saturating_sub(sent_ms));
                    acks.entry(history.topics[usize::from(*topic)].mode()).or_default().push((*time_ms, took));
                }
                Event::Message(MessageEvent::Sent { asked_ms, time_ms, outcome: Outcome::Ok, .. }) => {
                    let took = Some(time_ms.saturating_sub(*asked_ms));
                    acks.entry("RocketMQ".to_string()).or_default().push((*time_ms, took));
                }
                _ => {}
            }
        }
        let load = (history.run.load_begin_ms, history.run.load_end_ms);
        let lines = acks.into_iter().map(|(name, acks)| line(name, acks, load, end_ms)).collect();
        Timeline { end_ms, lines, bands: bands(history, end_ms) }
    }
}

fn line(name: String, mut acks: Vec<(u64, Option<u64>)>, load: (u64, u64), end_ms: u64) -> Line {
    acks.sort_unstable();
    let seconds = (end_ms / 1_000 + 1) as usize;
    let mut acked = vec![0; seconds];
    let mut took: Vec<Vec<u64>> = vec![Vec::new(); seconds];
    for (time_ms, took_ms) in &acks {
        let second = (time_ms / 1_000) as usize;
        acked[second] += 1;
        took[second].extend(took_ms);
    }
    let in_load = acks.iter().map(|(time_ms, _)| *time_ms).filter(|time_ms| (load.0..load.1).contains(time_ms));
    let mut gaps = Vec::new();
    let mut last_ms = load.0;
    for time_ms in in_load.chain([load.1]) {
        if time_ms - last_ms >= GAP_MS_MIN {
            gaps.push((last_ms, time_ms));
        }
        last_ms = time_ms;
    }
    Line { name, acked, latency: took.into_iter().map(percentiles).collect(), gaps }
}

fn percentiles(mut took_ms: Vec<u64>) -> Option<(u64, u64)> {
    took_ms.sort_unstable();
    let last = took_ms.len().checked_sub(1)?;
    Some((took_ms[last / 2], took_ms[last * 99 / 100]))
}

fn bands(history: &History, end_ms: u64) -> Vec<Band> {
    let mut bands: Vec<Band> = Vec::new();
    let mut open: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for event in &history.events {
        match event {
            Event::FaultBegan { time_ms, node, fault, leads, detail, .. } => {
                open.entry(*node).or_default().push(bands.len());
                let (node, fault, begin_ms, leads, detail) = (*node, *fault, *time_ms, leads.len(), detail.clone());
                bands.push(Band { node, fault, begin_ms, end_ms, leads, detail });
            }
            // One end ends all that hurts the node.
            Event::FaultEnded { time_ms, node } => {
                for index in open.remove(node).into_iter().flatten() {
                    bands[index].end_ms = *time_ms;
                }
            }
            _ => {}
        }
    }
    bands
}

fn time_of(event: &Event) -> Option<u64> {
    match event {
        Event::Acked { time_ms, .. }
        | Event::NotAcked { time_ms, .. }
        | Event::FaultBegan { time_ms, .. }
        | Event::FaultEnded { time_ms, .. }
        | Event::Message(MessageEvent::Sent { time_ms, .. }) => Some(*time_ms),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::planted::{ASYNC, Plant};

    #[test]
    fn a_gap_is_found_with_its_ends_and_a_fault_with_its_length() {
        let mut plant = Plant::clean();
        plant.history.events.retain(|event| match event {
            Event::Acked { place, time_ms, .. } => place.topic != ASYNC || !(3_000..6_000).contains(time_ms),
            _ => true,
        });
        let timeline = Timeline::new(&plant.history);
        let gaps = |name: &str| timeline.lines.iter().find(|line| line.name == name).expect("a line").gaps.clone();
        assert_eq!(gaps("sync/async"), []);
        assert_eq!(gaps("async/async"), [(2_992, 6_000)]);
        let bands: Vec<_> = timeline.bands.iter().map(|band| (band.node, band.begin_ms, band.end_ms)).collect();
        assert_eq!(bands, [(1, 2_000, 2_500), (1, 7_000, 7_500)]);
    }

    #[test]
    fn percentiles_are_those_of_the_second() {
        assert_eq!(percentiles(vec![]), None);
        assert_eq!(percentiles((0..=100).rev().collect()), Some((50, 99)));
    }
}
