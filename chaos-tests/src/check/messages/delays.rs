//! A delayed message is given to nobody before its time, unless a node's clock was wrong since it was sent (what was made visible stays so),
//! and is there in the end unless its recall may have happened.

use super::view::MessageView;
use crate::check::Findings;
use crate::history::messages::{Form, Outcome};

const PROPERTY: &str = "message_delays";

/// The broker counts in whole milliseconds, the history in others.
const ROUNDING_MS: u64 = 2;

pub fn check(view: &MessageView, findings: &mut Findings) {
    for (time_ms, spot, value, by) in view.given() {
        if let Some((Form::Delayed { due_ms }, sent_ms)) =
            view.sends.get(&value).map(|sends| (sends.form, sends.first_ms()))
            && time_ms + ROUNDING_MS < due_ms
            && !view.clock_may_be_wrong_within(sent_ms.min(time_ms)..=time_ms)
        {
            let text = format!("{by} was given {value:?} at {time_ms} ms, {} ms too early", due_ms - time_ms);
            findings.at_spot(PROPERTY, view, spot, text);
        }
    }
    for (value, sends) in &view.sends {
        let Form::Delayed { due_ms } = sends.form else { continue };
        let Some(acked_ms) = sends.acked_ms() else { continue };
        let recalls = view.recalls.get(value).map_or(&[][..], Vec::as_slice);
        let may_be_recalled = recalls.iter().any(|recall| !matches!(recall.outcome, Outcome::Refused(_)));
        if view.whole.contains(&sends.topic) && !may_be_recalled && !view.spots.contains_key(value) {
            let text = format!("{value:?}, acknowledged at {acked_ms} ms and due at {due_ms} ms, never came");
            findings.of_message(PROPERTY, view, sends.topic, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::messages::{DELAY, spot_of};
    use crate::check::planted::{Plant, finds, passes};
    use crate::history::Fault;
    use crate::history::messages::{Form, MessageEvent};

    /// The first delayed message comes 10 ms too early; when it was sent, and when it is due.
    fn come_early(plant: &mut Plant, by_kafka: bool) -> (u64, u64) {
        let (of, value) = plant.first_final(DELAY);
        let (sent_ms, due_ms) = plant.find_message(|event| match event {
            MessageEvent::Sent { value: sent, time_ms, form: Form::Delayed { due_ms }, .. } if *sent == value => {
                Some((*time_ms, *due_ms))
            }
            _ => None,
        });
        plant.move_first_sight(of, by_kafka, due_ms - 10);
        (sent_ms, due_ms)
    }

    #[test]
    fn a_message_before_its_time() {
        for by_kafka in [true, false] {
            let mut plant = Plant::clean();
            let (_, due_ms) = come_early(&mut plant, by_kafka);
            finds(&plant, "message_delays");
            plant.fault_of_leader(due_ms - 50, Fault::Clock);
            passes(&plant);
        }
    }

    #[test]
    fn a_message_that_a_wrong_clock_made_visible_stays_so() {
        let clock_wrong_from = |choose: fn((u64, u64)) -> u64| {
            let mut plant = Plant::clean();
            let begin_ms = choose(come_early(&mut plant, false));
            plant.fault_of_leader(begin_ms, Fault::Clock);
            plant
        };
        passes(&clock_wrong_from(|(sent_ms, _)| sent_ms));
        finds(&clock_wrong_from(|(_, due_ms)| due_ms), "message_delays");
    }

    #[test]
    fn a_message_that_never_comes() {
        let mut plant = Plant::clean();
        let (spot, _) = plant.first_final(DELAY);
        plant.retain_messages(|event| spot_of(event) != Some(spot));
        finds(&plant, "message_delays");
    }
}
