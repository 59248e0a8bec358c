//! `node.toml` of a cluster on loopback. The server refuses keys that it does not know, so this is a contract.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::process::NodeFiles;

/// System group and three data groups.
const BROKER_GROUPS: u32 = 4;

/// Node i is this many ports away from node 0.
const PORT_STEP: u16 = 100;

pub fn kafka_port(node: u16) -> u16 {
    9_092 + PORT_STEP * node
}

pub fn rocketmq_port(node: u16) -> u16 {
    8_081 + PORT_STEP * node
}

pub fn http_port(node: u16) -> u16 {
    8_090 + PORT_STEP * node
}

pub fn grpc_port(node: u16) -> u16 {
    7_070 + PORT_STEP * node
}

pub fn bootstrap(nodes: u16) -> String {
    let hosts: Vec<String> = (0..nodes).map(|node| format!("127.0.0.1:{}", kafka_port(node))).collect();
    hosts.join(",")
}

#[derive(Serialize)]
struct NodeConfig {
    cluster_name: &'static str,
    node_id: u16,
    data_dir: String,
    broker_groups: u32,
    listen: Listen,
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
struct Peer {
    id: u16,
    host: &'static str,
    kafka_port: u16,
    rocketmq_port: u16,
    http_port: u16,
    grpc_port: u16,
}

/// Writes the configuration of node `id` of `node_count`.
pub fn write(files: &NodeFiles, id: u16, node_count: u16) -> Result<()> {
    let at = |port: u16| format!("127.0.0.1:{port}");
    let peer = |id| Peer {
        id,
        host: "127.0.0.1",
        kafka_port: kafka_port(id),
        rocketmq_port: rocketmq_port(id),
        http_port: http_port(id),
        grpc_port: grpc_port(id),
    };
    let data_dir = files.data();
    let config = NodeConfig {
        cluster_name: "local",
        node_id: id,
        data_dir: data_dir.to_str().context("the data directory's name is not UTF-8")?.to_string(),
        broker_groups: BROKER_GROUPS,
        listen: Listen {
            kafka: at(kafka_port(id)),
            rocketmq: at(rocketmq_port(id)),
            http: at(http_port(id)),
            grpc: at(grpc_port(id)),
        },
        nodes: (0..node_count).map(peer).collect(),
    };
    fs::create_dir_all(&files.dir)?;
    fs::write(files.config(), toml::to_string(&config)?)
        .with_context(|| format!("cannot write {}", files.config().display()))
}
