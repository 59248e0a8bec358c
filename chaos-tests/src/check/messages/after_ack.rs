//! A message whose acknowledgement was answered OK is never delivered again: not by a call that began after the answer.

use super::view::MessageView;
use crate::check::Findings;
use crate::history::messages::Outcome;

pub fn check(view: &MessageView, findings: &mut Findings) {
    for (spot, deliveries) in &view.deliveries_at {
        let oks = view.settles_at(*spot).iter().filter(|settle| *settle.outcome == Outcome::Ok);
        let Some(settled_ms) = oks.map(|settle| settle.time_ms).min() else { continue };
        for delivery in deliveries.iter().map(|at| view.deliveries[*at]) {
            if delivery.asked_ms > settled_ms {
                let text = format!(
                    "{:?} was delivered at {} ms (attempt {}, asked for at {} ms), though acknowledged at {settled_ms} ms",
                    delivery.value, delivery.time_ms, delivery.attempt, delivery.asked_ms
                );
                findings.at_spot("message_after_ack", view, *spot, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::messages::NORMAL;
    use crate::check::planted::{Plant, finds, passes};

    #[test]
    fn a_delivery_after_the_acknowledgement() {
        let mut plant = Plant::clean();
        let (spot, _) = plant.first_final(NORMAL);
        let settled_ms = plant.settled_ms(spot);
        plant.deliver_again(spot, settled_ms + 20_000, settled_ms + 20_010);
        finds(&plant, "message_after_ack");
    }

    #[test]
    fn a_call_that_began_before_the_answer_is_fine() {
        let mut plant = Plant::clean();
        let (spot, _) = plant.first_final(NORMAL);
        let settled_ms = plant.settled_ms(spot);
        plant.deliver_again(spot, settled_ms, settled_ms + 20_000);
        passes(&plant);
    }
}
