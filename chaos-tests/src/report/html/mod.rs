//! The run as one HTML file that needs nothing else: plots on one time line, a table per mode, what was found.

mod plot;
mod series;

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{Remarks, besides, describe, promise, shown, violations_of};
use crate::check::{Findings, Verdict};
use crate::history::{Event, History};
use plot::Scale;
use series::{GAP_MS_MIN, Timeline};

const STYLE: &str = "
:root { color-scheme: light dark; --text: #222; --back: #fff; --soft: #8884; }
@media (prefers-color-scheme: dark) { :root { --text: #ddd; --back: #181818; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 1040px; margin: 2em auto; padding: 0 1em; }
h2 { font-size: 1.05em; margin: 1.6em 0 .3em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25em .7em; border-bottom: 1px solid var(--soft); }
th:first-child, td:first-child, td.words { text-align: left; }
svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: var(--text); }
svg path { fill: none; stroke-width: 1.6; } svg .grid { stroke: var(--soft); }
.key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em; border-radius: 2px; }
.good { color: #1a8f4c; font-weight: 600; } .bad { color: #d63031; font-weight: 600; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 13px; }
";

pub fn page(history: &History, findings: &Findings, remarks: &Remarks) -> String {
    let timeline = Timeline::new(history);
    let scale = Scale::of(&timeline);
    let mut html = String::from("<!doctype html>\n<html lang='en'>\n<meta charset='utf-8'>\n");
    let _ = writeln!(html, "<title>Duolog chaos, seed {}</title>\n<style>{STYLE}</style>", history.run.seed);
    html += &head(history, findings);
    html += &modes(history, findings);
    html += &messages(history, findings);
    html += &legend(&timeline);
    section(&mut html, "Acknowledged per second", &plot::throughput(&timeline, &scale));
    section(
        &mut html,
        "Time to the acknowledgement: median, and dashed the 99th percentile",
        &plot::latency(&timeline, &scale),
    );
    let title = format!("No acknowledgement for {GAP_MS_MIN} ms or longer");
    section(&mut html, &title, &plot::gaps(&timeline, &scale));
    if !history.run.without_faults {
        section(&mut html, "Faults", &plot::faults(&timeline, history.run.node_count, &scale));
    }
    html += &lists(history, findings, remarks);
    html + "</html>\n"
}

fn head(history: &History, findings: &Findings) -> String {
    let run = &history.run;
    let verdict = match findings.verdict() {
        Verdict::Passed => "<span class='good'>passed</span>",
        Verdict::Inconclusive => "<span class='bad'>inconclusive, which fails</span>",
        Verdict::Violated => "<span class='bad'>violated</span>",
    };
    let faults = history.events.iter().filter(|event| matches!(event, Event::FaultBegan { .. })).count();
    let what = match run.without_faults {
        true => "no faults".to_string(),
        false => format!("{} nodes, {faults} faults of nodes", run.node_count),
    };
    let (seconds, seed) = ((run.load_end_ms - run.load_begin_ms) / 1_000, run.seed);
    format!(
        "<h1>Duolog chaos: {verdict}</h1>\n<p>{seconds} s of load, {what}, seed {seed}. \
         Hold the pointer over a line or a bar to see its numbers.</p>\n"
    )
}

fn modes(history: &History, findings: &Findings) -> String {
    let mut html = String::from("<h2>Kafka clients: promised and observed</h2>\n<table>\n");
    html += "<tr><th>replication/flush<th>promised under these faults<th>acknowledged<th>seen<th>lost, allowed<th>lost, not allowed\
        <th>duplicates<th>longest without ack<th>verdict\n";
    for (index, (topic, counts)) in history.topics.iter().zip(&findings.topics).enumerate() {
        let _ = writeln!(
            html,
            "<tr><td>{}<td class='words'>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{} ms<td>{}",
            topic.mode(),
            promise(topic.replication),
            counts.acked,
            counts.consumed,
            counts.lost_allowed,
            counts.lost_violation,
            counts.duplicates,
            counts.longest_no_ack_ms,
            verdict_cell(violations_of(findings, index))
        );
    }
    html + "</table>\n"
}

fn messages(history: &History, findings: &Findings) -> String {
    if findings.messages.is_empty() {
        return String::new();
    }
    let mut html = String::from("<h2>RocketMQ clients</h2>\n<table>\n");
    html += "<tr><th>topic<th>acknowledged<th>fate unknown<th>refused<th>delivered<th>again<th>settled<th>longest without ack<th>besides<th>verdict\n";
    for (topic, counts) in history.message_topics.iter().zip(&findings.messages) {
        let prefix = format!("topic {}:", topic.name);
        let broken = findings.violations.iter().filter(|violation| violation.text.starts_with(&prefix)).count();
        let _ = writeln!(
            html,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{} ms<td class='words'>{}<td>{}",
            escape(&topic.name),
            counts.acked,
            counts.open,
            counts.refused,
            counts.delivered,
            counts.redelivered,
            counts.settled,
            counts.longest_no_ack_ms,
            besides(topic.kind, counts),
            verdict_cell(broken)
        );
    }
    html + "</table>\n"
}

fn verdict_cell(violations: usize) -> String {
    match violations {
        0 => "<span class='good'>kept</span>".to_string(),
        count => format!("<span class='bad'>broken ({count})</span>"),
    }
}

fn legend(timeline: &Timeline) -> String {
    let mut html = String::from("<p>");
    for (index, line) in timeline.lines.iter().enumerate() {
        let _ =
            write!(html, "<span class='key' style='background:{}'></span>{}", plot::color_of_line(index), line.name);
    }
    html += "<br>";
    let mut seen = BTreeSet::new();
    for band in timeline.bands.iter().filter(|band| seen.insert(band.fault.as_str())) {
        let (color, name) = (plot::color_of_fault(band.fault), band.fault.as_str());
        let _ = write!(html, "<span class='key' style='background:{color}'></span>{name}");
    }
    html + "</p>\n"
}

fn lists(history: &History, findings: &Findings, remarks: &Remarks) -> String {
    let mut html = String::new();
    list(&mut html, "Violations", findings.violations.len(), shown(findings).map(|found| describe(history, found)));
    list(
        &mut html,
        "Why the run proves too little",
        findings.inconclusive.len(),
        findings.inconclusive.iter().cloned(),
    );
    list(&mut html, "Notes", remarks.notes.len(), remarks.notes.iter().cloned());
    let lines = remarks.error_lines.iter().take(super::SHOWN_PER_PROPERTY);
    let lines = lines.map(|(node, line)| format!("node {node}: {line}"));
    list(&mut html, "ERROR lines in the nodes' logs", remarks.error_lines.len(), lines);
    html
}

fn list(html: &mut String, title: &str, count: usize, lines: impl Iterator<Item = String>) {
    if count > 0 {
        let lines: Vec<String> = lines.collect();
        section(html, &format!("{title}: {count}"), &format!("<pre>{}</pre>\n", escape(&lines.join("\n"))));
    }
}

fn section(html: &mut String, title: &str, body: &str) {
    let _ = writeln!(html, "<h2>{title}</h2>\n{body}");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::check;
    use crate::check::planted::{Plant, SYNC};

    fn of(plant: &Plant) -> String {
        page(&plant.history, &check(&plant.history), &Remarks::default())
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_shows_every_plot() {
        let html = of(&Plant::clean());
        for banned in ["http:", "https:", "<script", "src=", "@import", "<link"] {
            assert!(!html.contains(banned), "{banned}");
        }
        assert_eq!(html.matches("<svg").count(), 4);
        assert!(html.contains("kill of node 1 at 2.0 s, 500 ms"), "{html}");
        assert!(html.contains("Duolog chaos: <span class='good'>passed"), "{html}");
    }

    #[test]
    fn a_violation_is_named_and_escaped() {
        let mut plant = Plant::clean();
        plant.append_duplicate(SYNC, 0, 1);
        plant.history.topics[0].name = "<b>".to_string();
        let html = of(&plant);
        assert!(html.contains("violated") && html.contains("broken (2)"), "{html}");
        assert!(html.contains("topic &lt;b&gt;") && !html.contains("<b>"), "{html}");
    }
}
