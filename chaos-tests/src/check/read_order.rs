//! A reader's poll never skips, never goes back, and is never told that its position does not exist.
//!
//! A group's member may begin anywhere after an assignment: `committed_offsets` judges where.

use std::collections::BTreeMap;

use super::{Findings, View};
use crate::history::{Event, Place};

pub fn check(view: &View, findings: &mut Findings) {
    let mut next: BTreeMap<(u32, Place), i64> = BTreeMap::new();
    for event in &view.history.events {
        match event {
            &Event::Seen { time_ms, reader, place, offset, .. } => {
                if let Some(expected) = next.insert((reader, place), offset + 1)
                    && expected != offset
                {
                    let text =
                        format!("reader {reader} was given offset {offset} at {time_ms} ms, {expected} was next");
                    findings.at("read_order", place, text);
                }
            }
            Event::ReaderReset { time_ms, reader, place, error } => {
                next.remove(&(*reader, *place));
                findings.at(
                    "read_order",
                    *place,
                    format!("reader {reader} lost its position at {time_ms} ms: {error}"),
                );
            }
            Event::Assigned { reader, place, .. } => {
                next.remove(&(*reader, *place));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::{Plant, SYNC, TAIL, finds};
    use crate::history::{Event, Place};

    #[test]
    fn a_skipped_record() {
        let mut plant = Plant::clean();
        plant.unsee(TAIL, SYNC, 0, 3);
        finds(&plant, "read_order");
    }

    #[test]
    fn a_record_read_again() {
        let mut plant = Plant::clean();
        let value = plant.final_at(SYNC, 0, 2);
        plant.see(SYNC, 0, 2, value);
        finds(&plant, "read_order");
    }

    #[test]
    fn a_position_that_does_not_exist() {
        let mut plant = Plant::clean();
        let place = Place { topic: SYNC, partition: 0 };
        let error = "offset out of range".to_string();
        plant.history.events.push(Event::ReaderReset { time_ms: 9, reader: TAIL, place, error });
        finds(&plant, "read_order");
    }
}
