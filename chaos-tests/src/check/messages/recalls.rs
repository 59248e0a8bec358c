//! A recall that was answered OK takes the message back for good; one that came too late leaves it (`delays` asks that it is there).

use super::view::MessageView;
use crate::check::Findings;
use crate::history::messages::Outcome;

const PROPERTY: &str = "message_recalls";

pub fn check(view: &MessageView, findings: &mut Findings) {
    for (value, recalls) in &view.recalls {
        let Some(recall) = recalls.iter().find(|recall| *recall.outcome == Outcome::Ok) else { continue };
        for spot in view.spots.get(value).into_iter().flatten() {
            let text = format!("{value:?} was taken back at {} ms and is there nevertheless", recall.time_ms);
            findings.at_spot(PROPERTY, view, *spot, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::messages::DELAY;
    use crate::check::planted::{Plant, finds};
    use crate::history::messages::{MessageEvent, Outcome};

    #[test]
    fn a_recalled_message_that_is_there() {
        let mut plant = Plant::clean();
        let (_, value) = plant.first_final(DELAY);
        plant.push_message(MessageEvent::Recalled {
            asked_ms: 100,
            time_ms: 110,
            topic: DELAY,
            value,
            outcome: Outcome::Ok,
        });
        finds(&plant, "message_recalls");
    }

    #[test]
    fn a_recall_that_came_too_late_for_a_message_that_never_comes() {
        let mut plant = Plant::clean();
        plant.refuse_recalls();
        finds(&plant, "message_delays");
    }
}
