//! The node's config file, `node.toml`: one struct tree, unknown keys refused. `docs/config.md` is made from [`KEYS`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

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
    pub testing: Testing,
}

/// Addresses that the node listens on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    pub kafka: SocketAddr,
    pub http: SocketAddr,
    pub grpc: SocketAddr,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    pub id: u64,
    pub host: String,
    pub kafka_port: u16,
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
}

/// Budgets of memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    pub write_buffer_bytes: usize,
    pub block_cache_bytes: usize,
    pub log_tail_bytes: usize,
    pub connection_bytes: usize,
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
        Self { segment_size_bytes: 1 << 30, flush_bytes: 8 << 20, disk_free_bytes_min: 1 << 30 }
    }
}

impl Default for Raft {
    fn default() -> Self {
        Self { heartbeat_interval_ms: 80, election_timeout_min_ms: 250, election_timeout_max_ms: 400 }
    }
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            num_partitions: 4,
            auto_create_topics_enable: true,
            group_initial_rebalance_delay_ms: 3_000,
            retention_check_interval_ms: 300_000,
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
        }
    }
}

/// One key of the config file, for the documentation.
pub struct Key {
    pub name: &'static str,
    pub default: &'static str,
    pub doc: &'static str,
}

/// Every key, in the order of the file.
pub const KEYS: &[Key] = &[
    Key {
        name: "cluster_name",
        default: "required",
        doc: "Name of the cluster. Nodes of different names never form one cluster.",
    },
    Key { name: "node_id", default: "required", doc: "This node's id; Kafka's broker id. Never reused in a cluster." },
    Key {
        name: "data_dir",
        default: "required",
        doc: "Directory for everything that the node keeps. Used by one process at a time.",
    },
    Key {
        name: "broker_groups",
        default: "4",
        doc: "Broker groups: the system group and groups for data. With 1 the system group holds everything. Must be the same on every node, and never changes.",
    },
    Key {
        name: "boot_id_path",
        default: "/proc/sys/kernel/random/boot_id",
        doc: "File whose content changes with every boot of the machine; the power-loss guard rests on it.",
    },
    Key { name: "listen.kafka", default: "required", doc: "Address and port for Kafka clients." },
    Key {
        name: "listen.http",
        default: "required",
        doc: "Address and port for `/health`, `/metrics` and `/debug/state-hash`.",
    },
    Key {
        name: "listen.grpc",
        default: "required",
        doc: "Address and port for calls between nodes and for `duolog cluster …`.",
    },
    Key {
        name: "nodes.id",
        default: "required",
        doc: "In each `[[nodes]]`: a node's id. Every node lists all nodes, itself included.",
    },
    Key {
        name: "nodes.host",
        default: "required",
        doc: "In each `[[nodes]]`: its host, for other nodes and for clients.",
    },
    Key { name: "nodes.kafka_port", default: "required", doc: "In each `[[nodes]]`: its port for Kafka clients." },
    Key {
        name: "nodes.http_port",
        default: "0",
        doc: "In each `[[nodes]]`: its HTTP port; for people, not used by the nodes.",
    },
    Key { name: "nodes.grpc_port", default: "required", doc: "In each `[[nodes]]`: its port for calls between nodes." },
    Key {
        name: "log.segment_size_bytes",
        default: "1073741824",
        doc: "Size of a segment of the commit log, in bytes.",
    },
    Key {
        name: "log.flush_bytes",
        default: "8388608",
        doc: "The log is flushed when this many bytes wait for a flush, whatever the topics' flush modes.",
    },
    Key {
        name: "log.disk_free_bytes_min",
        default: "1073741824",
        doc: "With fewer free bytes on its disk a node takes no more records (reads go on), with less than half of it no entries of other leaders either; it takes them again when there is a quarter more.",
    },
    Key { name: "raft.heartbeat_interval_ms", default: "80", doc: "Milliseconds between two heartbeats of a leader." },
    Key { name: "raft.election_timeout_min_ms", default: "250", doc: "Shortest election time-out in milliseconds." },
    Key {
        name: "raft.election_timeout_max_ms",
        default: "400",
        doc: "Longest election time-out in milliseconds; also a leader's lease.",
    },
    Key {
        name: "broker.num_partitions",
        default: "4",
        doc: "Partitions of a topic that does not say (Kafka's `num.partitions`).",
    },
    Key {
        name: "broker.auto_create_topics_enable",
        default: "true",
        doc: "Whether topics are created on first use (Kafka's `auto.create.topics.enable`).",
    },
    Key {
        name: "broker.group_initial_rebalance_delay_ms",
        default: "3000",
        doc: "How long the first rebalance of an empty consumer group waits for more members, in milliseconds (Kafka's `group.initial.rebalance.delay.ms`).",
    },
    Key {
        name: "broker.retention_check_interval_ms",
        default: "300000",
        doc: "Milliseconds between two looks at what retention allows to delete (Kafka's `log.retention.check.interval.ms`).",
    },
    Key {
        name: "memory.write_buffer_bytes",
        default: "50331648",
        doc: "Write buffers of all state stores together, in bytes.",
    },
    Key {
        name: "memory.block_cache_bytes",
        default: "33554432",
        doc: "Block cache of all state stores together, in bytes.",
    },
    Key {
        name: "memory.log_tail_bytes",
        default: "50331648",
        doc: "Recent log entries kept in memory for consumers and followers, over all broker groups, in bytes.",
    },
    Key {
        name: "memory.connection_bytes",
        default: "33554432",
        doc: "Requests of all connections that are being read or answered, in bytes.",
    },
    Key {
        name: "testing.flush_delay_ms",
        default: "0",
        doc: "Test only: every fdatasync of the commit log takes this much longer, in milliseconds.",
    },
    Key {
        name: "testing.drop_received_marks",
        default: "false",
        doc: "Test only: this node tells leaders nothing before its flush.",
    },
    Key {
        name: "testing.skip_flush",
        default: "false",
        doc: "Test only: fdatasync does nothing. Loses acknowledged records with the power.",
    },
    Key {
        name: "testing.disk_free_bytes_path",
        default: "none",
        doc: "Test only: a file with a number that is taken for the free bytes of the disk.",
    },
];

/// The documentation of the config file, in Markdown.
pub fn markdown() -> String {
    let mut text = String::from(
        "# Configuration\n\nGenerated by `cargo xtask docs`; do not edit.\n\nKeys of `node.toml`. An unknown key is refused.\n\n\
         | key | default | meaning |\n|---|---|---|\n",
    );
    for key in KEYS {
        text += &format!("| `{}` | {} | {} |\n", key.name, key.default, key.doc);
    }
    text += "\n## Topic configs\n\nBy Kafka's names, with `kafka-topics --config`, any AdminClient, or `kafka-configs`; changed live.\n\n\
             | key | default | meaning |\n|---|---|---|\n";
    for key in duolog_types::TOPIC_CONFIG_KEYS {
        text += &format!("| `{}` | {} | {} |\n", key.name, key.default, key.doc);
    }
    text
}

impl NodeConfig {
    /// Reads and checks a config file. Errors name the file, the line, and what was expected.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let raft = &self.raft;
        if !self.nodes.iter().any(|node| node.id == self.node_id) {
            return Err(format!("node_id = {}: expected one of the ids of [[nodes]]", self.node_id));
        }
        for (i, node) in self.nodes.iter().enumerate() {
            if self.nodes[..i].iter().any(|other| other.id == node.id) {
                return Err(format!("nodes.id = {}: listed twice", node.id));
            }
        }
        if self.broker_groups == 0 || self.broker_groups > 64 {
            return Err(format!("broker_groups = {}: expected 1 to 64", self.broker_groups));
        }
        if raft.heartbeat_interval_ms == 0 || raft.heartbeat_interval_ms * 3 > raft.election_timeout_min_ms {
            return Err(format!(
                "raft.heartbeat_interval_ms = {}: expected at least 1 and at most a third of raft.election_timeout_min_ms = {}",
                raft.heartbeat_interval_ms, raft.election_timeout_min_ms
            ));
        }
        if raft.election_timeout_min_ms >= raft.election_timeout_max_ms {
            return Err(format!(
                "raft.election_timeout_max_ms = {}: expected more than raft.election_timeout_min_ms = {}",
                raft.election_timeout_max_ms, raft.election_timeout_min_ms
            ));
        }
        if self.log.segment_size_bytes < 64 << 10 {
            return Err(format!("log.segment_size_bytes = {}: expected at least 65536", self.log.segment_size_bytes));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
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
        let config = NodeConfig::parse(GOOD).unwrap();
        assert_eq!(config.broker_groups, 4);
        assert_eq!(config.log.segment_size_bytes, 1 << 30);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, expected) in [
            ("node_id = 0", "node_id = 7", "node_id = 7: expected one of the ids"),
            ("cluster_name", "cluster_nane", "line 2"),
            ("[listen]", "[raft]\nelection_timeout_min_ms = 900\n[listen]", "raft.election_timeout_max_ms = 400"),
            ("[listen]", "[log]\nsegment_size_bytes = 5\n[listen]", "log.segment_size_bytes = 5: expected at least"),
            ("kafka = \"127.0.0.1:9092\"", "kafka = \"nowhere\"", "line 6"),
        ] {
            let error = NodeConfig::parse(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn every_documented_default_is_the_real_one() {
        let config = NodeConfig::parse(GOOD).unwrap();
        let real = |name: &str| -> Option<String> {
            Some(match name {
                "broker_groups" => config.broker_groups.to_string(),
                "log.segment_size_bytes" => config.log.segment_size_bytes.to_string(),
                "log.flush_bytes" => config.log.flush_bytes.to_string(),
                "log.disk_free_bytes_min" => config.log.disk_free_bytes_min.to_string(),
                "raft.heartbeat_interval_ms" => config.raft.heartbeat_interval_ms.to_string(),
                "raft.election_timeout_min_ms" => config.raft.election_timeout_min_ms.to_string(),
                "raft.election_timeout_max_ms" => config.raft.election_timeout_max_ms.to_string(),
                "broker.num_partitions" => config.broker.num_partitions.to_string(),
                "memory.write_buffer_bytes" => config.memory.write_buffer_bytes.to_string(),
                "memory.block_cache_bytes" => config.memory.block_cache_bytes.to_string(),
                "memory.log_tail_bytes" => config.memory.log_tail_bytes.to_string(),
                "memory.connection_bytes" => config.memory.connection_bytes.to_string(),
                "broker.group_initial_rebalance_delay_ms" => config.broker.group_initial_rebalance_delay_ms.to_string(),
                "broker.retention_check_interval_ms" => config.broker.retention_check_interval_ms.to_string(),
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
