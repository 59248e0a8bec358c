//! What an operator may change of the Kafka front end.

use duolog_types::limits;

/// Settings of the front end. Every limit that is not here is a constant beside its use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// Largest request frame in bytes; a larger one closes the connection. Default 100 MiB (`socket.request.max.bytes`).
    pub frame_bytes_max: usize,
    /// Bytes of requests in progress, over all connections of the node. Default 32 MiB.
    pub request_budget_bytes: usize,
    /// Requests of one connection that may await their answers; then it is not read any further. Default 64.
    pub pending_responses_max: usize,
    /// Connections at a time; further ones are closed at once. Default 10,000.
    pub connections_max: usize,
    /// Most bytes of one fetch answer, whatever the client asks for. Default 55 MiB (`fetch.max.bytes`).
    pub fetch_bytes_max: i32,
    /// Fetch sessions (KIP-227) that are remembered at a time. Default 1,000
    /// (`max.incremental.fetch.session.cache.slots`).
    pub fetch_sessions_max: usize,
    /// A connection without requests and pending answers is closed after this many milliseconds. Default ten minutes
    /// (`connections.max.idle.ms`).
    pub idle_timeout_ms: u64,
    /// A frame must arrive whole within this many milliseconds of its first byte, so that half frames do not hold the
    /// budget. Default two minutes.
    pub frame_timeout_ms: u64,
    /// A client that reads nothing for this many milliseconds while an answer waits is closed. Default one minute.
    pub write_timeout_ms: u64,
    /// How long a stop waits for pending answers, in milliseconds. Default five seconds.
    pub shutdown_grace_ms: u64,
    /// How long Metadata waits for topics that it creates, in milliseconds. Default five seconds.
    pub auto_create_timeout_ms: i32,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            frame_bytes_max: limits::KAFKA_FRAME_BYTES_MAX,
            request_budget_bytes: 32 << 20,
            pending_responses_max: 64,
            connections_max: 10_000,
            fetch_bytes_max: 55 << 20,
            fetch_sessions_max: 1_000,
            idle_timeout_ms: 600_000,
            frame_timeout_ms: 120_000,
            write_timeout_ms: 60_000,
            shutdown_grace_ms: 5_000,
            auto_create_timeout_ms: 5_000,
        }
    }
}
