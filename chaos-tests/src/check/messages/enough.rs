//! Did enough happen with messages to prove anything? Each kind of thing at least once, and sends at a rate.

use std::collections::BTreeSet;

use super::view::MessageView;
use crate::check::Findings;
use crate::history::messages::Kind;

/// Acknowledged sends per second in which the topic acknowledged any.
const ACKED_PER_AVAILABLE_SECOND: u64 = 2;

pub fn check(view: &MessageView, findings: &mut Findings) {
    for topic in 0..view.topics.len() as u16 {
        let (of_topic, counts) = (&view.topics[usize::from(topic)], &findings.messages[usize::from(topic)]);
        let load = view.run.load_begin_ms..view.run.load_end_ms;
        let acks = view.sends.values().filter(|sends| sends.topic == topic).filter_map(|sends| sends.acked_ms());
        let acks: Vec<u64> = acks.filter(|time_ms| load.contains(time_ms)).collect();
        let seconds: BTreeSet<u64> = acks.iter().map(|time_ms| time_ms / 1_000).collect();
        let (acked, available) = (acks.len() as u64, seconds.len() as u64);
        let mut missing = Vec::new();
        if available == 0 || acked < available * ACKED_PER_AVAILABLE_SECOND {
            missing.push(format!("{acked} acknowledged in {available} seconds of availability"));
        }
        let mut need = |count: u64, what: &str| {
            if count == 0 {
                missing.push(format!("no {what}"));
            }
        };
        match of_topic.kind {
            Kind::Normal | Kind::Fifo | Kind::Filtered => need(counts.redelivered, "message came again"),
            Kind::Delay => need(counts.recalled, "message was taken back"),
            Kind::Transaction => {
                need(counts.committed, "commit");
                need(counts.rolled_back, "rollback");
                need(counts.asked, "transaction was asked about");
            }
            Kind::Letters => need(counts.dead_letters, "dead letter"),
        }
        let name = &of_topic.name;
        findings.inconclusive.extend(missing.into_iter().map(|missing| format!("topic {name}: {missing}")));
    }
}

#[cfg(test)]
mod tests {
    use crate::check::planted::Plant;
    use crate::check::planted::messages::NORMAL;
    use crate::check::{Verdict, check};
    use crate::history::messages::MessageEvent;

    fn is_inconclusive(plant: &Plant) {
        let findings = check(&plant.history);
        assert_eq!(findings.verdict(), Verdict::Inconclusive, "{:?}", findings.violations);
    }

    #[test]
    fn too_few_acknowledgements() {
        let mut plant = Plant::clean();
        plant.slow_down_sends(NORMAL);
        is_inconclusive(&plant);
    }

    #[test]
    fn nothing_was_taken_back() {
        let mut plant = Plant::clean();
        plant.retain_messages(|event| !matches!(event, MessageEvent::Recalled { .. }));
        let findings = check(&plant.history);
        assert!(findings.inconclusive.iter().any(|reason| reason.contains("taken back")), "{findings:?}");
    }
}
