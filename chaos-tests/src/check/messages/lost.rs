//! No message that was promised vanishes: it is kept where its producer was told, each message that its group wants is delivered, and
//! each delivery ends with an acknowledgement that may have happened, another delivery, or a dead letter.

use super::view::MessageView;
use crate::check::Findings;
use crate::history::Value;
use crate::history::messages::Form;

const PROPERTY: &str = "message_lost";

pub fn check(view: &MessageView, findings: &mut Findings) {
    for (value, sends) in &view.sends {
        // What is hidden at first has checkers of its own.
        let is_visible = matches!(sends.form, Form::Plain | Form::Ordered { .. } | Form::Doomed);
        if is_visible && view.whole.contains(&sends.topic) {
            check_kept(view, findings, *value);
        }
    }
    // A dead letter may be one because the answers with all its deliveries were lost.
    for (spot, value) in view.finals.iter().filter(|(spot, _)| !view.dead_letters.contains_key(spot)) {
        match view.deliveries_at.get(spot) {
            None if !view.topics[usize::from(spot.topic)].wants(*value) => {}
            None => findings.at_spot(PROPERTY, view, *spot, format!("{value:?} was never delivered")),
            Some(deliveries) if !view.may_be_settled(*spot) => {
                let last = view.deliveries[*deliveries.last().expect("an index only of deliveries")];
                let text = format!(
                    "{value:?} was delivered last at {} ms (attempt {}), is not acknowledged, and never came again",
                    last.time_ms, last.attempt
                );
                findings.at_spot(PROPERTY, view, *spot, text);
            }
            Some(_) => {}
        }
    }
}

fn check_kept(view: &MessageView, findings: &mut Findings, value: Value) {
    let sends = &view.sends[&value];
    let Some(acked_ms) = sends.acked_ms() else { return };
    let spots = view.spots.get(&value).map_or(&[][..], Vec::as_slice);
    if spots.is_empty() {
        findings.of_message(PROPERTY, view, sends.topic, format!("{value:?}, acknowledged at {acked_ms} ms, is gone"));
    }
    for offset in sends.attempts.iter().filter_map(|attempt| attempt.offset) {
        if !spots.is_empty() && !spots.iter().any(|spot| spot.offset == offset) {
            let text = format!("{value:?} was acknowledged as offset {offset} and is at {spots:?}");
            findings.of_message(PROPERTY, view, sends.topic, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::messages::{LETTERS, NORMAL, ORDERED, refused, spot_of};
    use crate::check::planted::{Plant, finds};
    use crate::history::messages::MessageEvent;

    #[test]
    fn a_message_that_is_gone() {
        for topic in [NORMAL, ORDERED, LETTERS] {
            let mut plant = Plant::clean();
            let (spot, _) = plant.first_final(topic);
            plant.retain_messages(|event| spot_of(event) != Some(spot));
            finds(&plant, "message_lost");
        }
    }

    #[test]
    fn a_message_that_is_elsewhere_than_acknowledged() {
        let mut plant = Plant::clean();
        plant.change_first(|event| match event {
            MessageEvent::Sent { offset: Some(offset), .. } => {
                *offset += 1_000;
                true
            }
            _ => false,
        });
        finds(&plant, "message_lost");
    }

    #[test]
    fn a_message_that_is_kept_and_never_delivered() {
        let mut plant = Plant::clean();
        let (spot, _) = plant.first_final(NORMAL);
        plant
            .retain_messages(|event| spot_of(event) != Some(spot) || matches!(event, MessageEvent::FinalRecord { .. }));
        finds(&plant, "message_lost");
    }

    #[test]
    fn a_delivered_message_that_nobody_acknowledged_and_that_never_came_again() {
        let mut plant = Plant::clean();
        let (of, _) = plant.first_final(NORMAL);
        plant.retain_messages(|event| !matches!(event, MessageEvent::Settled { spot, .. } if *spot == of));
        finds(&plant, "message_lost");
    }

    #[test]
    fn an_acknowledgement_that_was_refused_counts_for_nothing() {
        let mut plant = Plant::clean();
        let (of, _) = plant.first_final(NORMAL);
        plant.change_first(|event| match event {
            MessageEvent::Settled { spot, outcome, .. } if *spot == of => {
                *outcome = refused();
                true
            }
            _ => false,
        });
        finds(&plant, "message_lost");
    }
}
