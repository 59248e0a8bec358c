//! What consumers get is what was sent: to this topic, whole, and not what the broker had refused. A message stays what and where
//! it is.

use std::collections::BTreeMap;

use super::view::MessageView;
use crate::check::Findings;
use crate::history::Value;
use crate::history::messages::Spot;

const PROPERTY: &str = "message_contents";

pub fn check(view: &MessageView, findings: &mut Findings) {
    let mut first: BTreeMap<Spot, Value> = view.finals.clone();
    for (time_ms, spot, value, by) in view.given() {
        let before = *first.entry(spot).or_insert(value);
        if before != value {
            let text = format!("{by} was given {value:?} at {time_ms} ms, though it is {before:?}");
            findings.at_spot(PROPERTY, view, spot, text);
        }
    }
    for (spot, value) in &first {
        if view.whole.contains(&spot.topic) && !view.finals.contains_key(spot) {
            findings.at_spot(PROPERTY, view, *spot, format!("{value:?} was given to a consumer and is gone"));
        }
        match view.sends.get(value) {
            Some(sends) if sends.topic != spot.topic => {
                findings.at_spot(PROPERTY, view, *spot, format!("{value:?} was sent to another topic"));
            }
            Some(sends) if !sends.may_exist() => {
                findings.at_spot(PROPERTY, view, *spot, format!("{value:?} was refused and is there nevertheless"));
            }
            Some(_) => {}
            None => findings.at_spot(PROPERTY, view, *spot, format!("holds {value:?}, which nobody sent")),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::messages::{NORMAL, refused};
    use crate::check::planted::{Plant, finds};
    use crate::history::Value;
    use crate::history::messages::MessageEvent;

    #[test]
    fn a_changed_message() {
        let mut plant = Plant::clean();
        plant.change_first(|event| match event {
            MessageEvent::Delivered { value, .. } => {
                *value = Value::Foreign { digest: 3 };
                true
            }
            _ => false,
        });
        finds(&plant, "message_contents");
    }

    #[test]
    fn a_delivered_message_that_is_gone() {
        let mut plant = Plant::clean();
        plant.remove_first(|event| matches!(event, MessageEvent::FinalRecord { .. }));
        finds(&plant, "message_contents");
    }

    #[test]
    fn a_message_that_nobody_sent_or_that_was_for_another_topic() {
        for topic in [false, true] {
            let mut plant = Plant::clean();
            plant.change_first(|event| match event {
                MessageEvent::Sent { topic: to, value, .. } if *to == NORMAL => {
                    if topic {
                        *to += 1;
                    } else {
                        *value = Value::Sent { producer: 1, sequence: 1 << 40 };
                    }
                    true
                }
                _ => false,
            });
            finds(&plant, "message_contents");
        }
    }

    #[test]
    fn a_refused_message_that_is_there() {
        let mut plant = Plant::clean();
        plant.change_first(|event| match event {
            MessageEvent::Sent { outcome, .. } => {
                *outcome = refused();
                true
            }
            _ => false,
        });
        finds(&plant, "message_contents");
    }
}
