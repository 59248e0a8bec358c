//! No node ends by itself, panics or leaves its log damaged, and no client library ends its producer: clients must be able to go on.

use super::{Findings, View};
use crate::history::Event;

pub fn check(view: &View, findings: &mut Findings) {
    for event in &view.history.events {
        match event {
            Event::NodeExited { time_ms, node, status } => {
                findings.of_cluster("processes", format!("node {node} ended by itself at {time_ms} ms: {status}"));
            }
            Event::NodeNotEnded { time_ms, node, why } => {
                findings.of_cluster("processes", format!("node {node} did not end at {time_ms} ms: {why}"));
            }
            Event::NotRepaired { time_ms, node, file } => {
                findings.of_cluster("processes", format!("node {node} has not repaired {file} at {time_ms} ms"));
            }
            Event::NodePanicked { node, line } => {
                findings.of_cluster("processes", format!("node {node} panicked: {line}"));
            }
            Event::ProducerDied { time_ms, topic, producer, error } => {
                findings.of_topic("processes", *topic, format!("producer {producer} died at {time_ms} ms: {error}"));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::{Plant, SYNC, finds};
    use crate::history::Event;

    #[test]
    fn each_end_is_found() {
        for event in [
            Event::NodeExited { time_ms: 5, node: 1, status: "exit status: 1".into() },
            Event::NodeNotEnded { time_ms: 5, node: 1, why: "its flushes fail".into() },
            Event::NotRepaired { time_ms: 5, node: 1, file: "1.segment".into() },
            Event::NodePanicked { node: 1, line: "panicked at".into() },
            Event::ProducerDied { time_ms: 5, topic: SYNC, producer: 1, error: "OUT_OF_ORDER_SEQUENCE".into() },
        ] {
            let mut plant = Plant::clean();
            plant.history.events.push(event);
            finds(&plant, "processes");
        }
    }
}
