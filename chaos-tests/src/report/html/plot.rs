//! Inline SVG: panels one above the other on one time line.

use std::fmt::Write;

use super::series::{Band, Line, Timeline};
use crate::history::Fault;

const WIDTH: f64 = 1_000.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 20.0;
const PANEL: f64 = 150.0;
const ROW: f64 = 18.0;

/// The scale of the time line.
pub struct Scale {
    end_ms: u64,
}

impl Scale {
    pub fn of(timeline: &Timeline) -> Scale {
        Scale { end_ms: timeline.end_ms.max(1_000) }
    }

    fn x(&self, time_ms: u64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * time_ms as f64 / self.end_ms as f64
    }

    /// Marks at a round number of seconds, ten at most.
    fn ticks_s(&self) -> impl Iterator<Item = u64> + use<> {
        let seconds = self.end_ms / 1_000;
        let steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200];
        let step = steps.into_iter().find(|step| seconds / step <= 10).unwrap_or(seconds / 10);
        (0..=seconds).step_by(step as usize)
    }
}

pub fn color_of_line(index: usize) -> &'static str {
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#777777"][index % 5]
}

pub fn color_of_fault(fault: Fault) -> &'static str {
    match fault {
        Fault::Kill => "#c0392b",
        Fault::Pause => "#e6a817",
        Fault::CutOff => "#6c5ce7",
        Fault::Links => "#a29bfe",
        Fault::Stop => "#7f8c8d",
        Fault::Transfer => "#16a085",
        Fault::FullDisk => "#8d5524",
        Fault::SlowDisk => "#c68642",
        Fault::FailingDisk => "#5d4037",
        Fault::PowerLoss => "#2d3436",
        Fault::Clock => "#0984e3",
        Fault::Members => "#27ae60",
        Fault::FlippedBit => "#d63031",
    }
}

/// Acknowledged per second.
pub fn throughput(timeline: &Timeline, scale: &Scale) -> String {
    let most = timeline.lines.iter().flat_map(|line| &line.acked).max().copied().unwrap_or(0).max(1);
    let y = |value: u32| PANEL * (1.0 - f64::from(value) / f64::from(most));
    let mut svg = open(PANEL, scale);
    for part in [0, most / 2, most] {
        mark(&mut svg, y(part), &part.to_string());
    }
    for (index, Line { name, acked, .. }) in timeline.lines.iter().enumerate() {
        let points = acked.iter().enumerate().map(|(second, value)| Some((middle(scale, second), y(*value))));
        polyline(&mut svg, points, color_of_line(index), "", name);
    }
    close(svg)
}

/// Milliseconds from the hand-over to the acknowledgement, on a logarithmic scale.
pub fn latency(timeline: &Timeline, scale: &Scale) -> String {
    const DECADES: f64 = 5.0;
    let y = |value_ms: u64| PANEL * (1.0 - (value_ms.max(1) as f64).log10() / DECADES);
    let mut svg = open(PANEL, scale);
    for (value_ms, text) in [(1, "1 ms"), (10, "10 ms"), (100, "100 ms"), (1_000, "1 s"), (10_000, "10 s")] {
        mark(&mut svg, y(value_ms), text);
    }
    for (index, Line { name, latency, .. }) in timeline.lines.iter().enumerate() {
        let at = |pick: fn((u64, u64)) -> u64| {
            let each = latency.iter().enumerate();
            each.map(move |(second, value)| value.map(|value| (middle(scale, second), y(pick(value)))))
        };
        polyline(&mut svg, at(|(p50, _)| p50), color_of_line(index), "", &format!("{name}, median"));
        let dashes = "stroke-dasharray='4 3'";
        polyline(&mut svg, at(|(_, p99)| p99), color_of_line(index), dashes, &format!("{name}, 99th percentile"));
    }
    close(svg)
}

/// One row per line: the times without an acknowledgement.
pub fn gaps(timeline: &Timeline, scale: &Scale) -> String {
    let mut svg = open(ROW * timeline.lines.len() as f64, scale);
    for (row, Line { name, gaps, .. }) in timeline.lines.iter().enumerate() {
        label(&mut svg, row, name);
        for &(begin_ms, end_ms) in gaps {
            let title = format!("{name}: {} ms without an acknowledgement from {}", end_ms - begin_ms, clock(begin_ms));
            bar(&mut svg, scale, row, (begin_ms, end_ms), color_of_line(row), &title);
        }
    }
    close(svg)
}

/// One row per node: its faults.
pub fn faults(timeline: &Timeline, node_count: u32, scale: &Scale) -> String {
    let mut svg = open(ROW * f64::from(node_count), scale);
    for node in 0..node_count {
        label(&mut svg, node as usize, &format!("node {node}"));
    }
    for Band { node, fault, begin_ms, end_ms, leads, detail } in &timeline.bands {
        let length_ms = end_ms.saturating_sub(*begin_ms);
        let name = fault.as_str();
        let detail = super::escape(detail);
        let title = format!(
            "{name} of node {node} at {}, {length_ms} ms; it led {leads} partitions. {detail}",
            clock(*begin_ms)
        );
        bar(&mut svg, scale, *node as usize, (*begin_ms, *end_ms), color_of_fault(*fault), &title);
    }
    close(svg)
}

fn open(height: f64, scale: &Scale) -> String {
    let mut svg = format!("<svg viewBox='0 -8 {WIDTH} {}' role='img'>\n", height + 30.0);
    for second in scale.ticks_s() {
        let x = scale.x(second * 1_000);
        let _ = writeln!(svg, "<line class='grid' x1='{x:.1}' y1='0' x2='{x:.1}' y2='{height}'/>");
        let _ = writeln!(svg, "<text x='{x:.1}' y='{}' text-anchor='middle'>{second} s</text>", height + 14.0);
    }
    svg
}

fn close(svg: String) -> String {
    svg + "</svg>\n"
}

fn mark(svg: &mut String, y: f64, text: &str) {
    let (left, right) = (LEFT, WIDTH - RIGHT);
    let _ = writeln!(svg, "<line class='grid' x1='{left}' y1='{y:.1}' x2='{right}' y2='{y:.1}'/>");
    let _ = writeln!(svg, "<text x='{}' y='{:.1}' text-anchor='end'>{text}</text>", LEFT - 6.0, y + 4.0);
}

fn label(svg: &mut String, row: usize, text: &str) {
    let y = ROW * row as f64 + 13.0;
    let _ = writeln!(svg, "<text x='{}' y='{y:.1}' text-anchor='end'>{text}</text>", LEFT - 6.0);
}

fn bar(svg: &mut String, scale: &Scale, row: usize, (begin_ms, end_ms): (u64, u64), color: &str, title: &str) {
    let (x, y) = (scale.x(begin_ms), ROW * row as f64 + 3.0);
    // A fault of no length is still seen.
    let width = (scale.x(end_ms) - x).max(2.0);
    let _ = writeln!(
        svg,
        "<rect x='{x:.1}' y='{y:.1}' width='{width:.1}' height='{:.1}' fill='{color}' fill-opacity='.75'><title>{title}</title></rect>",
        ROW - 6.0
    );
}

/// A line that is interrupted where there is no point.
fn polyline(svg: &mut String, points: impl Iterator<Item = Option<(f64, f64)>>, color: &str, style: &str, title: &str) {
    let mut path = String::new();
    let mut pen = 'M';
    for point in points {
        match point {
            Some((x, y)) => {
                let _ = write!(path, "{pen}{x:.1} {y:.1}");
                pen = 'L';
            }
            None => pen = 'M',
        }
    }
    let _ = writeln!(svg, "<path d='{path}' stroke='{color}' {style}><title>{title}</title></path>");
}

fn middle(scale: &Scale, second: usize) -> f64 {
    scale.x((second as u64 * 1_000 + 500).min(scale.end_ms))
}

fn clock(time_ms: u64) -> String {
    format!("{:.1} s", time_ms as f64 / 1e3)
}
