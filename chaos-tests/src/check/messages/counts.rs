//! What was done in each topic of RocketMQ clients, for the report.

use std::collections::BTreeSet;

use serde::Serialize;

use super::view::MessageView;
use crate::check::Findings;
use crate::history::Value;
use crate::history::messages::{End, Form, Outcome};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MessageCounts {
    /// Messages whose send was acknowledged.
    pub acked: u64,
    /// Attempts to send whose fate is unknown.
    pub open: u64,
    /// Attempts to send that were refused.
    pub refused: u64,
    /// Distinct messages that consumers were given.
    pub delivered: u64,
    /// Deliveries of one that was delivered before.
    pub redelivered: u64,
    /// Messages whose acknowledgement was answered OK.
    pub settled: u64,
    /// Transactions whose end was answered OK, and those among them that the broker had asked for.
    pub committed: u64,
    pub rolled_back: u64,
    pub asked: u64,
    pub delayed: u64,
    pub recalled: u64,
    /// Recalls that came too late.
    pub recalled_late: u64,
    pub dead_letters: u64,
    /// Longest time of the load without an acknowledged send.
    pub longest_no_ack_ms: u64,
}

pub fn count(view: &MessageView, findings: &mut Findings) {
    findings.messages = (0..view.topics.len() as u16).map(|topic| of_topic(view, topic)).collect();
}

fn of_topic(view: &MessageView, topic: u16) -> MessageCounts {
    let mut counts = MessageCounts { longest_no_ack_ms: longest_no_ack_ms(view, topic), ..MessageCounts::default() };
    for sends in view.sends.values().filter(|sends| sends.topic == topic) {
        let is_acked = sends.acked_ms().is_some();
        counts.acked += u64::from(is_acked);
        counts.delayed += u64::from(is_acked && matches!(sends.form, Form::Delayed { .. }));
        for attempt in &sends.attempts {
            match attempt.outcome {
                Outcome::Ok => {}
                Outcome::Refused(_) => counts.refused += 1,
                Outcome::Open(_) => counts.open += 1,
            }
        }
    }
    for (_, deliveries) in view.deliveries_at.iter().filter(|(spot, _)| spot.topic == topic) {
        counts.delivered += 1;
        counts.redelivered += deliveries.len() as u64 - 1;
    }
    let settles = view.settles.iter().filter(|(spot, _)| spot.topic == topic);
    counts.settled = settles.filter(|(_, of)| of.iter().any(|settle| *settle.outcome == Outcome::Ok)).count() as u64;
    let is_here = |value: &Value| view.sends.get(value).is_some_and(|sends| sends.topic == topic);
    for (_, ends) in view.ends.iter().filter(|(value, _)| is_here(value)) {
        let mut transactions = BTreeSet::new();
        for ended in ends.iter().filter(|ended| *ended.outcome == Outcome::Ok) {
            if transactions.insert(ended.transaction) {
                match ended.end {
                    End::Commit => counts.committed += 1,
                    End::RollBack => counts.rolled_back += 1,
                }
                counts.asked += u64::from(ended.asked);
            }
        }
    }
    for recall in view.recalls.iter().filter(|(value, _)| is_here(value)).flat_map(|(_, recalls)| recalls) {
        counts.recalled += u64::from(*recall.outcome == Outcome::Ok);
        counts.recalled_late += u64::from(matches!(recall.outcome, Outcome::Refused(_)));
    }
    counts.dead_letters = view.dead_letters.keys().filter(|spot| spot.topic == topic).count() as u64;
    counts
}

fn longest_no_ack_ms(view: &MessageView, topic: u16) -> u64 {
    let load = view.run.load_begin_ms..view.run.load_end_ms;
    let acks = view.sends.values().filter(|sends| sends.topic == topic).filter_map(|sends| sends.acked_ms());
    let mut times: Vec<u64> = acks.filter(|time_ms| load.contains(time_ms)).collect();
    times.sort_unstable();
    let (mut longest, mut last) = (0, load.start);
    for time_ms in times.into_iter().chain([load.end]) {
        longest = longest.max(time_ms - last);
        last = time_ms;
    }
    longest
}
