//! No acknowledged record is lost beyond what the topic's mode allows.
//!
//! A topic with synchronous replication loses nothing. With `async/*` the loss of a record is excused only when
//! the leader that acknowledged it died, was paused or was cut off less than [`EXCUSE_MS`] after the acknowledgement, and never
//! when a consumer saw the record.
//!
//! ```text
//!            excused acknowledgements
//!         |◀── EXCUSE_MS ──▶|◀ LATE_REPORT_MS ▶|
//!  ───────┴─────────────────┴──────────────────┴──▶ time
//!                        fault
//! ```

use super::{Findings, View, view::Ack};
use crate::history::Sync;

/// The rule of the contract.
pub const EXCUSE_MS: u64 = 2_000;

/// A report that the leader sent before the fault may reach the producer's callback a little after it: the client's
/// threads share two cores with the nodes. Shorter than the shortest pause, so nothing that a leader answers *after* a pause
/// is excused.
pub const LATE_REPORT_MS: u64 = 400;

pub fn check(view: &View, findings: &mut Findings) {
    for ack in &view.acks {
        let counts = &mut findings.topics[usize::from(ack.place.topic)];
        counts.acked += 1;
        if view.is_in_final(ack.place, ack.value) {
            continue;
        }
        if excused(view, ack) {
            counts.lost_allowed += 1;
            continue;
        }
        counts.lost_violation += 1;
        let seen = if view.was_seen(ack.place, ack.value) { ", a consumer had seen it" } else { "" };
        let text = format!(
            "{:?} was acknowledged at {} ms as offset {:?} and is gone{seen}; {}",
            ack.value,
            ack.time_ms,
            ack.offset,
            last_fault_of_leader(view, ack)
        );
        findings.at("lost", ack.place, text);
    }
    for (topic, counts) in findings.topics.iter_mut().enumerate() {
        let of_topic = view.seen_values.iter().filter(|(place, _)| usize::from(place.topic) == topic);
        counts.consumed = of_topic.map(|(_, values)| values.len() as u64).sum();
    }
}

fn excused(view: &View, ack: &Ack) -> bool {
    view.topic(ack.place).replication == Sync::Async
        && !view.was_seen(ack.place, ack.value)
        && view.faults.iter().any(|fault| {
            Some(fault.node) == ack.by
                && fault.time_ms + LATE_REPORT_MS >= ack.time_ms
                && fault.time_ms < ack.time_ms + EXCUSE_MS
        })
}

fn last_fault_of_leader(view: &View, ack: &Ack) -> String {
    let next = view
        .faults
        .iter()
        .filter(|fault| Some(fault.node) == ack.by && fault.time_ms + LATE_REPORT_MS >= ack.time_ms)
        .min_by_key(|fault| fault.time_ms);
    match next {
        Some(fault) => {
            format!(
                "the next fault of node {}, which answered, was a {:?} at {} ms",
                fault.node, fault.fault, fault.time_ms
            )
        }
        None => format!("no fault hit the node that answered ({:?}) afterwards", ack.by),
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::{ASYNC, Plant, SYNC, finds, passes};
    use crate::history::Fault;

    #[test]
    fn a_loss_with_synchronous_replication() {
        let mut plant = Plant::clean();
        let lost = plant.lose_last_unseen(SYNC);
        plant.fault_of_leader(lost.time_ms + 100, Fault::Kill);
        finds(&plant, "lost");
    }

    #[test]
    fn an_async_loss_less_than_two_seconds_before_the_leader_goes_is_excused() {
        for fault in [Fault::Kill, Fault::Pause, Fault::CutOff] {
            for delay_ms in [0, 100, 1_999] {
                let mut plant = Plant::clean();
                let lost = plant.lose_last_unseen(ASYNC);
                plant.fault_of_leader(lost.time_ms + delay_ms, fault);
                let findings = passes(&plant);
                assert_eq!(findings.topics[usize::from(ASYNC)].lost_allowed, 1);
            }
        }
    }

    #[test]
    fn an_async_report_that_arrives_just_after_the_kill_is_excused() {
        let mut plant = Plant::clean();
        let lost = plant.lose_last_unseen(ASYNC);
        plant.fault_of_leader(lost.time_ms - super::LATE_REPORT_MS, Fault::Kill);
        passes(&plant);
    }

    #[test]
    fn an_async_loss_after_a_followers_kill() {
        let mut plant = Plant::clean();
        let lost = plant.lose_last_unseen(ASYNC);
        plant.fault_of_follower(lost.time_ms + 100, Fault::Kill);
        finds(&plant, "lost");
    }

    #[test]
    fn an_async_loss_five_seconds_before_a_kill() {
        for delay_ms in [2_000, 5_000] {
            let mut plant = Plant::clean();
            let lost = plant.lose_last_unseen(ASYNC);
            plant.fault_of_leader(lost.time_ms + delay_ms, Fault::Kill);
            finds(&plant, "lost");
        }
    }

    #[test]
    fn an_async_acknowledgement_after_the_pause() {
        let mut plant = Plant::clean();
        let lost = plant.lose_last_unseen(ASYNC);
        plant.fault_of_leader(lost.time_ms - super::LATE_REPORT_MS - 1, Fault::Pause);
        finds(&plant, "lost");
    }

    #[test]
    fn an_async_loss_of_a_seen_record() {
        let mut plant = Plant::clean();
        let lost = plant.lose_last_seen(ASYNC);
        plant.fault_of_leader(lost.time_ms + 100, Fault::Kill);
        finds(&plant, "lost");
        finds(&plant, "stable_reads");
    }

    #[test]
    fn a_loss_of_a_record_acknowledged_without_an_offset() {
        let mut plant = Plant::clean();
        plant.lose_last_unseen(SYNC);
        plant.forget_acked_offsets();
        finds(&plant, "lost");
    }
}
