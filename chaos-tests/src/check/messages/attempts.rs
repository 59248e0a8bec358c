//! A message comes again with a greater attempt number, and the first time with 1 or more.

use super::view::MessageView;
use crate::check::Findings;

pub fn check(view: &MessageView, findings: &mut Findings) {
    for (spot, deliveries) in &view.deliveries_at {
        let mut before: Vec<usize> = Vec::new();
        for at in deliveries {
            let delivery = view.deliveries[*at];
            if delivery.attempt < 1 {
                let text = format!("{:?} was delivered with attempt {}", delivery.value, delivery.attempt);
                findings.at_spot("message_attempts", view, *spot, text);
            }
            // One receipt is one delivery, even if it is answered twice.
            let earlier = before.iter().map(|at| view.deliveries[*at]).find(|earlier| {
                earlier.receipt != delivery.receipt
                    && earlier.time_ms < delivery.asked_ms
                    && earlier.attempt >= delivery.attempt
            });
            if let Some(earlier) = earlier {
                let text = format!(
                    "{:?} was delivered at {} ms as attempt {}, after attempt {} at {} ms",
                    delivery.value, delivery.time_ms, delivery.attempt, earlier.attempt, earlier.time_ms
                );
                findings.at_spot("message_attempts", view, *spot, text);
            }
            before.push(*at);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::{Plant, finds};
    use crate::history::messages::MessageEvent;

    #[test]
    fn an_attempt_that_is_not_greater() {
        for wrong in [0, 1] {
            let mut plant = Plant::clean();
            plant.change_first(|event| match event {
                MessageEvent::Delivered { attempt, .. } if *attempt == 2 => {
                    *attempt = wrong;
                    true
                }
                _ => false,
            });
            finds(&plant, "message_attempts");
        }
    }
}
