//! After the faults everything is delivered and ended within the limit, and can be read.

use super::view::MessageView;
use crate::check::Findings;

const PROPERTY: &str = "message_liveness";

pub fn check(view: &MessageView, findings: &mut Findings) {
    match view.drained {
        Some((_, 0)) => {}
        Some((waited_ms, owed)) => {
            let text =
                format!("{owed} messages or ends of transactions are owed {waited_ms} ms after the faults ended");
            findings.of_cluster(PROPERTY, text);
        }
        None => findings.of_cluster(PROPERTY, "nobody knows whether everything was delivered".to_string()),
    }
    for topic in (0..view.topics.len() as u16).filter(|topic| !view.whole.contains(topic)) {
        findings.of_message(PROPERTY, view, topic, "could not be read to its end".to_string());
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::{Plant, finds};
    use crate::history::messages::MessageEvent;

    #[test]
    fn something_is_owed_at_the_end() {
        let mut plant = Plant::clean();
        plant.push_message(MessageEvent::Drained { waited_ms: 60_000, owed: 1 });
        finds(&plant, "message_liveness");
    }

    #[test]
    fn the_end_is_missing() {
        let mut plant = Plant::clean();
        plant.retain_messages(|event| !matches!(event, MessageEvent::Drained { .. }));
        finds(&plant, "message_liveness");
    }

    #[test]
    fn a_topic_that_cannot_be_read() {
        let mut plant = Plant::clean();
        plant.change_first(|event| match event {
            MessageEvent::FinalEnd { read_all, .. } => {
                *read_all = false;
                true
            }
            _ => false,
        });
        finds(&plant, "message_liveness");
    }
}
