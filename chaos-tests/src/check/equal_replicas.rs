//! Replicas of a broker group that have applied the same log index have the same state, and in the end all have applied
//! the same.

use std::collections::BTreeMap;

use super::{Findings, View};
use crate::history::Event;

pub fn check(view: &View, findings: &mut Findings) {
    // (broker group, node) → (applied index, hash); the last report counts.
    let mut last: BTreeMap<(u32, u32), (u64, &str)> = BTreeMap::new();
    for event in &view.history.events {
        if let Event::StateHash { node, broker_group, applied_index, hash } = event {
            last.insert((*broker_group, *node), (*applied_index, hash));
        }
    }
    let mut reference: BTreeMap<u32, (u32, u64, &str)> = BTreeMap::new();
    for (&(broker_group, node), &(applied_index, hash)) in &last {
        let &mut (other, other_index, other_hash) =
            reference.entry(broker_group).or_insert((node, applied_index, hash));
        if applied_index != other_index {
            let text = format!(
                "broker group {broker_group}: node {node} stands at log index {applied_index}, node {other} at {other_index}"
            );
            findings.of_cluster("equal_replicas", text);
        } else if hash != other_hash {
            let text = format!(
                "broker group {broker_group} at log index {applied_index}: node {node} has state {hash}, node {other} {other_hash}"
            );
            findings.of_cluster("equal_replicas", text);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::{Plant, finds, passes};
    use crate::history::Event;

    fn with(states: &[(u32, u64, &str)]) -> Plant {
        let mut plant = Plant::clean();
        for &(node, applied_index, hash) in states {
            plant.history.events.push(Event::StateHash { node, broker_group: 2, applied_index, hash: hash.into() });
        }
        plant
    }

    #[test]
    fn unequal_replicas() {
        finds(&with(&[(0, 7, "aa"), (1, 7, "aa"), (2, 7, "bb")]), "equal_replicas");
    }

    #[test]
    fn a_replica_that_stays_behind() {
        finds(&with(&[(0, 7, "aa"), (1, 7, "aa"), (2, 6, "cc")]), "equal_replicas");
    }

    #[test]
    fn only_the_last_report_counts() {
        passes(&with(&[(0, 6, "xx"), (1, 7, "aa"), (0, 7, "aa")]));
    }
}
