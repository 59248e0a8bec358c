//! Did enough happen to prove anything? Too few faults or too few acknowledgements make a run inconclusive.

use std::collections::BTreeSet;

use super::{Findings, View};
use crate::faults::Kind;
use crate::history::Fault;

/// At least one round of faults in this time, on average, where all of them are short …
pub const SHORT_FAULT_EVERY_MS: u64 = 5_000;
/// … and where some last.
pub const FAULT_EVERY_MS: u64 = 12_000;

/// Acknowledged records per second in which the topic acknowledged anything.
pub const ACKED_PER_AVAILABLE_SECOND: u64 = 100;

pub fn check(view: &View, findings: &mut Findings) {
    let run = &view.history.run;
    let load_ms = run.load_end_ms - run.load_begin_ms;
    findings.kills = rounds(view, Fault::Kill);
    findings.pauses = rounds(view, Fault::Pause);
    for fault in &view.faults {
        findings.faults.entry(fault.fault.as_str()).or_insert_with(|| rounds(view, fault.fault));
    }
    let all: BTreeSet<u32> = view.faults.iter().map(|fault| fault.round).collect();
    let are_short = run.faults.iter().all(|name| Kind::is_short(name));
    let every_ms = if are_short { SHORT_FAULT_EVERY_MS } else { FAULT_EVERY_MS };
    if !run.without_faults && all.len() as u64 * every_ms < load_ms {
        findings.inconclusive.push(format!("only {} faults in {} s", all.len(), load_ms / 1_000));
    }
    for topic in 0..view.history.topics.len() {
        check_topic(view, findings, topic);
    }
}

fn check_topic(view: &View, findings: &mut Findings, topic: usize) {
    let run = &view.history.run;
    let mut times: Vec<u64> = view
        .acks
        .iter()
        .filter(|ack| {
            usize::from(ack.place.topic) == topic && (run.load_begin_ms..run.load_end_ms).contains(&ack.time_ms)
        })
        .map(|ack| ack.time_ms)
        .collect();
    times.sort_unstable();
    let seconds: BTreeSet<u64> = times.iter().map(|time_ms| (time_ms - run.load_begin_ms) / 1_000).collect();
    let (acked, available) = (times.len() as u64, seconds.len() as u64);
    if available == 0 || acked < available * ACKED_PER_AVAILABLE_SECOND {
        let name = &view.history.topics[topic].name;
        findings
            .inconclusive
            .push(format!("topic {name}: {acked} acknowledged in {available} seconds of availability"));
    }
    let mut last_ms = run.load_begin_ms;
    let longest = &mut findings.topics[topic].longest_no_ack_ms;
    for time_ms in times.into_iter().chain([run.load_end_ms]) {
        *longest = (*longest).max(time_ms - last_ms);
        last_ms = time_ms;
    }
}

/// A round counts once, however many nodes it hit.
fn rounds(view: &View, kind: Fault) -> u64 {
    let rounds: BTreeSet<u32> =
        view.faults.iter().filter(|fault| fault.fault == kind).map(|fault| fault.round).collect();
    rounds.len() as u64
}

#[cfg(test)]
mod tests {
    use crate::check::planted::{ASYNC, Plant, passes};
    use crate::check::{Verdict, check};
    use crate::history::Event;

    #[test]
    fn too_few_kills() {
        let mut plant = Plant::clean();
        plant.keep_kills(1);
        let findings = check(&plant.history);
        assert_eq!(findings.verdict(), Verdict::Inconclusive, "{:?}", findings.violations);
    }

    #[test]
    fn no_faults_are_enough_where_none_are_wanted() {
        let mut plant = Plant::clean();
        plant.keep_kills(0);
        plant.history.run.without_faults = true;
        passes(&plant);
    }

    #[test]
    fn too_few_acknowledgements() {
        let mut plant = Plant::clean();
        plant.history.events.retain(|event| match event {
            Event::Acked { place, offset: Some(offset), .. } => place.topic != ASYNC || offset % 2 == 0,
            _ => true,
        });
        let findings = check(&plant.history);
        assert_eq!(findings.verdict(), Verdict::Inconclusive, "{:?}", findings.violations);
    }

    #[test]
    fn the_longest_time_without_an_acknowledgement() {
        let mut plant = Plant::clean();
        plant.history.events.retain(|event| match event {
            Event::Acked { place, time_ms, .. } => place.topic != ASYNC || !(3_000..6_000).contains(time_ms),
            _ => true,
        });
        let longest = passes(&plant).topics[usize::from(ASYNC)].longest_no_ack_ms;
        assert!((3_000..3_020).contains(&longest), "{longest} ms");
    }
}
