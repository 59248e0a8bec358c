//! What a durability promises, in words: the table of `docs/durability.md`.

use duolog_types::{AckPoint, Durability, FlushMode, ReplicationMode};
use serde::Serialize;

/// Promises about the loss of one machine need as many.
pub(super) const REPLICAS_FOR_PROMISES: usize = 3;

/// When a producer is answered, and what its record then survives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Promise {
    pub(super) ack_point: &'static str,
    pub(super) answered_when: &'static str,
    /// kill -9 of any minority of nodes.
    pub(super) kill_of_minority: &'static str,
    pub(super) power_loss_of_one_machine: &'static str,
    pub(super) power_loss_of_all_machines: &'static str,
}

const KEPT: &str = "kept";
const TAIL: &str = "what only a lost leader had may be lost";
const INTERVAL: &str = "the last flush interval may be lost";

/// With three replicas or more.
pub(super) fn promise(durability: Durability) -> Promise {
    let (ack_point, answered_when) = match durability.ack_point() {
        AckPoint::Committed => ("committed", "on the disks of a quorum"),
        AckPoint::Received => ("received", "in the page cache of a quorum"),
        AckPoint::Flushed => ("flushed", "on the leader's disk"),
        AckPoint::Appended => ("appended", "in the leader's page cache"),
    };
    let one = match durability.replication {
        ReplicationMode::Sync => KEPT,
        ReplicationMode::Async => TAIL,
    };
    let all = match (durability.replication, durability.flush) {
        (_, FlushMode::Async) => INTERVAL,
        (ReplicationMode::Sync, FlushMode::Sync) => KEPT,
        (ReplicationMode::Async, FlushMode::Sync) => "kept, if that machine returns before a leader is elected",
    };
    Promise {
        ack_point,
        answered_when,
        kill_of_minority: one,
        power_loss_of_one_machine: one,
        power_loss_of_all_machines: all,
    }
}

/// What is left of the promises with fewer replicas.
pub(super) fn note(replicas: usize) -> Option<String> {
    let left = match replicas {
        0 => return None,
        1 => "with its machine everything is lost, and its page cache with the power",
        2 => "while one of them is away nothing is acknowledged by a quorum and nobody can be elected",
        _ => return None,
    };
    Some(format!(
        "promises about the loss of one machine need {REPLICAS_FOR_PROMISES} replicas, this topic has {replicas}: {left}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_table_holds() {
        let rows = Durability::ALL.map(|mode| {
            let Promise { ack_point, kill_of_minority, power_loss_of_one_machine, power_loss_of_all_machines, .. } =
                promise(mode);
            (ack_point, kill_of_minority, power_loss_of_one_machine, power_loss_of_all_machines)
        });
        assert_eq!(
            rows,
            [
                ("committed", KEPT, KEPT, KEPT),
                ("received", KEPT, KEPT, INTERVAL),
                ("flushed", TAIL, TAIL, "kept, if that machine returns before a leader is elected"),
                ("appended", TAIL, TAIL, INTERVAL),
            ]
        );
    }

    #[test]
    fn fewer_than_three_replicas_are_noted() {
        assert!(note(1).is_some_and(|note| note.contains("need 3 replicas, this topic has 1")));
        assert!(note(2).is_some());
        assert_eq!((note(0), note(3), note(5)), (None, None, None));
    }
}
