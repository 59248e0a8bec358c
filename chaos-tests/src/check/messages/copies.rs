//! Each member of a topic's broadcasting group is given every message, as it is kept, and nothing else.

use std::collections::BTreeSet;

use super::view::MessageView;
use crate::check::Findings;

const PROPERTY: &str = "message_copies";

pub fn check(view: &MessageView, findings: &mut Findings) {
    for topic in view.whole.iter().copied() {
        for member in 0..view.topics[usize::from(topic)].broadcast_members {
            let none = Vec::new();
            let copies = view.copies.get(&(topic, member)).unwrap_or(&none);
            for (spot, value) in copies {
                let kept = view.finals.get(spot);
                if kept != Some(value) {
                    let text = format!("member {member} was given {value:?}, and what is kept there is {kept:?}");
                    findings.at_spot(PROPERTY, view, *spot, text);
                }
            }
            let given: BTreeSet<_> = copies.iter().map(|(spot, _)| spot).collect();
            for (spot, value) in view.finals.iter().filter(|(spot, _)| spot.topic == topic) {
                if !given.contains(spot) {
                    findings.at_spot(PROPERTY, view, *spot, format!("member {member} was never given {value:?}"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::messages::{NORMAL, spot_of};
    use crate::check::planted::{Plant, finds};
    use crate::history::messages::MessageEvent;

    #[test]
    fn a_message_that_one_member_never_gets() {
        let mut plant = Plant::clean();
        plant.remove_first(|event| matches!(event, MessageEvent::Copied { member: 1, .. }));
        finds(&plant, "message_copies");
    }

    #[test]
    fn a_member_that_gets_nothing() {
        let mut plant = Plant::clean();
        plant.retain_messages(|event| !matches!(event, MessageEvent::Copied { member: 0, .. }));
        finds(&plant, "message_copies");
    }

    #[test]
    fn a_copy_of_another_message() {
        let mut plant = Plant::clean();
        let (of, _) = plant.first_final(NORMAL);
        plant.change_first(|event| match event {
            MessageEvent::Copied { spot, .. } if *spot == of => {
                spot.offset += 1;
                true
            }
            _ => false,
        });
        finds(&plant, "message_copies");
    }

    #[test]
    fn a_copy_of_what_is_gone() {
        let mut plant = Plant::clean();
        let (of, _) = plant.first_final(NORMAL);
        plant.retain_messages(|event| spot_of(event) != Some(of) || !matches!(event, MessageEvent::FinalRecord { .. }));
        finds(&plant, "message_copies");
    }
}
