//! The run's outcome, for people (a table) and for programs (one JSON object per line, the last a summary).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub mod html;
mod messages;

use crate::check::messages::MessageCounts;
use crate::check::{Findings, TopicCounts, Verdict, Violation};
use crate::history::{History, Sync};
use messages::besides;

/// Of each property so many violations are shown; all are counted.
const SHOWN_PER_PROPERTY: usize = 10;

/// What a reader of the report needs beside the history and the findings.
#[derive(Debug, Default)]
pub struct Remarks {
    /// Properties that could not be looked at, and why.
    pub notes: Vec<String>,
    /// ERROR lines of the nodes' logs: (node, line). No violation by themselves.
    pub error_lines: Vec<(u32, String)>,
    /// Where data, logs and history were kept.
    pub kept: Option<PathBuf>,
}

#[derive(Serialize)]
struct Summary<'a> {
    kind: &'static str,
    verdict: Verdict,
    violations: usize,
    inconclusive: &'a [String],
    kills: u64,
    pauses: u64,
    /// Rounds by kind of fault.
    faults: &'a BTreeMap<&'static str, u64>,
    acked: u64,
    longest_no_ack_ms: u64,
    seed: u64,
    duration_ms: u64,
    /// By mode, as `sync/async`.
    modes: BTreeMap<String, &'a TopicCounts>,
    /// By topic.
    messages: BTreeMap<&'a str, &'a MessageCounts>,
    error_lines: usize,
    notes: &'a [String],
    kept: Option<&'a Path>,
}

pub fn json(history: &History, findings: &Findings, remarks: &Remarks) -> String {
    let mut lines = String::new();
    for violation in shown(findings) {
        let line = serde_json::json!({ "kind": "violation", "violation": violation });
        let _ = writeln!(lines, "{line}");
    }
    for (node, line) in remarks.error_lines.iter().take(SHOWN_PER_PROPERTY) {
        let line = serde_json::json!({ "kind": "error_line", "node": node, "line": line });
        let _ = writeln!(lines, "{line}");
    }
    let summary = Summary {
        kind: "summary",
        verdict: findings.verdict(),
        violations: findings.violations.len(),
        inconclusive: &findings.inconclusive,
        kills: findings.kills,
        pauses: findings.pauses,
        faults: &findings.faults,
        acked: findings.topics.iter().map(|counts| counts.acked).sum(),
        longest_no_ack_ms: longest_no_ack_ms(findings),
        seed: history.run.seed,
        duration_ms: history.run.load_end_ms - history.run.load_begin_ms,
        modes: history.topics.iter().zip(&findings.topics).map(|(topic, counts)| (topic.mode(), counts)).collect(),
        messages: history.message_topics.iter().map(|topic| topic.name.as_str()).zip(&findings.messages).collect(),
        error_lines: remarks.error_lines.len(),
        notes: &remarks.notes,
        kept: remarks.kept.as_deref(),
    };
    lines + &serde_json::to_string(&summary).expect("plain data becomes JSON") + "\n"
}

pub fn table(history: &History, findings: &Findings, remarks: &Remarks) -> String {
    let mut text = String::new();
    let seconds = (history.run.load_end_ms - history.run.load_begin_ms) / 1_000;
    let faults: Vec<String> = findings.faults.iter().map(|(name, rounds)| format!("{rounds} {name}")).collect();
    let _ = writeln!(text, "\n{seconds} s, seed {}; faults: {}\n", history.run.seed, faults.join(", "));
    let _ = writeln!(
        text,
        "{:<12} {:<47} {:>9} {:>9} {:>9} {:>6} {:>10}  verdict",
        "mode", "promised under these faults", "acked", "consumed", "lost: may", "beyond", "no ack, ms"
    );
    for (index, (topic, counts)) in history.topics.iter().zip(&findings.topics).enumerate() {
        let verdict = match violations_of(findings, index) {
            0 => "kept".to_string(),
            violations => format!("BROKEN ({violations})"),
        };
        let _ = writeln!(
            text,
            "{:<12} {:<47} {:>9} {:>9} {:>9} {:>6} {:>10}  {verdict}",
            topic.mode(),
            promise(topic.replication),
            counts.acked,
            counts.consumed,
            counts.lost_allowed,
            counts.lost_violation,
            counts.longest_no_ack_ms
        );
    }
    text += &messages::table(history, &findings.messages);
    let _ = writeln!(text, "\nlongest time without an acknowledgement: {} ms", longest_no_ack_ms(findings));
    for note in &remarks.notes {
        let _ = writeln!(text, "note: {note}");
    }
    write_list(&mut text, "ERROR lines in the nodes' logs", remarks.error_lines.len(), || {
        remarks
            .error_lines
            .iter()
            .take(SHOWN_PER_PROPERTY)
            .map(|(node, line)| format!("node {node}: {line:.200}"))
            .collect()
    });
    write_list(&mut text, "violations", findings.violations.len(), || {
        shown(findings).map(|violation| describe(history, violation)).collect()
    });
    for reason in &findings.inconclusive {
        let _ = writeln!(text, "inconclusive: {reason}");
    }
    if let Some(kept) = &remarks.kept {
        let _ = writeln!(text, "data, logs and history are kept in {}", kept.display());
    }
    let _ = writeln!(
        text,
        "verdict: {}",
        match findings.verdict() {
            Verdict::Passed => "passed",
            Verdict::Inconclusive => "INCONCLUSIVE, which fails",
            Verdict::Violated => "VIOLATED",
        }
    );
    text
}

fn violations_of(findings: &Findings, topic: usize) -> usize {
    findings.violations.iter().filter(|violation| violation.topic == Some(topic as u16)).count()
}

fn promise(replication: Sync) -> &'static str {
    match replication {
        Sync::Sync => "no acknowledged record is lost",
        Sync::Async => "only a lost leader's last 2 s, never once seen",
    }
}

fn describe(history: &History, violation: &Violation) -> String {
    let topic = violation.topic.and_then(|topic| history.topics.get(usize::from(topic)));
    let place = topic.map_or(String::new(), |topic| format!("topic {} ", topic.name));
    format!("{}: {place}{}", violation.property, violation.text)
}

fn shown(findings: &Findings) -> impl Iterator<Item = &Violation> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    findings.violations.iter().filter(move |violation| {
        let count = counts.entry(violation.property).or_default();
        *count += 1;
        *count <= SHOWN_PER_PROPERTY
    })
}

fn write_list(text: &mut String, title: &str, count: usize, lines: impl FnOnce() -> Vec<String>) {
    if count == 0 {
        return;
    }
    let _ = writeln!(text, "\n{title}: {count}");
    for line in lines() {
        let _ = writeln!(text, "  {line}");
    }
}

fn longest_no_ack_ms(findings: &Findings) -> u64 {
    findings.topics.iter().map(|counts| counts.longest_no_ack_ms).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{check, planted};

    #[test]
    fn the_summary_is_the_last_line_and_has_the_fixed_keys() {
        let history = planted::clean();
        let text = json(&history, &check(&history), &Remarks::default());
        let last: serde_json::Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
        for key in ["violations", "kills", "pauses", "acked", "longest_no_ack_ms", "seed", "verdict"] {
            assert!(!last[key].is_null(), "{key} is missing in {last}");
        }
        for key in ["acked", "open", "redelivered", "settled", "dead_letters"] {
            assert!(!last["messages"]["letters"][key].is_null(), "{key} is missing in {last}");
        }
        for key in ["acked", "consumed", "lost_allowed", "lost_violation"] {
            assert!(!last["modes"]["sync/async"][key].is_null(), "{key} is missing in {last}");
        }
    }

    #[test]
    fn the_table_names_the_verdict() {
        let history = planted::clean();
        let text = table(&history, &check(&history), &Remarks::default());
        assert!(text.contains("verdict: passed"), "{text}");
    }
}
