//! The two brokers that are compared, started and stopped the same way.

use anyhow::{Context, Result};

use super::super::duolog::{Duolog, Durability};
use super::super::script::Script;
use super::tools::Tools;
use crate::process;

/// When Kafka flushes; acks=all and `min.insync.replicas=2` (with three nodes) in both cases.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum KafkaFlush {
    /// When the operating system does: Kafka's default.
    Os,
    /// Before each batch is acknowledged: `flush.messages=1`.
    EveryMessage,
}

/// A topic as each side makes it.
#[derive(Clone, Copy)]
pub struct Topic {
    pub partitions: u32,
    pub durability: Durability,
    pub kafka_flush: KafkaFlush,
}

pub enum Side {
    Duolog { cluster: Duolog, tools: Tools },
    Kafka { tools: Tools, nodes: u16 },
}

impl Side {
    pub fn name(&self) -> &'static str {
        match self {
            Side::Duolog { .. } => "duolog",
            Side::Kafka { .. } => "kafka",
        }
    }

    /// An empty cluster.
    pub fn start(&self) -> Result<()> {
        match self {
            Side::Kafka { tools, nodes } => {
                tools.script().call(&["wipe"])?;
                tools.script().call_unread(&["start", &nodes.to_string()])
            }
            Side::Duolog { cluster, .. } => cluster.start(),
        }
    }

    pub fn stop(&self) -> Result<()> {
        match self {
            Side::Kafka { tools, .. } => tools.script().call(&["wipe"]).map(drop),
            Side::Duolog { cluster, .. } => cluster.stop(),
        }
    }

    pub fn bootstrap(&self) -> Result<String> {
        match self {
            Side::Kafka { tools, .. } => Ok(tools.script().call(&["bootstrap"])?.trim().to_string()),
            Side::Duolog { cluster, .. } => Ok(cluster.bootstrap()),
        }
    }

    pub fn create_topic(&self, name: &str, topic: &Topic) -> Result<()> {
        match self {
            Side::Kafka { tools, nodes } => {
                let (partitions, replicas) = (topic.partitions.to_string(), nodes.to_string());
                let fixed = ["topics", "-", "--create", "--topic", name, "--partitions", &partitions];
                let flush: &[&str] = match topic.kafka_flush {
                    KafkaFlush::Os => &[],
                    KafkaFlush::EveryMessage => &["--config", "flush.messages=1"],
                };
                tools.script().call(&[&fixed[..], &["--replication-factor", &replicas], flush].concat()).map(drop)
            }
            Side::Duolog { cluster, .. } => cluster.create_topic(name, topic.partitions, topic.durability, &[]),
        }
    }

    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let (tools, bootstrap) = match self {
            Side::Kafka { tools, .. } => (tools, "-".to_owned()),
            Side::Duolog { cluster, tools } => (tools, cluster.bootstrap()),
        };
        tools.script().call(&["topics", &bootstrap, "--delete", "--topic", name]).map(drop)
    }

    pub fn pids(&self) -> Result<Vec<u32>> {
        match self {
            Side::Kafka { tools, .. } => Ok(kafka_pids(tools.script())?.into_iter().map(|(_, pid)| pid).collect()),
            Side::Duolog { cluster, .. } => Ok(cluster.pids()),
        }
    }

    pub fn kill(&self, node: u32) -> Result<()> {
        let pid = match self {
            Side::Kafka { tools, .. } => {
                let pid = kafka_pids(tools.script())?.into_iter().find(|(id, _)| *id == node).map(|(_, pid)| pid);
                pid.with_context(|| format!("node {node} does not run"))?
            }
            Side::Duolog { cluster, .. } => cluster.pid(node)?,
        };
        process::signal(pid, libc::SIGKILL)
    }

    pub fn restart(&self, node: u32) -> Result<()> {
        match self {
            Side::Kafka { tools, .. } => tools.script().call_unread(&["start-node", &node.to_string()]),
            Side::Duolog { cluster, .. } => cluster.restart(node),
        }
    }
}

/// (node id, process id) of each running Kafka node, from lines `node=1 pid=123 …`.
fn kafka_pids(script: &Script) -> Result<Vec<(u32, u32)>> {
    // The verb fails when a node is stopped, which is no error here.
    let output = script.command().arg("status").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let field = |line: &str, name: &str| {
        line.split_whitespace().find_map(|word| word.strip_prefix(name)).and_then(|value| value.parse().ok())
    };
    Ok(text.lines().filter_map(|line| Some((field(line, "node=")?, field(line, "pid=")?))).collect())
}
