//! A small asynchronous Kafka client: what the commands need and no more.
//!
//! - `connection.rs`: one connection, correlation, versions;
//! - this file: nodes, routing, repetition;
//! - `metadata.rs`, `topics.rs`, `offsets.rs`, `records.rs`, `groups.rs`: the calls, by what they are about.
//!
//! A [`Client`] starts from a bootstrap list and learns the other nodes from Metadata. Calls about a partition go to its
//! leader, calls about a consumer group to its coordinator; both are looked up again when a node says that it is not the one,
//! or does not answer, until the time-out of the step.
//!
//! Deliberately absent: pipelining (one request per connection at a time), fetch sessions, TLS, older record formats.

mod acls;
mod configs;
mod connection;
mod error;
mod groups;
mod metadata;
mod offsets;
mod records;
mod topics;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::{Request, StrBytes};
use parking_lot::Mutex;

use connection::Connection;

pub use configs::{ConfigChange, ConfigEntry, ConfigOrigin, Resource};
pub use error::ClientError;
pub use groups::{GroupMember, Joined, MemberState, OffsetToCommit};
pub use metadata::TopicInfo;
pub use offsets::Asked;
pub(crate) use records::FETCH_PARTITION_BYTES_MAX;
pub use records::{FetchFrom, FetchedPartition};

const BACKOFF: Duration = Duration::from_millis(100);
const ATTEMPT_MIN: Duration = Duration::from_secs(1);
/// A node that does not even take a connection in this time is asked again later, after the others.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Host and port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl FromStr for Address {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.rsplit_once(':').and_then(|(host, port)| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let port = port.parse().ok().filter(|port| *port > 0)?;
            // A list where one is wanted, or a URL.
            let is_host = !host.is_empty() && !host.contains([',', '/', ' ']);
            is_host.then(|| Self { host: host.to_owned(), port })
        });
        parsed.ok_or_else(|| anyhow::anyhow!("{text:?}: expected HOST:PORT"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How the client behaves.
#[derive(Debug, Clone, Copy)]
pub struct ClientOptions {
    /// How long one step (with all its repetitions) may take.
    pub timeout: Duration,
}

/// An API as this client speaks it: the versions whose fields it fills and reads.
#[derive(Debug, Clone, Copy)]
struct Api {
    name: &'static str,
    version_min: i16,
    version_max_inclusive: i16,
}

const fn api(name: &'static str, version_min: i16, version_max_inclusive: i16) -> Api {
    Api { name, version_min, version_max_inclusive }
}

/// A client of one cluster. Calls may run side by side.
#[derive(Debug)]
pub struct Client {
    bootstrap: Vec<Address>,
    options: ClientOptions,
    nodes: Mutex<BTreeMap<i32, Address>>,
    connections: Mutex<BTreeMap<Address, Arc<Slot>>>,
    /// Node ids of the leaders of partitions that were produced to, by topic and partition.
    leaders: Mutex<BTreeMap<(String, i32), i32>>,
    /// Node ids of the coordinators of consumer groups, by group.
    coordinators: Mutex<BTreeMap<String, i32>>,
}

/// At most one connection; taken out while it is used, so that a call that is dropped closes it.
type Slot = tokio::sync::Mutex<Option<Connection>>;

impl Client {
    /// A client that connects when it is used.
    #[must_use]
    pub fn new(bootstrap: Vec<Address>, options: ClientOptions) -> Self {
        Self {
            bootstrap,
            options,
            nodes: Mutex::default(),
            connections: Mutex::default(),
            leaders: Mutex::default(),
            coordinators: Mutex::default(),
        }
    }

    /// The time-out of a step.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.options.timeout
    }

    /// The time-out of one attempt: a node that has stopped to answer must leave time to ask another one.
    fn attempt(&self) -> Duration {
        (self.options.timeout / 3).max(ATTEMPT_MIN).min(self.options.timeout)
    }

    /// The time-out of a step for requests that carry one; shorter, so that the node's own answer still arrives.
    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.options.timeout.as_millis() * 3 / 4).unwrap_or(i32::MAX)
    }

    /// Asks the node at an address. `request` is made for the version that both sides speak.
    async fn call_at<R: Request>(
        &self,
        address: &Address,
        api: Api,
        limit: Duration,
        request: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, ClientError> {
        let slot = self.connections.lock().entry(address.clone()).or_default().clone();
        let mut slot = slot.lock().await;
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => Connection::open(address, limit.min(CONNECT_LIMIT)).await?,
        };
        let version = match connection.version::<R>(api) {
            Ok(version) => version,
            Err(error) => {
                *slot = Some(connection);
                return Err(error);
            }
        };
        let response = connection.exchange(api.name, version, &request(version), limit).await?;
        *slot = Some(connection);
        Ok(response)
    }

    /// Asks a node by its id.
    async fn call_node<R: Request>(
        &self,
        node: i32,
        api: Api,
        limit: Duration,
        request: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, ClientError> {
        let address = self.nodes.lock().get(&node).cloned();
        let address = address
            .ok_or_else(|| ClientError::NoLeader { what: format!("node {node}, named as leader, is unknown: it") })?;
        self.call_at(&address, api, limit, request).await
    }

    /// Asks any node that answers: those of the bootstrap list first, in their order.
    async fn call_any<R: Request>(
        &self,
        api: Api,
        limit: Duration,
        request: impl Fn(i16) -> R,
    ) -> Result<R::Response, ClientError> {
        let mut candidates = self.bootstrap.clone();
        candidates.extend(self.nodes.lock().values().filter(|address| !self.bootstrap.contains(address)).cloned());
        let mut first_error = None;
        for address in candidates {
            match self.call_at(&address, api, limit, &request).await {
                Ok(response) => return Ok(response),
                Err(error) if error.is_retriable() => {
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(first_error.expect("the bootstrap list is not empty"))
    }

    /// Repeats a step that failed for a reason that passes, until the time-out. The last error is the result's.
    async fn with_retries<T>(&self, mut step: impl AsyncFnMut() -> Result<T, ClientError>) -> Result<T, ClientError> {
        let end = Instant::now() + self.options.timeout;
        loop {
            match step().await {
                Err(error) if error.is_retriable() && Instant::now() + BACKOFF < end => {
                    tokio::time::sleep(BACKOFF).await;
                }
                other => return other,
            }
        }
    }
}

/// An error code as a result.
fn check(what: impl FnOnce() -> String, code: i16, message: Option<&StrBytes>) -> Result<(), ClientError> {
    match ResponseError::try_from_code(code) {
        None => Ok(()),
        Some(code) => Err(ClientError::refused(what(), code, message.map(StrBytes::as_str))),
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
