//! No send of an idempotent producer is in the log twice, in the same partition or in another one.

use std::collections::BTreeMap;

use super::{Findings, View};
use crate::history::{Place, Value};

pub fn check(view: &View, findings: &mut Findings) {
    let mut first: BTreeMap<Value, (Place, i64)> = BTreeMap::new();
    for (place, records) in &view.finals {
        for &(offset, value) in records {
            if matches!(value, Value::Foreign { .. }) {
                continue;
            }
            match first.get(&value) {
                // The same offset twice is for `dense`.
                Some(&before) if before == (*place, offset) => {}
                Some((other, other_offset)) => {
                    let text = format!(
                        "{value:?} is at offset {offset} and at offset {other_offset} of partition {}",
                        other.partition
                    );
                    findings.at("duplicates", *place, text);
                    findings.topics[usize::from(place.topic)].duplicates += 1;
                }
                None => {
                    first.insert(value, (*place, offset));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::{ASYNC, Plant, SYNC, finds};

    #[test]
    fn a_duplicate_in_the_same_partition() {
        for topic in [SYNC, ASYNC] {
            let mut plant = Plant::clean();
            plant.append_duplicate(topic, 0, 0);
            finds(&plant, "duplicates");
        }
    }

    #[test]
    fn a_duplicate_in_another_partition() {
        let mut plant = Plant::clean();
        plant.append_duplicate(SYNC, 0, 1);
        finds(&plant, "duplicates");
    }
}
