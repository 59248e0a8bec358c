//! Counters of the Kafka front end, and their Prometheus text.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use duolog_broker::{Histogram, metric_head};
use kafka_protocol::ResponseError;
use kafka_protocol::error::ParseResponseErrorCode;

use crate::dispatch::{API_COUNT, api_name};

/// Requests that were dispatched, by API.
pub const REQUESTS_TOTAL: &str = "duolog_kafka_requests_total";
/// How long requests took, by API; those that wait for records with their waiting.
pub const REQUEST_SECONDS: &str = "duolog_kafka_request_seconds";
/// Errors that were answered, by Kafka's code.
pub const ERRORS_TOTAL: &str = "duolog_kafka_errors_total";
/// Bytes of request frames.
pub const RECEIVED_BYTES_TOTAL: &str = "duolog_kafka_received_bytes_total";
/// Bytes of answers.
pub const SENT_BYTES_TOTAL: &str = "duolog_kafka_sent_bytes_total";
/// Connections that are open.
pub const CONNECTIONS: &str = "duolog_kafka_connections";
/// Connections that were accepted.
pub const CONNECTIONS_ACCEPTED_TOTAL: &str = "duolog_kafka_connections_accepted_total";
/// Connections that were refused because too many were open.
pub const CONNECTIONS_REFUSED_TOTAL: &str = "duolog_kafka_connections_refused_total";
/// Connections that were closed because of what the client sent or did not do.
pub const CONNECTIONS_BROKEN_TOTAL: &str = "duolog_kafka_connections_broken_total";

/// Fetch sessions that are open.
pub const FETCH_SESSIONS: &str = "duolog_kafka_fetch_sessions";
/// Partitions of all fetch sessions.
pub const FETCH_SESSION_PARTITIONS: &str = "duolog_kafka_fetch_session_partitions";
/// Fetch sessions that made room for others.
pub const FETCH_SESSIONS_EVICTED_TOTAL: &str = "duolog_kafka_fetch_sessions_evicted_total";

/// One more than Kafka's largest known error code; larger ones are counted as unknown.
const ERROR_CODES: usize = 160;

/// The counters; shared by all connections.
#[derive(Debug)]
pub struct KafkaMetrics {
    requests: [AtomicU64; API_COUNT],
    took: [Histogram; API_COUNT],
    /// Index is the code plus one.
    errors: [AtomicU64; ERROR_CODES],
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    connections: AtomicU64,
    connections_accepted: AtomicU64,
    connections_refused: AtomicU64,
    connections_broken: AtomicU64,
    fetch_sessions: AtomicU64,
    fetch_session_partitions: AtomicU64,
    fetch_sessions_evicted: AtomicU64,
}

impl Default for KafkaMetrics {
    fn default() -> Self {
        Self {
            requests: [const { AtomicU64::new(0) }; API_COUNT],
            took: [const { Histogram::new() }; API_COUNT],
            errors: [const { AtomicU64::new(0) }; ERROR_CODES],
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            connections_accepted: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            connections_broken: AtomicU64::new(0),
            fetch_sessions: AtomicU64::new(0),
            fetch_session_partitions: AtomicU64::new(0),
            fetch_sessions_evicted: AtomicU64::new(0),
        }
    }
}

impl KafkaMetrics {
    pub(crate) fn count_request(&self, api_index: usize) {
        add(&self.requests[api_index], 1);
    }

    /// From the end of the request's frame until its answer is known.
    pub(crate) fn count_took(&self, api_index: usize, took: Duration) {
        self.took[api_index].count(took);
    }

    pub(crate) fn count_error(&self, code: i16) {
        let index = usize::try_from(i32::from(code) + 1).unwrap_or(0);
        add(self.errors.get(index).unwrap_or(&self.errors[0]), 1);
    }

    pub(crate) fn count_received(&self, bytes: usize) {
        add(&self.received_bytes, bytes as u64);
    }

    pub(crate) fn count_sent(&self, bytes: usize) {
        add(&self.sent_bytes, bytes as u64);
    }

    pub(crate) fn connection_opened(&self) {
        add(&self.connections, 1);
        add(&self.connections_accepted, 1);
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn connection_refused(&self) {
        add(&self.connections_refused, 1);
    }

    pub(crate) fn connection_broken(&self) {
        add(&self.connections_broken, 1);
    }

    pub(crate) fn show_fetch_sessions(&self, sessions: usize, partitions: usize) {
        self.fetch_sessions.store(sessions as u64, Ordering::Relaxed);
        self.fetch_session_partitions.store(partitions as u64, Ordering::Relaxed);
    }

    pub(crate) fn fetch_session_evicted(&self) {
        add(&self.fetch_sessions_evicted, 1);
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> u64 {
        get(&self.connections)
    }

    /// All counters as Prometheus text. APIs and codes that never occurred are left out.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        metric_head(&mut text, REQUESTS_TOTAL, "counter", "Requests that were dispatched, by API.");
        for (index, requests) in self.requests.iter().enumerate().filter(|(_, n)| get(n) > 0) {
            writeln!(text, "{REQUESTS_TOTAL}{{api=\"{}\"}} {}", api_name(index), get(requests))
                .expect("a string takes all");
        }
        metric_head(
            &mut text,
            REQUEST_SECONDS,
            "histogram",
            "How long requests took, by API; with the time that they waited for records.",
        );
        for (index, took) in self.took.iter().enumerate() {
            took.render(&mut text, REQUEST_SECONDS, &format!("api=\"{}\"", api_name(index)));
        }
        metric_head(&mut text, ERRORS_TOTAL, "counter", "Errors that were answered, by Kafka's code.");
        for (index, errors) in self.errors.iter().enumerate().filter(|(_, n)| get(n) > 0) {
            writeln!(text, "{ERRORS_TOTAL}{{code=\"{}\"}} {}", code_name(index), get(errors))
                .expect("a string takes all");
        }
        for (name, kind, help, value) in [
            (RECEIVED_BYTES_TOTAL, "counter", "Bytes of request frames.", &self.received_bytes),
            (SENT_BYTES_TOTAL, "counter", "Bytes of answers.", &self.sent_bytes),
            (CONNECTIONS, "gauge", "Connections that are open.", &self.connections),
            (CONNECTIONS_ACCEPTED_TOTAL, "counter", "Connections that were accepted.", &self.connections_accepted),
            (
                CONNECTIONS_REFUSED_TOTAL,
                "counter",
                "Connections refused because too many were open.",
                &self.connections_refused,
            ),
            (
                CONNECTIONS_BROKEN_TOTAL,
                "counter",
                "Connections closed for what the client did.",
                &self.connections_broken,
            ),
            (FETCH_SESSIONS, "gauge", "Fetch sessions that are open.", &self.fetch_sessions),
            (FETCH_SESSION_PARTITIONS, "gauge", "Partitions of all fetch sessions.", &self.fetch_session_partitions),
            (
                FETCH_SESSIONS_EVICTED_TOTAL,
                "counter",
                "Fetch sessions that made room for others.",
                &self.fetch_sessions_evicted,
            ),
        ] {
            metric_head(&mut text, name, kind, help);
            writeln!(text, "{name} {}", get(value)).expect("a string takes all");
        }
        text
    }
}

fn code_name(index: usize) -> String {
    let code = i16::try_from(index).unwrap_or(0) - 1;
    match code.err() {
        None => "None".to_owned(),
        Some(ResponseError::Unknown(code)) => code.to_string(),
        Some(error) => format!("{error:?}"),
    }
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_rendered() {
        let metrics = KafkaMetrics::default();
        metrics.count_request(0);
        metrics.count_took(0, Duration::from_millis(3));
        metrics.count_error(ResponseError::NotLeaderOrFollower.code());
        metrics.count_error(30_000);
        metrics.count_sent(7);
        let text = metrics.render();
        for line in [
            "duolog_kafka_requests_total{api=\"Produce\"} 1",
            "duolog_kafka_request_seconds_bucket{api=\"Produce\",le=\"0.005\"} 1",
            "duolog_kafka_errors_total{code=\"NotLeaderOrFollower\"} 1",
            "duolog_kafka_errors_total{code=\"UnknownServerError\"} 1",
            "duolog_kafka_sent_bytes_total 7",
            "# TYPE duolog_kafka_connections gauge",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
