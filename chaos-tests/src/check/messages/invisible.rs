//! A delivered message is invisible to others for its time, or for the time to which its consumer has changed that, unless a node's clock
//! was wrong at one of its deliveries.
//!
//! The broker delivers somewhere between question and answer, so the time counts from the question of the earlier delivery, or of the
//! change, to the answer of the later one. A change whose fate is unknown leaves both times possible.

use super::view::{Delivery, MessageView};
use crate::check::Findings;
use crate::history::messages::Outcome;

/// The broker counts in whole milliseconds, the history in others.
const ROUNDING_MS: u64 = 2;

pub fn check(view: &MessageView, findings: &mut Findings) {
    for (spot, deliveries) in &view.deliveries_at {
        let mut ordered: Vec<_> = deliveries.iter().map(|at| view.deliveries[*at]).collect();
        ordered.sort_by_key(|delivery| (delivery.attempt, delivery.time_ms));
        for pair in ordered.windows(2) {
            let (first, second) = (pair[0], pair[1]);
            let until_ms = until_ms(view, &first);
            let by_wrong_clock = [first, second].iter().any(|delivery| view.clock_may_be_wrong(delivery.time_ms));
            if first.receipt != second.receipt && second.time_ms + ROUNDING_MS < until_ms && !by_wrong_clock {
                let text = format!(
                    "{:?} was delivered at {} ms (attempt {}) and at {} ms (attempt {}), though invisible until {until_ms} ms",
                    first.value, first.time_ms, first.attempt, second.time_ms, second.attempt
                );
                findings.at_spot("message_invisible", view, *spot, text);
            }
        }
    }
}

/// Before this time the message was surely invisible.
fn until_ms(view: &MessageView, delivery: &Delivery) -> u64 {
    let mut until_ms = delivery.asked_ms + delivery.invisible_ms;
    let mut receipt = delivery.receipt;
    for moved in view.moves.get(&delivery.spot).into_iter().flatten() {
        let moved_ms = moved.asked_ms + moved.invisible_ms;
        match moved.outcome {
            _ if moved.receipt != receipt => {}
            Outcome::Ok => {
                until_ms = moved_ms;
                receipt = moved.next.unwrap_or(receipt);
            }
            Outcome::Open(_) => until_ms = until_ms.min(moved_ms),
            Outcome::Refused(_) => {}
        }
    }
    until_ms
}

#[cfg(test)]
mod tests {
    use crate::check::planted::messages::{INVISIBLE_MS, NORMAL};
    use crate::check::planted::{Plant, finds, passes};
    use crate::history::Fault;
    use crate::history::messages::Outcome;

    #[test]
    fn a_delivery_to_two_at_once() {
        for (later_ms, is_early) in [(INVISIBLE_MS / 2, true), (INVISIBLE_MS, false)] {
            let mut plant = Plant::clean();
            let (spot, _) = plant.first_final(NORMAL);
            let asked_ms = plant.asked_ms(spot);
            plant.deliver_again(spot, asked_ms, asked_ms + later_ms);
            if is_early {
                finds(&plant, "message_invisible");
                plant.fault_of_leader(asked_ms + later_ms - 10, Fault::Clock);
                passes(&plant);
            } else {
                passes(&plant);
            }
        }
    }

    #[test]
    fn a_changed_invisible_time() {
        let (longer_ms, shorter_ms) = (3 * INVISIBLE_MS, INVISIBLE_MS / 4);
        let open = || Outcome::Open("no answer".to_string());
        let refused = || Outcome::Refused("a bad receipt".to_string());
        for (moved_to_ms, outcome, later_ms, is_early) in [
            (longer_ms, Outcome::Ok, 2 * INVISIBLE_MS, true),
            (longer_ms, Outcome::Ok, longer_ms + 10, false),
            (shorter_ms, Outcome::Ok, shorter_ms + 10, false),
            (shorter_ms, Outcome::Ok, shorter_ms / 2, true),
            (shorter_ms, open(), shorter_ms + 10, false),
            (longer_ms, open(), 2 * INVISIBLE_MS, false),
            (shorter_ms, refused(), shorter_ms + 10, true),
            (longer_ms, refused(), 2 * INVISIBLE_MS, false),
        ] {
            let mut plant = Plant::clean();
            let (spot, _) = plant.first_final(NORMAL);
            let asked_ms = plant.asked_ms(spot);
            plant.move_first(spot, moved_to_ms, outcome.clone());
            plant.deliver_again(spot, asked_ms, asked_ms + later_ms);
            if is_early {
                finds(&plant, "message_invisible");
            } else {
                passes(&plant);
            }
        }
    }
}
