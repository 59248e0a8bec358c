//! A node's configuration: one struct tree. `load.rs` reads it from `node.toml` and the environment, `keys.rs` has its documentation,
//! `check.rs` says what is wrong in it.

mod check;
mod keys;
mod load;

use std::net::SocketAddr;
use std::path::PathBuf;

use duolog_types::Secret;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

pub use keys::markdown;
pub use load::{FromEnvironment, Loaded};

/// A config with which no node can start, however often it is tried.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct Invalid(pub anyhow::Error);

/// A node's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    pub cluster_name: String,
    pub node_id: u64,
    pub data_dir: PathBuf,
    #[serde(default = "default_broker_groups")]
    pub broker_groups: u32,
    #[serde(default = "default_boot_id_path")]
    pub boot_id_path: PathBuf,
    pub listen: Listen,
    pub nodes: Vec<Node>,
    #[serde(default)]
    pub log: Log,
    #[serde(default)]
    pub raft: Raft,
    #[serde(default)]
    pub broker: Broker,
    #[serde(default)]
    pub memory: Memory,
    #[serde(default)]
    pub auth: Auth,
    #[serde(default)]
    pub logging: Logging,
    #[serde(default)]
    pub testing: Testing,
}

/// Addresses that the node listens on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    #[serde(deserialize_with = "address")]
    pub kafka: SocketAddr,
    #[serde(default, deserialize_with = "some_address")]
    pub rocketmq: Option<SocketAddr>,
    #[serde(default)]
    pub rocketmq_certificate_path: Option<PathBuf>,
    #[serde(default)]
    pub rocketmq_key_path: Option<PathBuf>,
    #[serde(deserialize_with = "address")]
    pub http: SocketAddr,
    #[serde(deserialize_with = "address")]
    pub grpc: SocketAddr,
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let found = String::deserialize(deserializer)?;
    found.parse().map_err(|_| {
        Error::custom(format!(
            "expected an IP address and a port, for example 0.0.0.0:9092 or [::]:9092, found {found:?}; host names belong to nodes.host"
        ))
    })
}

fn some_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    address(deserializer).map(Some)
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    pub id: u64,
    pub host: String,
    pub kafka_port: u16,
    #[serde(default)]
    pub rocketmq_port: u16,
    #[serde(default)]
    pub http_port: u16,
    pub grpc_port: u16,
}

/// The commit log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub segment_size_bytes: u64,
    pub flush_bytes: u64,
    pub disk_free_bytes_min: u64,
    pub scrub_bytes_per_second: u64,
    pub scrub_interval_ms: u64,
}

/// Raft's times.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raft {
    pub heartbeat_interval_ms: u64,
    pub election_timeout_min_ms: u64,
    pub election_timeout_max_ms: u64,
}

/// Defaults of topics.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Broker {
    pub num_partitions: u32,
    pub auto_create_topics_enable: bool,
    pub group_initial_rebalance_delay_ms: u64,
    pub retention_check_interval_ms: u64,
    pub offsets_retention_ms: u64,
    pub offsets_retention_check_interval_ms: u64,
    pub producer_id_expiration_ms: u64,
    pub producer_id_expiration_check_interval_ms: u64,
    pub consumer_offset_interval_ms: u64,
    pub renew_max_ms: u64,
}

/// Budgets of memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    pub write_buffer_bytes: usize,
    pub block_cache_bytes: usize,
    pub log_tail_bytes: usize,
    pub connection_bytes: usize,
    pub rocketmq_request_bytes: usize,
}

/// Users and rights of RocketMQ clients.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    pub authentication_enabled: bool,
    pub authorization_enabled: bool,
    pub init_user: Option<String>,
    pub init_user_secret: Option<Secret>,
    pub signature_max_age_ms: u64,
    pub signature_any_time_zone: bool,
}

/// Log lines.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    #[default]
    Text,
    /// A JSON object per line.
    Json,
}

/// For tests only.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Testing {
    pub flush_delay_ms: u64,
    pub drop_received_marks: bool,
    pub skip_flush: bool,
    pub disk_free_bytes_path: Option<PathBuf>,
}

fn default_broker_groups() -> u32 {
    4
}

fn default_boot_id_path() -> PathBuf {
    "/proc/sys/kernel/random/boot_id".into()
}

impl Default for Log {
    fn default() -> Self {
        Self {
            segment_size_bytes: 1 << 30,
            flush_bytes: 8 << 20,
            disk_free_bytes_min: 1 << 30,
            scrub_bytes_per_second: 4 << 20,
            scrub_interval_ms: 86_400_000,
        }
    }
}

impl Default for Raft {
    fn default() -> Self {
        Self { heartbeat_interval_ms: 50, election_timeout_min_ms: 250, election_timeout_max_ms: 400 }
    }
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            num_partitions: 4,
            auto_create_topics_enable: true,
            group_initial_rebalance_delay_ms: 3_000,
            retention_check_interval_ms: 300_000,
            offsets_retention_ms: 604_800_000,
            offsets_retention_check_interval_ms: 600_000,
            producer_id_expiration_ms: 86_400_000,
            producer_id_expiration_check_interval_ms: 600_000,
            consumer_offset_interval_ms: 5_000,
            renew_max_ms: 10_800_000,
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            write_buffer_bytes: 48 << 20,
            block_cache_bytes: 32 << 20,
            log_tail_bytes: 48 << 20,
            connection_bytes: 32 << 20,
            rocketmq_request_bytes: 64 << 20,
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            authentication_enabled: false,
            authorization_enabled: false,
            init_user: None,
            init_user_secret: None,
            signature_max_age_ms: 900_000,
            signature_any_time_zone: true,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::keys::KEYS;
    use super::*;

    pub(super) const GOOD: &str = r#"
cluster_name = "c"
node_id = 0
data_dir = "/tmp/x"
[listen]
kafka = "127.0.0.1:9092"
http = "127.0.0.1:8090"
grpc = "127.0.0.1:7070"
[[nodes]]
id = 0
host = "127.0.0.1"
kafka_port = 9092
grpc_port = 7070
"#;

    #[test]
    fn a_small_file_is_enough() {
        let config = load::parse(GOOD, &[]).unwrap().config;
        assert_eq!(config.broker_groups, 4);
        assert_eq!((config.listen.rocketmq, config.nodes[0].rocketmq_port), (None, 0));
        assert_eq!(config.log.segment_size_bytes, 1 << 30);
    }

    #[test]
    fn every_documented_default_is_the_real_one() {
        let config = load::parse(GOOD, &[]).unwrap().config;
        let real = |name: &str| -> Option<String> {
            Some(match name {
                "broker_groups" => config.broker_groups.to_string(),
                "log.segment_size_bytes" => config.log.segment_size_bytes.to_string(),
                "log.flush_bytes" => config.log.flush_bytes.to_string(),
                "log.disk_free_bytes_min" => config.log.disk_free_bytes_min.to_string(),
                "log.scrub_bytes_per_second" => config.log.scrub_bytes_per_second.to_string(),
                "log.scrub_interval_ms" => config.log.scrub_interval_ms.to_string(),
                "raft.heartbeat_interval_ms" => config.raft.heartbeat_interval_ms.to_string(),
                "raft.election_timeout_min_ms" => config.raft.election_timeout_min_ms.to_string(),
                "raft.election_timeout_max_ms" => config.raft.election_timeout_max_ms.to_string(),
                "broker.num_partitions" => config.broker.num_partitions.to_string(),
                "memory.write_buffer_bytes" => config.memory.write_buffer_bytes.to_string(),
                "memory.block_cache_bytes" => config.memory.block_cache_bytes.to_string(),
                "memory.log_tail_bytes" => config.memory.log_tail_bytes.to_string(),
                "memory.connection_bytes" => config.memory.connection_bytes.to_string(),
                "broker.group_initial_rebalance_delay_ms" => config.broker.group_initial_rebalance_delay_ms.to_string(),
                "memory.rocketmq_request_bytes" => config.memory.rocketmq_request_bytes.to_string(),
                "auth.authentication_enabled" => config.auth.authentication_enabled.to_string(),
                "auth.authorization_enabled" => config.auth.authorization_enabled.to_string(),
                "auth.signature_max_age_ms" => config.auth.signature_max_age_ms.to_string(),
                "auth.signature_any_time_zone" => config.auth.signature_any_time_zone.to_string(),
                "logging.format" => format!("{:?}", config.logging.format).to_lowercase(),
                "broker.retention_check_interval_ms" => config.broker.retention_check_interval_ms.to_string(),
                "broker.offsets_retention_ms" => config.broker.offsets_retention_ms.to_string(),
                "broker.offsets_retention_check_interval_ms" => {
                    config.broker.offsets_retention_check_interval_ms.to_string()
                }
                "broker.producer_id_expiration_ms" => config.broker.producer_id_expiration_ms.to_string(),
                "broker.producer_id_expiration_check_interval_ms" => {
                    config.broker.producer_id_expiration_check_interval_ms.to_string()
                }
                "broker.consumer_offset_interval_ms" => config.broker.consumer_offset_interval_ms.to_string(),
                "broker.renew_max_ms" => config.broker.renew_max_ms.to_string(),
                _ => return None,
            })
        };
        for key in KEYS {
            if let Some(real) = real(key.name) {
                assert_eq!(key.default, real, "{}", key.name);
            }
        }
    }
}
