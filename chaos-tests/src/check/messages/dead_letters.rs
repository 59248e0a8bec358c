//! What nobody acknowledges becomes a dead letter with the same contents. What was acknowledged does not.

use super::view::MessageView;
use crate::check::Findings;
use crate::history::messages::{Form, Outcome};

const PROPERTY: &str = "message_dead_letters";

pub fn check(view: &MessageView, findings: &mut Findings) {
    for (value, sends) in view.sends.iter().filter(|(_, sends)| sends.form == Form::Doomed) {
        let spots = view.spots.get(value).map_or(&[][..], Vec::as_slice);
        for spot in spots.iter().filter(|spot| !view.dead_letters.contains_key(spot)) {
            let deliveries = view.deliveries_at.get(spot).map_or(0, Vec::len);
            let text = format!("{value:?}, delivered {deliveries} times and never acknowledged, is no dead letter");
            findings.at_spot(PROPERTY, view, *spot, text);
        }
        if spots.is_empty() && sends.acked_ms().is_some() && !view.dead_letters.values().any(|letter| letter == value) {
            findings.of_message(PROPERTY, view, sends.topic, format!("{value:?} is no dead letter"));
        }
    }
    for (spot, letter) in &view.dead_letters {
        if view.whole.contains(&spot.topic) && view.finals.get(spot) != Some(letter) {
            let text = format!("the dead letter {letter:?} says that it comes from here: {:?}", view.finals.get(spot));
            findings.at_spot(PROPERTY, view, *spot, text);
        }
        if let Some(settle) = view.settles_at(*spot).iter().find(|settle| *settle.outcome == Outcome::Ok) {
            let text = format!("{letter:?} was acknowledged at {} ms and is a dead letter", settle.time_ms);
            findings.at_spot(PROPERTY, view, *spot, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::messages::LETTERS;
    use crate::check::planted::{Plant, finds};
    use crate::history::Value;
    use crate::history::messages::{MessageEvent, Outcome};

    #[test]
    fn a_message_that_vanishes_instead() {
        let mut plant = Plant::clean();
        plant.remove_first(|event| matches!(event, MessageEvent::DeadLetter { .. }));
        finds(&plant, "message_dead_letters");
    }

    #[test]
    fn a_dead_letter_with_other_contents() {
        let mut plant = Plant::clean();
        plant.change_first(|event| match event {
            MessageEvent::DeadLetter { value, .. } => {
                *value = Value::Foreign { digest: 1 };
                true
            }
            _ => false,
        });
        finds(&plant, "message_dead_letters");
    }

    #[test]
    fn an_acknowledged_message_that_is_dead() {
        let mut plant = Plant::clean();
        let spot = plant.find_message(|event| match event {
            MessageEvent::Settled { spot, outcome: Outcome::Ok, .. } if spot.topic == LETTERS => Some(*spot),
            _ => None,
        });
        let value = plant.value_at(spot);
        plant.push_message(MessageEvent::DeadLetter { origin: spot, value });
        finds(&plant, "message_dead_letters");
    }
}
