//! A delivered message is invisible to others for its time, unless a node's clock was wrong at one of its deliveries.
//!
//! The broker delivers somewhere between question and answer, so the time counts from the question of the earlier delivery to the
//! answer of the later one.

use super::view::MessageView;
use crate::check::Findings;

/// The broker counts in whole milliseconds, the history in others.
const ROUNDING_MS: u64 = 2;

pub fn check(view: &MessageView, findings: &mut Findings) {
    for (spot, deliveries) in &view.deliveries_at {
        let mut ordered: Vec<_> = deliveries.iter().map(|at| view.deliveries[*at]).collect();
        ordered.sort_by_key(|delivery| (delivery.attempt, delivery.time_ms));
        for pair in ordered.windows(2) {
            let (first, second) = (pair[0], pair[1]);
            let until_ms = first.asked_ms + first.invisible_ms;
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

#[cfg(test)]
mod tests {
    use crate::check::planted::messages::{INVISIBLE_MS, NORMAL};
    use crate::check::planted::{Plant, finds, passes};
    use crate::history::Fault;

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
}
