//! What every part that has metrics writes of them, as Prometheus text: the lines before a metric, labels, and how long something took.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper limits of the buckets, in milliseconds; what took longer is only in the total.
const LIMITS_MS: [u64; 13] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/// Appends the lines that come before the values of a metric; `kind` is Prometheus' word for its type.
pub fn metric_head(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// What stands between the quotes of a label.
pub(crate) fn label_value(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Durations by bucket, with their number and sum.
#[derive(Debug)]
pub struct Histogram {
    /// Not cumulative; the last is for what took longer than all limits.
    buckets: [AtomicU64; LIMITS_MS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Without durations.
    #[must_use]
    pub const fn new() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; LIMITS_MS.len() + 1], sum_us: AtomicU64::new(0) }
    }

    /// Counts a duration.
    pub fn count(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = LIMITS_MS.partition_point(|limit_ms| limit_ms * 1_000 < us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// Appends the lines of this histogram, with a label such as `api="Fetch"`; nothing, when nothing was counted.
    pub fn render(&self, text: &mut String, name: &str, label: &str) {
        let counts = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return;
        }
        let mut below = 0;
        for (limit_ms, count) in LIMITS_MS.iter().zip(counts) {
            below += count;
            let _ = writeln!(text, "{name}_bucket{{{label},le=\"{}\"}} {below}", seconds(limit_ms * 1_000));
        }
        let _ = writeln!(text, "{name}_bucket{{{label},le=\"+Inf\"}} {total}");
        let _ = writeln!(text, "{name}_sum{{{label}}} {}", seconds(self.sum_us.load(Ordering::Relaxed)));
        let _ = writeln!(text, "{name}_count{{{label}}} {total}");
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

fn seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_ends_its_label() {
        for (name, expected) in [("g", "g"), ("a\"b", "a\\\"b"), ("a\\", "a\\\\"), ("a\nb", "a\\nb"), ("\\n", "\\\\n")]
        {
            assert_eq!(label_value(name), expected, "{name:?}");
        }
    }

    #[test]
    fn buckets_are_cumulative_and_a_limit_belongs_to_its_own() {
        let histogram = Histogram::new();
        let mut text = String::new();
        histogram.render(&mut text, "took_seconds", "api=\"A\"");
        assert_eq!(text, "");
        for us in [1, 1_000, 1_001, 20_000_000] {
            histogram.count(Duration::from_micros(us));
        }
        histogram.render(&mut text, "took_seconds", "api=\"A\"");
        for line in [
            "took_seconds_bucket{api=\"A\",le=\"0.001\"} 2",
            "took_seconds_bucket{api=\"A\",le=\"0.002\"} 3",
            "took_seconds_bucket{api=\"A\",le=\"10\"} 3",
            "took_seconds_bucket{api=\"A\",le=\"+Inf\"} 4",
            "took_seconds_sum{api=\"A\"} 20.002002",
            "took_seconds_count{api=\"A\"} 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
