//! No acknowledged record is lost beyond what the topic's mode allows.
//!
//! A topic with synchronous replication loses nothing. With `async/*` the loss of a record is excused only when a fault that can end
//! leadership ([`Reach`]) hit the leader that acknowledged it less than [`EXCUSE_MS`] after the acknowledgement, and never when a
//! consumer saw the record. A leader that another fault had left alone, and that acknowledged nothing any more once its lease was over,
//! could give the record to nobody until that fault hit it: then the time counts from its being alone. A clean stop, a transfer of
//! leadership, a full or slow disk and a wrong clock excuse nothing.
//!
//! ```text
//!            excused acknowledgements
//!         |◀── EXCUSE_MS ──▶|◀ the fault's reach ▶|◀ LATE_REPORT_MS ▶|
//!  ───────┴─────────────────┴─────────────────────┴──────────────────┴──▶ time
//!                         fault
//! ```

use super::view::{Ack, FaultAt};
use super::{Findings, View};
use crate::history::{Fault, Sync};

/// The rule of the contract.
pub const EXCUSE_MS: u64 = 2_000;

/// A report that the leader sent before the fault may reach the producer's callback a little after it: the client's
/// threads share two cores with the nodes. Shorter than the shortest pause, so nothing that a leader answers *after* a pause
/// is excused.
pub const LATE_REPORT_MS: u64 = 400;

/// A leader that is cut off goes on for a lease at most: `raft.election_timeout_max_ms`, by its default.
pub const LEASE_MS: u64 = 400;

/// How long after its beginning a fault can be the reason that a leader's acknowledgement is lost.
enum Reach {
    /// Never: leadership is handed over, or stays.
    Not,
    /// The process acknowledges nothing after it.
    AtOnce,
    /// The leader knows after its lease at the latest that it may be none any more.
    Lease,
    /// At any moment another leader may be elected.
    WhileItLasts,
}

fn reach(fault: Fault) -> Reach {
    match fault {
        Fault::Kill | Fault::Pause | Fault::PowerLoss => Reach::AtOnce,
        Fault::CutOff => Reach::Lease,
        Fault::Links | Fault::FailingDisk => Reach::WhileItLasts,
        Fault::Stop
        | Fault::Transfer
        | Fault::FullDisk
        | Fault::SlowDisk
        | Fault::Clock
        | Fault::Members
        | Fault::FlippedBit => Reach::Not,
    }
}

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
        && view
            .faults
            .iter()
            .filter(|fault| Some(fault.node) == ack.by)
            .any(|fault| passed_on_until(view, ack, fault).any(|passed_ms| excuses(fault, ack.time_ms, passed_ms)))
}

/// Until when the node that answered could pass the record on, before a fault hit it: until then at the latest, or until it was left alone,
/// as far as faults of others can be the reason.
fn passed_on_until<'a>(view: &'a View, ack: &'a Ack, fault: &'a FaultAt) -> impl Iterator<Item = u64> + 'a {
    let others = view.faults.iter().filter(|other| other.node != fault.node);
    let lasting = others.filter(|other| {
        let ends_ms = other.end_ms.unwrap_or(u64::MAX);
        !matches!(reach(other.fault), Reach::Not) && other.time_ms < fault.time_ms && ends_ms >= fault.time_ms
    });
    let alone = lasting.map(|other| other.time_ms).filter(|since_ms| {
        let silent = since_ms + LEASE_MS + LATE_REPORT_MS..fault.time_ms;
        !silent.is_empty() && !view.acks.iter().any(|later| later.by == ack.by && silent.contains(&later.time_ms))
    });
    std::iter::once(fault.time_ms).chain(alone)
}

/// Whether a record may be gone that the leader acknowledged at this time and could have passed on until `passed_ms`.
fn excuses(fault: &FaultAt, acked_ms: u64, passed_ms: u64) -> bool {
    let last_ms = match reach(fault.fault) {
        Reach::Not => return false,
        Reach::AtOnce => fault.time_ms,
        Reach::Lease => fault.time_ms + LEASE_MS,
        Reach::WhileItLasts => fault.end_ms.unwrap_or(u64::MAX - LATE_REPORT_MS),
    };
    last_ms + LATE_REPORT_MS >= acked_ms && passed_ms < acked_ms + EXCUSE_MS
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
        for fault in [Fault::Kill, Fault::Pause, Fault::CutOff, Fault::PowerLoss, Fault::FailingDisk] {
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

    /// A follower goes first, for longer than the leader stays.
    fn left_alone(others_delay_ms: u64, leaders_delay_ms: u64) -> Plant {
        let mut plant = Plant::clean();
        let lost = plant.lose_last_unseen(ASYNC);
        plant.fault_of_follower(lost.time_ms + others_delay_ms, Fault::Kill);
        plant.last_fault_ends(lost.time_ms + leaders_delay_ms + 1);
        plant.fault_of_leader(lost.time_ms + leaders_delay_ms, Fault::Kill);
        plant
    }

    #[test]
    fn an_async_loss_by_a_leader_that_was_left_alone_until_it_went() {
        passes(&left_alone(0, 5_000));
        passes(&left_alone(1_999, 5_000));
        finds(&left_alone(2_000, 5_000), "lost");
        finds(&left_alone(1_999, 1_999 + super::LEASE_MS + super::LATE_REPORT_MS), "lost");
    }

    #[test]
    fn an_async_loss_by_a_leader_that_had_another_follower() {
        let mut plant = left_alone(100, 5_000);
        plant.acknowledge_once_more(4_000);
        finds(&plant, "lost");
    }

    #[test]
    fn an_async_loss_after_the_other_node_was_back() {
        let mut plant = Plant::clean();
        let lost = plant.lose_last_unseen(ASYNC);
        plant.fault_of_follower(lost.time_ms + 100, Fault::Kill);
        plant.fault_of_leader(lost.time_ms + 5_000, Fault::Kill);
        finds(&plant, "lost");
    }

    #[test]
    fn an_async_acknowledgement_after_the_pause() {
        let mut plant = Plant::clean();
        let lost = plant.lose_last_unseen(ASYNC);
        plant.fault_of_leader(lost.time_ms - super::LATE_REPORT_MS - 1, Fault::Pause);
        finds(&plant, "lost");
    }

    #[test]
    fn an_async_acknowledgement_after_a_cut_off_leaders_lease() {
        let after = |delay_ms| {
            let mut plant = Plant::clean();
            let lost = plant.lose_last_unseen(ASYNC);
            plant.fault_of_leader(lost.time_ms - super::LEASE_MS - super::LATE_REPORT_MS - delay_ms, Fault::CutOff);
            plant
        };
        passes(&after(0));
        finds(&after(1), "lost");
    }

    /// The planted faults last 500 ms.
    #[test]
    fn an_async_loss_is_excused_as_long_as_links_are_bad_and_not_longer() {
        let after = |delay_ms| {
            let mut plant = Plant::clean();
            let lost = plant.lose_last_unseen(ASYNC);
            plant.fault_of_leader(lost.time_ms - 500 - super::LATE_REPORT_MS - delay_ms, Fault::Links);
            plant
        };
        passes(&after(0));
        finds(&after(1), "lost");
    }

    #[test]
    fn faults_that_take_nothing_excuse_nothing() {
        for fault in [
            Fault::Stop,
            Fault::Transfer,
            Fault::FullDisk,
            Fault::SlowDisk,
            Fault::Clock,
            Fault::Members,
            Fault::FlippedBit,
        ] {
            let mut plant = Plant::clean();
            let lost = plant.lose_last_unseen(ASYNC);
            plant.fault_of_leader(lost.time_ms + 10, fault);
            finds(&plant, "lost");
        }
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
