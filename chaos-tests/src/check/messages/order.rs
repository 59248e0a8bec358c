//! Messages of one message group are kept and delivered in the order of sending.
//!
//! ```text
//!   log        1 2 3 3 4        a send that is tried again may be kept twice
//!   delivered  1 │ 2 3 3 │ 4    a message only when all before it are acknowledged, or before it in the same answer
//! ```

use std::collections::BTreeMap;

use super::view::{Delivery, MessageView};
use crate::check::Findings;
use crate::history::Value;
use crate::history::messages::{Form, Outcome, Spot};

const PROPERTY: &str = "message_order";

/// A kept message of a group.
struct Kept {
    spot: Spot,
    value: Value,
    /// When the first acknowledgement was asked for that may have happened; never: the greatest number.
    settled_ms: u64,
    /// The greatest `settled_ms` of all before it.
    free_ms: u64,
}

pub fn check(view: &MessageView, findings: &mut Findings) {
    let groups = groups(view);
    for kept in groups.values() {
        check_log(view, findings, kept);
    }
    let mut calls: BTreeMap<u64, Vec<Spot>> = BTreeMap::new();
    for delivery in &view.deliveries {
        let Some(order) = order_of(view, delivery.value) else { continue };
        let of_call = calls.entry(delivery.call).or_default();
        if let Some(kept) = groups.get(&(delivery.spot.topic, order)) {
            check_delivery(view, findings, kept, *delivery, of_call);
        }
        of_call.push(delivery.spot);
    }
}

fn order_of(view: &MessageView, value: Value) -> Option<u32> {
    match view.sends.get(&value)?.form {
        Form::Ordered { order } => Some(order),
        _ => None,
    }
}

/// The messages of each group, by their offsets.
fn groups(view: &MessageView) -> BTreeMap<(u16, u32), Vec<Kept>> {
    let mut groups: BTreeMap<(u16, u32), Vec<Kept>> = BTreeMap::new();
    for (&spot, &value) in &view.finals {
        let Some(order) = order_of(view, value) else { continue };
        let settles = view.settles_at(spot).iter();
        let settles = settles.filter(|settle| !matches!(settle.outcome, Outcome::Refused(_)));
        let settled_ms = settles.map(|settle| settle.asked_ms).min().unwrap_or(u64::MAX);
        let kept = groups.entry((spot.topic, order)).or_default();
        let free_ms = kept.last().map_or(0, |last: &Kept| last.free_ms.max(last.settled_ms));
        kept.push(Kept { spot, value, settled_ms, free_ms });
    }
    groups
}

/// A message's first place lies behind those of all before it; a second place is explained by a send that was tried again.
fn check_log(view: &MessageView, findings: &mut Findings, kept: &[Kept]) {
    let mut greatest: Option<&Kept> = None;
    for (at, one) in kept.iter().enumerate() {
        if let Some(other) = kept.iter().find(|other| other.spot.partition != one.spot.partition) {
            let text = format!("{:?} is of the same message group as {:?} at {:?}", one.value, other.value, other.spot);
            findings.at_spot(PROPERTY, view, one.spot, text);
            return;
        }
        let is_adjacent = at.checked_sub(1).is_some_and(|before| kept[before].value == one.value);
        let is_behind = greatest.is_none_or(|greatest| greatest.value < one.value);
        let is_late_retry =
            view.sends[&one.value].is_open() && kept[..at].iter().any(|before| before.value == one.value);
        if !is_adjacent && !is_behind && !is_late_retry {
            let before = greatest.map(|greatest| (greatest.value, greatest.spot.offset));
            findings.at_spot(PROPERTY, view, one.spot, format!("{:?} lies behind {before:?}", one.value));
        }
        // A message whose fate its producer never learned may come whenever it likes.
        if is_behind && view.sends[&one.value].acked_ms().is_some() {
            greatest = Some(one);
        }
    }
}

fn check_delivery(
    view: &MessageView,
    findings: &mut Findings,
    kept: &[Kept],
    delivery: Delivery,
    before_in_answer: &[Spot],
) {
    let Some(at) = kept.iter().position(|kept| kept.spot == delivery.spot) else { return };
    if kept[at].free_ms <= delivery.time_ms {
        return;
    }
    let blocking = kept[..at]
        .iter()
        .find(|earlier| earlier.settled_ms > delivery.time_ms && !before_in_answer.contains(&earlier.spot));
    if let Some(earlier) = blocking {
        let text = format!(
            "{:?} was delivered at {} ms, though {:?} at offset {} was neither acknowledged nor before it in the answer",
            delivery.value, delivery.time_ms, earlier.value, earlier.spot.offset
        );
        findings.at_spot(PROPERTY, view, delivery.spot, text);
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::messages::{ORDERED, open};
    use crate::check::planted::{Plant, finds, passes};
    use crate::history::messages::MessageEvent;

    #[test]
    fn two_messages_change_places() {
        let mut plant = Plant::clean();
        let (first, second) = plant.two_of_a_message_group();
        plant.swap_spots(first, second);
        finds(&plant, "message_order");
    }

    #[test]
    fn a_message_is_delivered_before_the_earlier_one_is_acknowledged() {
        let mut plant = Plant::clean();
        let (first, second) = plant.two_of_a_message_group();
        let early_ms = plant.asked_ms(first) + 1;
        plant.change_first(|event| match event {
            MessageEvent::Delivered { spot, asked_ms, time_ms, .. } if *spot == second => {
                (*asked_ms, *time_ms) = (early_ms, early_ms);
                true
            }
            _ => false,
        });
        finds(&plant, "message_order");
    }

    #[test]
    fn both_in_one_answer_are_fine_in_their_order_only() {
        for is_ordered in [true, false] {
            let mut plant = Plant::clean();
            let (first, second) = plant.two_of_a_message_group();
            plant.deliver_together(first, second, is_ordered);
            if is_ordered {
                passes(&plant);
            } else {
                finds(&plant, "message_order");
            }
        }
    }

    #[test]
    fn a_send_that_was_tried_again_may_be_kept_twice() {
        let mut plant = Plant::clean();
        let (first, _) = plant.two_of_a_message_group();
        plant.keep_again(first);
        finds(&plant, "message_order");
        let value = plant.value_at(first);
        plant.push_message(plant.attempt(ORDERED, value, open()));
        passes(&plant);
    }
}
