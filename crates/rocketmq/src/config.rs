//! What an operator may change of the RocketMQ front end.

use duolog_types::NodeId;

/// A node with a RocketMQ front end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RocketmqNode {
    /// Its id.
    pub id: NodeId,
    /// Host name or address for clients and for other nodes.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Settings of the front end. Every limit that is not here is a constant beside its use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RocketmqConfig {
    /// Where the nodes of the cluster, this one included, serve RocketMQ clients.
    pub nodes: Vec<RocketmqNode>,
    /// Connections at a time; further ones are closed at once. Default 10,000.
    pub connections_max: usize,
    /// Calls in progress on one connection; clients wait with further ones. Default 2,048.
    pub streams_max: u32,
    /// Largest request or answer in bytes. Default 16 MiB.
    pub message_bytes_max: usize,
    /// A connection must have begun to speak HTTP/2 within this many milliseconds. Default ten seconds.
    pub handshake_timeout_ms: u64,
    /// How long a call is tried again while there is no leader, in milliseconds, when the client does not want its answer earlier.
    /// Default three seconds.
    pub retry_ms: u64,
    /// A client that is silent for this many milliseconds is forgotten. Default two minutes.
    pub client_expiration_ms: u64,
    /// Clients that are remembered at a time. Default 100,000.
    pub clients_max: usize,
    /// How long a stop waits for pending answers, in milliseconds. Default five seconds.
    pub shutdown_grace_ms: u64,
}

impl Default for RocketmqConfig {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            connections_max: 10_000,
            streams_max: 2_048,
            message_bytes_max: 16 << 20,
            handshake_timeout_ms: 10_000,
            retry_ms: 3_000,
            client_expiration_ms: 120_000,
            clients_max: 100_000,
            shutdown_grace_ms: 5_000,
        }
    }
}
