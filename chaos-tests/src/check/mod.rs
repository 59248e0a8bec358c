//! The properties that a recorded history must have, one file per property.
//!
//! Each file has one `check(&View, &mut Findings)`. Whether a finding is a violation or only makes the run worthless
//! ([`Findings::inconclusive`]) is the checker's decision; a run passes when it has neither.

pub mod acked_offset;
pub mod committed_offsets;
pub mod dense;
pub mod duplicates;
pub mod enough;
pub mod equal_replicas;
pub mod high_watermark;
pub mod liveness;
pub mod lost;
pub mod messages;
pub mod order;
#[cfg(test)]
pub mod planted;
pub mod processes;
pub mod read_order;
pub mod stable_reads;
mod view;

pub use view::View;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::history::{History, Place};
use messages::MessageCounts;

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The checker's name: the file that found it.
    pub property: &'static str,
    pub topic: Option<u16>,
    /// Says what, where and when, for a reader who has the history at hand.
    pub text: String,
}

/// What became of one topic's acknowledged records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TopicCounts {
    pub acked: u64,
    /// Distinct records that a consumer saw.
    pub consumed: u64,
    /// Acknowledged, gone, and excused by the mode.
    pub lost_allowed: u64,
    /// Acknowledged, gone, and not excused.
    pub lost_violation: u64,
    /// Records that lie in the log a second time.
    pub duplicates: u64,
    /// Longest time of the load without an acknowledgement.
    pub longest_no_ack_ms: u64,
}

#[derive(Debug, Default)]
pub struct Findings {
    pub violations: Vec<Violation>,
    /// Why the run proves too little.
    pub inconclusive: Vec<String>,
    /// Indexed like [`History::topics`].
    pub topics: Vec<TopicCounts>,
    /// Indexed like [`History::message_topics`].
    pub messages: Vec<MessageCounts>,
    pub kills: u64,
    pub pauses: u64,
    /// Rounds by [`Fault::as_str`](crate::history::Fault::as_str).
    pub faults: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Passed,
    Inconclusive,
    Violated,
}

impl Findings {
    pub fn verdict(&self) -> Verdict {
        match (self.violations.is_empty(), self.inconclusive.is_empty()) {
            (false, _) => Verdict::Violated,
            (true, false) => Verdict::Inconclusive,
            (true, true) => Verdict::Passed,
        }
    }

    fn at(&mut self, property: &'static str, place: Place, text: String) {
        let text = format!("partition {}: {text}", place.partition);
        self.violations.push(Violation { property, topic: Some(place.topic), text });
    }

    fn of_topic(&mut self, property: &'static str, topic: u16, text: String) {
        self.violations.push(Violation { property, topic: Some(topic), text });
    }

    fn of_cluster(&mut self, property: &'static str, text: String) {
        self.violations.push(Violation { property, topic: None, text });
    }
}

/// Runs every checker.
pub fn check(history: &History) -> Findings {
    let view = View::new(history);
    let mut findings = Findings { topics: vec![TopicCounts::default(); history.topics.len()], ..Findings::default() };
    lost::check(&view, &mut findings);
    acked_offset::check(&view, &mut findings);
    duplicates::check(&view, &mut findings);
    dense::check(&view, &mut findings);
    stable_reads::check(&view, &mut findings);
    read_order::check(&view, &mut findings);
    order::check(&view, &mut findings);
    high_watermark::check(&view, &mut findings);
    committed_offsets::check(&view, &mut findings);
    equal_replicas::check(&view, &mut findings);
    liveness::check(&view, &mut findings);
    processes::check(&view, &mut findings);
    enough::check(&view, &mut findings);
    messages::check(history, &mut findings);
    findings
}
