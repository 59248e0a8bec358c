//! Counters of the RocketMQ front end, and their Prometheus text.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use duolog_broker::{Histogram, metric_head};

use crate::proto::Code;

/// Calls that came, by name; those of other nodes included.
pub const REQUESTS_TOTAL: &str = "duolog_rocketmq_requests_total";
/// How long calls took, by name; those that wait for messages with their waiting.
pub const REQUEST_SECONDS: &str = "duolog_rocketmq_request_seconds";
/// Statuses that were answered, by the protocol's code.
pub const ANSWERS_TOTAL: &str = "duolog_rocketmq_answers_total";
/// Messages that were stored by this node.
pub const SENT_MESSAGES_TOTAL: &str = "duolog_rocketmq_sent_messages_total";
/// Messages that were delivered by this node.
pub const DELIVERED_MESSAGES_TOTAL: &str = "duolog_rocketmq_delivered_messages_total";
/// Calls that were sent on to the leader's node.
pub const FORWARDED_TOTAL: &str = "duolog_rocketmq_forwarded_requests_total";
/// Questions to producers about half messages.
pub const CHECKS_TOTAL: &str = "duolog_rocketmq_transaction_checks_total";
/// Clients that are known.
pub const CLIENTS: &str = "duolog_rocketmq_clients";
/// Connections that are open.
pub const CONNECTIONS: &str = "duolog_rocketmq_connections";
/// Connections that were accepted.
pub const CONNECTIONS_ACCEPTED_TOTAL: &str = "duolog_rocketmq_connections_accepted_total";
/// Connections that were refused because too many were open.
pub const CONNECTIONS_REFUSED_TOTAL: &str = "duolog_rocketmq_connections_refused_total";
/// Connections that did not begin as HTTP/2, with or without TLS.
pub const CONNECTIONS_BROKEN_TOTAL: &str = "duolog_rocketmq_connections_broken_total";
/// Bytes of requests that are being read or answered, of clients and of other nodes.
pub const REQUESTS_BYTES: &str = "duolog_rocketmq_requests_bytes";
/// Requests that were given up because nothing more of them arrived.
pub const REQUESTS_STALLED_TOTAL: &str = "duolog_rocketmq_requests_stalled_total";
/// Requests that were refused because there was no room for them for too long.
pub const REQUESTS_CROWDED_OUT_TOTAL: &str = "duolog_rocketmq_requests_crowded_out_total";

macro_rules! calls {
    ($($name:ident),* $(,)?) => {
        /// The calls of the protocol.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Call { $($name),* }

        const CALLS: &[Call] = &[$(Call::$name),*];
    };
}

calls! {
    QueryRoute, Heartbeat, SendMessage, QueryAssignment, ReceiveMessage, AckMessage, ForwardMessageToDeadLetterQueue,
    PullMessage, UpdateOffset, GetOffset, QueryOffset, EndTransaction, Telemetry, NotifyClientTermination,
    ChangeInvisibleDuration, RecallMessage, SyncLiteSubscription,
}

/// Codes that this front end answers; others are counted under the first.
const CODES: [Code; 34] = [
    Code::Unspecified,
    Code::Ok,
    Code::MultipleResults,
    Code::BadRequest,
    Code::IllegalTopic,
    Code::IllegalConsumerGroup,
    Code::IllegalMessageTag,
    Code::IllegalMessageKey,
    Code::IllegalMessageGroup,
    Code::IllegalMessagePropertyKey,
    Code::InvalidTransactionId,
    Code::IllegalMessageId,
    Code::IllegalFilterExpression,
    Code::IllegalInvisibleTime,
    Code::IllegalDeliveryTime,
    Code::InvalidReceiptHandle,
    Code::MessagePropertyConflictWithType,
    Code::MessageCorrupted,
    Code::ClientIdRequired,
    Code::IllegalOffset,
    Code::Unauthorized,
    Code::Forbidden,
    Code::NotFound,
    Code::MessageNotFound,
    Code::TopicNotFound,
    Code::MessageBodyTooLarge,
    Code::MessageBodyEmpty,
    Code::TooManyRequests,
    Code::MessagePropertiesTooLarge,
    Code::InternalServerError,
    Code::HaNotAvailable,
    Code::NotImplemented,
    Code::ProxyTimeout,
    Code::MasterPersistenceTimeout,
];

/// The counters; shared by all connections.
#[derive(Debug)]
pub struct RocketmqMetrics {
    requests: [AtomicU64; CALLS.len()],
    took: [Histogram; CALLS.len()],
    answers: [AtomicU64; CODES.len()],
    sent_messages: AtomicU64,
    delivered_messages: AtomicU64,
    forwarded: AtomicU64,
    checks: AtomicU64,
    clients: AtomicU64,
    connections: AtomicU64,
    connections_accepted: AtomicU64,
    connections_refused: AtomicU64,
    connections_broken: AtomicU64,
    requests_bytes: AtomicU64,
    requests_stalled: AtomicU64,
    requests_crowded_out: AtomicU64,
}

impl Default for RocketmqMetrics {
    fn default() -> Self {
        Self {
            requests: [const { AtomicU64::new(0) }; CALLS.len()],
            took: [const { Histogram::new() }; CALLS.len()],
            answers: [const { AtomicU64::new(0) }; CODES.len()],
            sent_messages: AtomicU64::new(0),
            delivered_messages: AtomicU64::new(0),
            forwarded: AtomicU64::new(0),
            checks: AtomicU64::new(0),
            clients: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            connections_accepted: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            connections_broken: AtomicU64::new(0),
            requests_bytes: AtomicU64::new(0),
            requests_stalled: AtomicU64::new(0),
            requests_crowded_out: AtomicU64::new(0),
        }
    }
}

impl RocketmqMetrics {
    pub(crate) fn count_request(&self, call: Call) {
        add(&self.requests[call as usize], 1);
    }

    /// From the request's arrival until its answer is known.
    pub(crate) fn count_took(&self, call: Call, took: Duration) {
        self.took[call as usize].count(took);
    }

    pub(crate) fn count_answer(&self, code: Code) {
        let place = CODES.iter().position(|known| *known == code).unwrap_or(0);
        add(&self.answers[place], 1);
    }

    pub(crate) fn count_sent(&self, messages: usize) {
        add(&self.sent_messages, messages as u64);
    }

    pub(crate) fn count_delivered(&self, messages: usize) {
        add(&self.delivered_messages, messages as u64);
    }

    pub(crate) fn count_forwarded(&self) {
        add(&self.forwarded, 1);
    }

    pub(crate) fn count_checks(&self, count: usize) {
        add(&self.checks, count as u64);
    }

    pub(crate) fn show_clients(&self, clients: usize) {
        self.clients.store(clients as u64, Ordering::Relaxed);
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

    pub(crate) fn request_began(&self, bytes: usize) {
        add(&self.requests_bytes, bytes as u64);
    }

    pub(crate) fn request_ended(&self, bytes: usize) {
        self.requests_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn request_stalled(&self) {
        add(&self.requests_stalled, 1);
    }

    pub(crate) fn request_crowded_out(&self) {
        add(&self.requests_crowded_out, 1);
    }

    /// Bytes of requests that are being read or answered.
    #[must_use]
    pub fn requests_bytes(&self) -> u64 {
        get(&self.requests_bytes)
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> u64 {
        get(&self.connections)
    }

    /// Calls that were sent on to the leader's node.
    #[must_use]
    pub fn forwarded(&self) -> u64 {
        get(&self.forwarded)
    }

    /// All counters as Prometheus text. Calls and codes that never occurred are left out.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        metric_head(&mut text, REQUESTS_TOTAL, "counter", "Calls that came, by name.");
        for (call, requests) in CALLS.iter().zip(&self.requests).filter(|(_, n)| get(n) > 0) {
            line(&mut text, REQUESTS_TOTAL, &format!("{{call=\"{call:?}\"}}"), requests);
        }
        metric_head(
            &mut text,
            REQUEST_SECONDS,
            "histogram",
            "How long calls took, by name; with the time that they waited for messages.",
        );
        for (call, took) in CALLS.iter().zip(&self.took) {
            took.render(&mut text, REQUEST_SECONDS, &format!("call=\"{call:?}\""));
        }
        metric_head(&mut text, ANSWERS_TOTAL, "counter", "Statuses that were answered, by the protocol's code.");
        for (code, answers) in CODES.iter().zip(&self.answers).filter(|(_, n)| get(n) > 0) {
            line(&mut text, ANSWERS_TOTAL, &format!("{{code=\"{}\"}}", code.as_str_name()), answers);
        }
        for (name, kind, help, value) in [
            (SENT_MESSAGES_TOTAL, "counter", "Messages that were stored by this node.", &self.sent_messages),
            (DELIVERED_MESSAGES_TOTAL, "counter", "Messages delivered by this node.", &self.delivered_messages),
            (FORWARDED_TOTAL, "counter", "Calls that were sent on to the leader's node.", &self.forwarded),
            (CHECKS_TOTAL, "counter", "Questions to producers about half messages.", &self.checks),
            (CLIENTS, "gauge", "Clients that are known.", &self.clients),
            (CONNECTIONS, "gauge", "Connections that are open.", &self.connections),
            (CONNECTIONS_ACCEPTED_TOTAL, "counter", "Connections that were accepted.", &self.connections_accepted),
            (
                CONNECTIONS_REFUSED_TOTAL,
                "counter",
                "Connections refused: too many were open.",
                &self.connections_refused,
            ),
            (CONNECTIONS_BROKEN_TOTAL, "counter", "Connections that did not speak HTTP/2.", &self.connections_broken),
            (REQUESTS_BYTES, "gauge", "Bytes of requests being read or answered.", &self.requests_bytes),
            (REQUESTS_STALLED_TOTAL, "counter", "Requests given up half-sent.", &self.requests_stalled),
            (REQUESTS_CROWDED_OUT_TOTAL, "counter", "Requests without room for too long.", &self.requests_crowded_out),
        ] {
            metric_head(&mut text, name, kind, help);
            line(&mut text, name, "", value);
        }
        text
    }
}

fn line(text: &mut String, name: &str, labels: &str, value: &AtomicU64) {
    writeln!(text, "{name}{labels} {}", get(value)).expect("a string takes all");
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
        let metrics = RocketmqMetrics::default();
        metrics.count_request(Call::SyncLiteSubscription);
        metrics.count_took(Call::AckMessage, Duration::from_millis(3));
        metrics.count_answer(Code::MasterPersistenceTimeout);
        metrics.count_answer(Code::PaymentRequired);
        metrics.count_sent(7);
        let text = metrics.render();
        for line in [
            "duolog_rocketmq_requests_total{call=\"SyncLiteSubscription\"} 1",
            "duolog_rocketmq_request_seconds_bucket{call=\"AckMessage\",le=\"0.005\"} 1",
            "duolog_rocketmq_answers_total{code=\"MASTER_PERSISTENCE_TIMEOUT\"} 1",
            "duolog_rocketmq_answers_total{code=\"CODE_UNSPECIFIED\"} 1",
            "duolog_rocketmq_sent_messages_total 7",
            "# TYPE duolog_rocketmq_connections gauge",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
