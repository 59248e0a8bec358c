//! After the faults end every node gets ready, and every topic takes a record per partition and serves it.

use super::{Findings, View};
use crate::history::Event;

pub fn check(view: &View, findings: &mut Findings) {
    for event in &view.history.events {
        if let &Event::Probe { topic, waited_ms, acked, seen } = event
            && !(acked && seen)
        {
            let what = if acked { "serves no new record" } else { "takes no record" };
            findings.of_topic("liveness", topic, format!("{what} {waited_ms} ms after the faults ended"));
        }
    }
    for event in &view.history.events {
        if let Event::NodeNotReady { node, waited_ms } = event {
            findings.of_cluster("liveness", format!("node {node} is not ready {waited_ms} ms after the faults ended"));
        }
    }
    for (topic, of_topic) in (0u16..).zip(&view.history.topics) {
        for partition in 0..of_topic.partition_count {
            let ended = view.history.events.iter().any(
                |event| matches!(event, Event::FinalEnd { place, .. } if place.topic == topic && place.partition == partition),
            );
            if !ended {
                findings.of_topic("liveness", topic, format!("partition {partition} could not be read in the end"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::{Plant, SYNC, finds};
    use crate::history::Event;

    #[test]
    fn a_topic_that_takes_or_serves_nothing() {
        for (acked, seen) in [(false, false), (true, false)] {
            let mut plant = Plant::clean();
            plant.history.events.push(Event::Probe { topic: SYNC, waited_ms: 30_000, acked, seen });
            finds(&plant, "liveness");
        }
    }

    #[test]
    fn a_node_that_does_not_come_back() {
        let mut plant = Plant::clean();
        plant.history.events.push(Event::NodeNotReady { node: 1, waited_ms: 60_000 });
        finds(&plant, "liveness");
    }

    #[test]
    fn a_partition_without_an_end() {
        let mut plant = Plant::clean();
        plant.history.events.retain(|event| !matches!(event, Event::FinalEnd { .. }));
        finds(&plant, "liveness");
    }
}
