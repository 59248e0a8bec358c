//! What a consumer saw at an offset stays there, unchanged, in every mode.

use std::collections::BTreeSet;

use super::{Findings, View};
use crate::history::Event;

pub fn check(view: &View, findings: &mut Findings) {
    // Several readers see one record: it is reported once.
    let mut reported = BTreeSet::new();
    for event in &view.history.events {
        let &Event::Seen { time_ms, reader, place, offset, value } = event else { continue };
        let now = view.final_value(place, offset);
        if now == Some(value) || !reported.insert((place, offset, value)) {
            continue;
        }
        let became = match now {
            Some(other) => format!("now holds {other:?}"),
            None => "is gone".to_string(),
        };
        findings.at(
            "stable_reads",
            place,
            format!("reader {reader} saw {value:?} at {time_ms} ms, offset {offset} {became}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::{ASYNC, Plant, SYNC, finds};
    use crate::history::Value;

    #[test]
    fn a_changed_record() {
        for topic in [SYNC, ASYNC] {
            let mut plant = Plant::clean();
            plant.change_final(topic, 0, 3, Value::Foreign { digest: 9 });
            finds(&plant, "stable_reads");
        }
    }

    #[test]
    fn a_seen_record_that_nobody_acknowledged_and_that_is_gone() {
        let mut plant = Plant::clean();
        let end = plant.end(ASYNC, 0);
        plant.see(ASYNC, 0, end, Value::Sent { producer: 1, sequence: 3 });
        finds(&plant, "stable_reads");
    }
}
