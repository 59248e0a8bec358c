//! Within a partition the records of one producer lie in the order of sending.

use std::collections::BTreeMap;

use super::{Findings, View};
use crate::history::Value;

pub fn check(view: &View, findings: &mut Findings) {
    for (place, records) in &view.finals {
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        for &(offset, value) in records {
            let Value::Sent { producer, sequence } = value else { continue };
            match last.insert(producer, sequence) {
                // Equal is for `duplicates`.
                Some(before) if before > sequence => {
                    let text =
                        format!("producer {producer}: sequence {sequence} at offset {offset} comes after {before}");
                    findings.at("order", *place, text);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::{ASYNC, Plant, SYNC, finds};

    #[test]
    fn two_records_change_places() {
        for topic in [SYNC, ASYNC] {
            let mut plant = Plant::clean();
            plant.swap_finals(topic, 0, 3, 5);
            finds(&plant, "order");
        }
    }
}
