//! What a node's `node.toml` says, and on which ports.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;

/// First port that is tried. Below the kernel's ephemeral ports (from 32768): a client connection must not take a node's port while
/// the node is down. Away from `cargo xtask up` (7070 to 9292) and from the Kafka of the benchmarks (19092).
const PORT_BASE: u16 = 21_000;
const PORTS_PER_NODE: u16 = 6;

/// Small, so that a short run fills several.
const SEGMENT_SIZE_BYTES: u64 = 16 << 20;

/// So that a flipped bit is found within seconds.
const SCRUB_INTERVAL_MS: u64 = 1_000;
const SCRUB_BYTES_PER_SECOND: u64 = 32 << 20;

const BROKER_GROUPS: u32 = 4;

/// The mark below which a node is read-only, where the run decides how full disks are.
pub const DISK_FREE_BYTES_MIN: u64 = 1 << 30;

#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub kafka: u16,
    pub rocketmq: u16,
    pub http: u16,
    pub grpc: u16,
    /// What the other nodes know instead of `grpc` and `rocketmq`, where a relay stands before them.
    pub grpc_relay: u16,
    pub rocketmq_relay: u16,
}

/// What differs between runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plan {
    /// Nodes call each other through relays.
    pub relays: bool,
    /// The run tells the nodes how full their disks are.
    pub disk_space: bool,
    /// Nodes run with the preloaded library.
    pub preload: bool,
}

/// Files of one node.
pub struct Files {
    pub config: PathBuf,
    pub log: PathBuf,
    pub data: PathBuf,
    /// A boot of the machine, as far as the node knows.
    pub boot_id: PathBuf,
    /// How many bytes are free on the disk, as far as the node knows.
    pub free_bytes: PathBuf,
    /// What the preloaded library is asked for.
    pub control: PathBuf,
    /// What of the data is on the disk, as the preloaded library keeps it.
    pub shadow: PathBuf,
}

impl Files {
    pub fn new(dir: &Path, id: u32) -> Files {
        let of_node = |name: &str| dir.join(format!("node-{id}{name}"));
        Files {
            config: of_node(".toml"),
            log: of_node(".log"),
            data: of_node(""),
            boot_id: of_node(".boot-id"),
            free_bytes: of_node(".free-bytes"),
            control: of_node(".control"),
            shadow: of_node(".shadow"),
        }
    }
}

/// `node.toml`, as the server reads it.
#[derive(Serialize)]
pub struct NodeConfig {
    cluster_name: String,
    node_id: u32,
    data_dir: PathBuf,
    broker_groups: u32,
    boot_id_path: PathBuf,
    listen: Listen,
    log: Log,
    testing: Testing,
    nodes: Vec<Peer>,
}

#[derive(Serialize)]
struct Listen {
    kafka: String,
    rocketmq: String,
    http: String,
    grpc: String,
}

#[derive(Serialize)]
struct Log {
    segment_size_bytes: u64,
    scrub_interval_ms: u64,
    scrub_bytes_per_second: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_free_bytes_min: Option<u64>,
}

#[derive(Serialize)]
struct Testing {
    #[serde(skip_serializing_if = "Option::is_none")]
    disk_free_bytes_path: Option<PathBuf>,
}

#[derive(Serialize)]
struct Peer {
    id: u32,
    host: &'static str,
    kafka_port: u16,
    rocketmq_port: u16,
    http_port: u16,
    grpc_port: u16,
}

impl NodeConfig {
    /// `nodes`: those that it knows, itself among them.
    pub fn new(node_id: u32, nodes: &[(u32, Ports)], files: &Files, plan: Plan) -> NodeConfig {
        let (_, own) = *nodes.iter().find(|(id, _)| *id == node_id).expect("a node knows itself");
        let at = |port: u16| format!("127.0.0.1:{port}");
        let peer = |(id, ports): (u32, Ports)| Peer {
            id,
            host: "127.0.0.1",
            kafka_port: ports.kafka,
            rocketmq_port: if plan.relays { ports.rocketmq_relay } else { ports.rocketmq },
            http_port: ports.http,
            grpc_port: if plan.relays { ports.grpc_relay } else { ports.grpc },
        };
        NodeConfig {
            cluster_name: "chaos".to_string(),
            node_id,
            data_dir: files.data.clone(),
            broker_groups: BROKER_GROUPS,
            boot_id_path: files.boot_id.clone(),
            listen: Listen { kafka: at(own.kafka), rocketmq: at(own.rocketmq), http: at(own.http), grpc: at(own.grpc) },
            log: Log {
                segment_size_bytes: SEGMENT_SIZE_BYTES,
                scrub_interval_ms: SCRUB_INTERVAL_MS,
                scrub_bytes_per_second: SCRUB_BYTES_PER_SECOND,
                disk_free_bytes_min: plan.disk_space.then_some(DISK_FREE_BYTES_MIN),
            },
            testing: Testing { disk_free_bytes_path: plan.disk_space.then(|| files.free_bytes.clone()) },
            nodes: nodes.iter().copied().map(peer).collect(),
        }
    }
}

/// A block of ports that are all free now. Several runs at once find different blocks.
pub fn free_ports(node_count: u32) -> Result<Vec<Ports>> {
    for block in 0..100 {
        let base = PORT_BASE + 100 * block;
        let of_node = |first: u16| Ports {
            kafka: first,
            http: first + 1,
            grpc: first + 2,
            rocketmq: first + 3,
            grpc_relay: first + 4,
            rocketmq_relay: first + 5,
        };
        let ports: Vec<Ports> = (0..node_count as u16).map(|i| of_node(base + PORTS_PER_NODE * i)).collect();
        let last = base + PORTS_PER_NODE * node_count as u16;
        // All are held until the block is judged, so that one is not counted twice.
        let held: Vec<TcpListener> =
            (base..last).filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).collect();
        if held.len() == usize::from(last - base) {
            return Ok(ports);
        }
    }
    bail!("no block of free ports from {PORT_BASE} on");
}
