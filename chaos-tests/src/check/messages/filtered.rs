//! A consumer group is given only what its filter asks for.

use super::view::MessageView;
use crate::check::Findings;
use crate::history::messages::tag;

pub fn check(view: &MessageView, findings: &mut Findings) {
    for given in &view.deliveries {
        if !view.topics[usize::from(given.spot.topic)].wants(given.value) {
            let text = format!(
                "{:?} with {} was delivered at {} ms to a group that does not want it",
                given.value,
                tag(given.value),
                given.time_ms
            );
            findings.at_spot("message_filtered", view, given.spot, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::messages::FILTERED;
    use crate::check::planted::{Plant, finds};
    use crate::history::Value;
    use crate::history::messages::MessageEvent;

    #[test]
    fn a_delivery_of_what_the_group_does_not_want() {
        let mut plant = Plant::clean();
        let topic = plant.history.message_topics[usize::from(FILTERED)].clone();
        plant.change_first(|event| match event {
            MessageEvent::Delivered { spot, value, .. } if spot.topic == FILTERED => {
                let Value::Sent { sequence, .. } = value else { return false };
                *sequence += 1;
                assert!(!topic.wants(*value));
                true
            }
            _ => false,
        });
        finds(&plant, "message_filtered");
    }
}
