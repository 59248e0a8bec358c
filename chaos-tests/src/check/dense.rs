//! A partition's offsets are dense from 0 to the high watermark, and hold only what was sent to the partition.

use std::collections::BTreeMap;

use super::{Findings, View};
use crate::history::{Event, Place, Value};

pub fn check(view: &View, findings: &mut Findings) {
    let sent = sent_per_producer(view);
    for event in &view.history.events {
        if let &Event::FinalEnd { place, log_start_offset, high_watermark, read_all } = event {
            if read_all {
                check_offsets(view, findings, place, log_start_offset, high_watermark);
            } else {
                findings.at("dense", place, format!("could not be read up to its high watermark {high_watermark}"));
            }
        }
    }
    for (place, records) in &view.finals {
        for (offset, value) in records {
            if !was_sent(&sent, *place, *value) {
                findings.at(
                    "dense",
                    *place,
                    format!("offset {offset} holds {value:?}, which nobody sent to this topic"),
                );
            }
        }
    }
}

fn check_offsets(view: &View, findings: &mut Findings, place: Place, log_start_offset: i64, high_watermark: i64) {
    if log_start_offset != 0 {
        findings.at("dense", place, format!("begins at offset {log_start_offset}, no retention was configured"));
    }
    let mut expected = log_start_offset;
    for &(offset, _) in view.finals.get(&place).into_iter().flatten() {
        if offset != expected {
            findings.at("dense", place, format!("offset {expected} was expected, {offset} was read"));
        }
        expected = offset + 1;
    }
    if expected != high_watermark {
        findings.at("dense", place, format!("ends at offset {expected}, its high watermark is {high_watermark}"));
    }
}

/// (topic, producer) → number of records handed over.
fn sent_per_producer(view: &View) -> BTreeMap<(u16, u32), u64> {
    let ends = view.history.events.iter().filter_map(|event| match *event {
        Event::ProducerEnded { topic, producer, sent } => Some(((topic, producer), sent)),
        _ => None,
    });
    ends.collect()
}

fn was_sent(sent: &BTreeMap<(u16, u32), u64>, place: Place, value: Value) -> bool {
    match value {
        Value::Sent { producer, sequence } => sent.get(&(place.topic, producer)).is_some_and(|sent| sequence < *sent),
        Value::Foreign { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::{Plant, SYNC, finds};
    use crate::history::Value;

    #[test]
    fn a_hole() {
        let mut plant = Plant::clean();
        plant.remove_final(SYNC, 0, 3);
        finds(&plant, "dense");
    }

    #[test]
    fn an_offset_read_twice() {
        let mut plant = Plant::clean();
        plant.repeat_final(SYNC, 0, 3);
        finds(&plant, "dense");
    }

    #[test]
    fn a_missing_end() {
        let mut plant = Plant::clean();
        plant.remove_final(SYNC, 0, plant.end(SYNC, 0) - 1);
        finds(&plant, "dense");
    }

    #[test]
    fn a_log_that_does_not_begin_at_zero() {
        let mut plant = Plant::clean();
        plant.set_log_start(SYNC, 0, 2);
        finds(&plant, "dense");
    }

    #[test]
    fn a_record_that_nobody_sent() {
        for value in [Value::Foreign { digest: 1 }, Value::Sent { producer: 1, sequence: 1 << 40 }] {
            let mut plant = Plant::clean();
            plant.append_final(SYNC, 0, value);
            finds(&plant, "dense");
        }
    }

    #[test]
    fn a_partition_that_could_not_be_read() {
        let mut plant = Plant::clean();
        plant.set_unread(SYNC, 0);
        finds(&plant, "dense");
    }
}
