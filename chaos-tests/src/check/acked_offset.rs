//! The offset that a producer was told holds exactly the record that it sent.
//!
//! A record that is gone altogether is for `lost`; one that lies elsewhere is found here, in every mode.

use super::{Findings, View};

pub fn check(view: &View, findings: &mut Findings) {
    for ack in &view.acks {
        let Some(offset) = ack.offset else { continue };
        if !view.is_in_final(ack.place, ack.value) {
            continue;
        }
        let found = view.final_value(ack.place, offset);
        if found != Some(ack.value) {
            let text = format!("{:?} was acknowledged as offset {offset}, which holds {found:?}", ack.value);
            findings.at("acked_offset", ack.place, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::{ASYNC, Plant, SYNC, finds};

    #[test]
    fn a_record_that_lies_elsewhere_than_acknowledged() {
        for topic in [SYNC, ASYNC] {
            let mut plant = Plant::clean();
            plant.swap_two_acked_offsets(topic);
            finds(&plant, "acked_offset");
        }
    }
}
