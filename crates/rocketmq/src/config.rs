//! What an operator may change of the RocketMQ front end.

use std::path::PathBuf;
use std::time::Duration;

use duolog_types::NodeId;

use crate::tls::{self, TlsError};

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

/// Files of the operator's certificate, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The node's certificate, then those between it and the authority's.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What clients must prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessConfig {
    /// Whether every call must be signed by a user. Default no.
    pub authentication_enabled: bool,
    /// Whether ACLs decide what a user may do; only with authentication. Default no: every user may do everything.
    pub authorization_enabled: bool,
    /// How far the time of a signature may be from this node's, in milliseconds; 0 means any distance. Default 15 minutes.
    pub signature_age_ms_max: u64,
    /// Whether a time that may be local time is good when it is right in some time zone. Default yes.
    pub any_time_zone: bool,
    /// Between two looks at whether the user of an open Telemetry stream may still have it, in milliseconds. Default five seconds.
    pub stream_check_interval_ms: u64,
}

impl AccessConfig {
    pub(crate) fn stream_check_interval(&self) -> Duration {
        match self.authentication_enabled {
            true => Duration::from_millis(self.stream_check_interval_ms.max(1)),
            // Nothing to look at.
            false => Duration::from_secs(24 * 3_600),
        }
    }
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self {
            authentication_enabled: false,
            authorization_enabled: false,
            signature_age_ms_max: 15 * 60 * 1_000,
            any_time_zone: true,
            stream_check_interval_ms: 5_000,
        }
    }
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
    /// Users and rights.
    pub access: AccessConfig,
    /// The certificate; without it one is made at start.
    pub certificate: Option<CertificateFiles>,
    /// Requests of all connections that are being read or answered, in bytes; calls that other nodes send on have as much of their
    /// own. Default 64 MiB.
    pub request_budget_bytes: usize,
    /// A request of which nothing more arrives is given up after this many milliseconds, and one for which there is no room after half
    /// of them. Default five seconds.
    pub request_stall_ms_max: u64,
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
            access: AccessConfig::default(),
            certificate: None,
            request_budget_bytes: 64 << 20,
            request_stall_ms_max: 5_000,
        }
    }
}

impl RocketmqConfig {
    /// Refuses files of a certificate that cannot be used, so that a node can say so before it does anything else.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn check_certificate(&self) -> Result<(), TlsError> {
        self.certificate.as_ref().map_or(Ok(()), |files| tls::acceptor([], Some(files)).map(drop))
    }
}
