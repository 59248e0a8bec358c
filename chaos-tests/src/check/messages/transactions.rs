//! A half message is seen by nobody before its commit is asked for, and never when it is not; a committed one is there once per commit.
//! Every promised half message comes to an end: the broker asks when the producer says nothing.
//!
//! A broker that loses its leader while it stores a half message may store it twice, and asks for each. So a message may be there as
//! often as transactions of it were committed, and must be there as often as that was answered OK.

use std::collections::BTreeSet;

use super::view::MessageView;
use crate::check::Findings;
use crate::history::messages::{End, Form, Outcome};

const PROPERTY: &str = "message_transactions";

pub fn check(view: &MessageView, findings: &mut Findings) {
    for (time_ms, spot, value, by) in view.given() {
        let Some(Form::Half { .. }) = view.sends.get(&value).map(|sends| sends.form) else { continue };
        let ends = view.ends.get(&value).map_or(&[][..], Vec::as_slice);
        let commits = ends.iter().filter(|ended| ended.end == End::Commit);
        let committed_ms = commits.map(|ended| ended.asked_ms).min();
        if committed_ms.is_none_or(|committed_ms| time_ms < committed_ms) {
            let commit = committed_ms.map_or("never".to_string(), |time_ms| format!("at {time_ms} ms"));
            let text = format!("{by} was given {value:?} at {time_ms} ms, whose commit was asked for {commit}");
            findings.at_spot(PROPERTY, view, spot, text);
        }
    }
    for (value, sends) in &view.sends {
        let Form::Half { asked, .. } = sends.form else { continue };
        let ends = view.ends.get(value).map_or(&[][..], Vec::as_slice);
        if let Some(acked_ms) = sends.acked_ms() {
            let refused = ends.iter().find(|ended| matches!(ended.outcome, Outcome::Refused(_)));
            if let Some(refused) = refused {
                let text = format!(
                    "the half message {value:?}, acknowledged at {acked_ms} ms, cannot be ended: {:?} ({:?}) at {} ms",
                    refused.outcome, refused.end, refused.asked_ms
                );
                findings.of_message(PROPERTY, view, sends.topic, text);
            } else if !ends.iter().any(|ended| *ended.outcome == Outcome::Ok) {
                let whom = if asked { "nobody was asked" } else { "its producer got no answer and nobody was asked" };
                let text = format!("the half message {value:?}, acknowledged at {acked_ms} ms, never ended: {whom}");
                findings.of_message(PROPERTY, view, sends.topic, text);
            }
        }
        if view.whole.contains(&sends.topic) {
            let transactions = |is_wanted: fn(&Outcome) -> bool| {
                let commits = ends.iter().filter(|ended| ended.end == End::Commit && is_wanted(ended.outcome));
                commits.map(|ended| ended.transaction).collect::<BTreeSet<_>>().len()
            };
            let least = transactions(|outcome| *outcome == Outcome::Ok);
            let most = transactions(|outcome| !matches!(outcome, Outcome::Refused(_)));
            let spots = view.spots.get(value).map_or(&[][..], Vec::as_slice);
            if !(least..=most).contains(&spots.len()) {
                let text = format!(
                    "{value:?} is at {spots:?}; {least} commits of it were answered OK, {most} may have happened"
                );
                findings.of_message(PROPERTY, view, sends.topic, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::messages::{TRANSACTION, refused, spot_of};
    use crate::check::planted::{Plant, finds};
    use crate::history::messages::{End, MessageEvent};

    #[test]
    fn a_committed_message_that_is_gone_or_there_twice() {
        let mut plant = Plant::clean();
        let (spot, _) = plant.first_final(TRANSACTION);
        plant.retain_messages(|event| spot_of(event) != Some(spot));
        finds(&plant, "message_transactions");
        let mut plant = Plant::clean();
        plant.keep_again(spot);
        finds(&plant, "message_transactions");
    }

    #[test]
    fn a_rolled_back_message_that_is_there() {
        let mut plant = Plant::clean();
        plant.change_first(|event| match event {
            MessageEvent::Ended { end, .. } if *end == End::Commit => {
                *end = End::RollBack;
                true
            }
            _ => false,
        });
        finds(&plant, "message_transactions");
    }

    #[test]
    fn a_half_message_that_is_seen_by_either_kind_of_client() {
        for by_kafka in [true, false] {
            let mut plant = Plant::clean();
            let (of, _) = plant.first_final(TRANSACTION);
            plant.move_first_sight(of, by_kafka, 0);
            finds(&plant, "message_transactions");
        }
    }

    #[test]
    fn a_transaction_that_nobody_is_asked_about() {
        let mut plant = Plant::clean();
        plant.retain_messages(|event| !matches!(event, MessageEvent::Ended { asked: true, end: End::RollBack, .. }));
        finds(&plant, "message_transactions");
    }

    #[test]
    fn a_half_message_that_the_broker_does_not_know_any_more() {
        let mut plant = Plant::clean();
        plant.change_first(|event| match event {
            MessageEvent::Ended { outcome, end: End::RollBack, .. } => {
                *outcome = refused();
                true
            }
            _ => false,
        });
        finds(&plant, "message_transactions");
    }
}
