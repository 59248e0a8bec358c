//! The two brokers that are compared, started and stopped the same way.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::tools::Tools;
use crate::process::{self, NodeFiles};
use crate::{http, node_config};

const READY_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// The durability of Duolog's topic.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    SyncSync,
    SyncAsync,
}

impl Durability {
    pub fn name(self) -> &'static str {
        match self {
            Durability::SyncSync => "sync-sync",
            Durability::SyncAsync => "sync-async",
        }
    }

    fn flush(self) -> &'static str {
        match self {
            Durability::SyncSync => "sync",
            Durability::SyncAsync => "async",
        }
    }
}

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
    Duolog { tools: Tools, binary: PathBuf, dir: PathBuf, nodes: u16 },
    Kafka { tools: Tools, nodes: u16 },
}

impl Side {
    pub fn duolog(tools: Tools, binary: PathBuf, dir: PathBuf, nodes: u16) -> Side {
        Side::Duolog { tools, binary, dir, nodes }
    }

    pub fn kafka(tools: Tools, nodes: u16) -> Side {
        Side::Kafka { tools, nodes }
    }

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
                tools.call(&["wipe"])?;
                // kafka.sh's nodes keep the output open, so it must not be a pipe that is read to its end.
                let status = tools.command().args(["start", &nodes.to_string()]).stdout(Stdio::null()).status()?;
                ensure!(status.success(), "kafka.sh start {nodes} failed ({status})");
                Ok(())
            }
            Side::Duolog { binary, dir, nodes: count, .. } => {
                let nodes = files(dir, *count);
                process::stop(&nodes, STOP_LIMIT)?;
                let taken = (0..*count).find(|id| http::is_healthy(node_config::http_port(*id)));
                ensure!(taken.is_none(), "another Duolog answers on this machine: stop it first (cargo xtask down)");
                if dir.exists() {
                    fs::remove_dir_all(dir).with_context(|| format!("cannot delete {}", dir.display()))?;
                }
                for (id, node) in (0..).zip(&nodes) {
                    node_config::write(node, id, *count)?;
                    node.start(binary)?;
                }
                (0..*count).try_for_each(|id| wait_ready(&nodes[usize::from(id)], id))
            }
        }
    }

    pub fn stop(&self) -> Result<()> {
        match self {
            Side::Kafka { tools, .. } => tools.call(&["wipe"]).map(drop),
            Side::Duolog { dir, nodes, .. } => {
                process::stop(&files(dir, *nodes), STOP_LIMIT)?;
                Ok(fs::remove_dir_all(dir)?)
            }
        }
    }

    pub fn bootstrap(&self) -> Result<String> {
        match self {
            Side::Kafka { tools, .. } => Ok(tools.call(&["bootstrap"])?.trim().to_string()),
            Side::Duolog { nodes, .. } => Ok(node_config::bootstrap(*nodes)),
        }
    }

    pub fn create_topic(&self, name: &str, topic: &Topic) -> Result<()> {
        let partitions = topic.partitions.to_string();
        match self {
            Side::Kafka { tools, nodes } => {
                let replicas = nodes.to_string();
                let fixed = ["topics", "-", "--create", "--topic", name, "--partitions", &partitions];
                let flush: &[&str] = match topic.kafka_flush {
                    KafkaFlush::Os => &[],
                    KafkaFlush::EveryMessage => &["--config", "flush.messages=1"],
                };
                tools.call(&[&fixed[..], &["--replication-factor", &replicas], flush].concat()).map(drop)
            }
            Side::Duolog { binary, .. } => {
                let output = Command::new(binary)
                    .args(["topic", "create", "--bootstrap", &self.bootstrap()?, name, "--partitions", &partitions])
                    .args(["--config", "duolog.replication=sync"])
                    .args(["--config", &format!("duolog.flush={}", topic.durability.flush())])
                    .output()?;
                ensure!(output.status.success(), "cannot create {name}: {}", String::from_utf8_lossy(&output.stderr));
                Ok(())
            }
        }
    }

    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let (tools, bootstrap) = match self {
            Side::Kafka { tools, .. } => (tools, "-".to_owned()),
            Side::Duolog { tools, .. } => (tools, self.bootstrap()?),
        };
        tools.call(&["topics", &bootstrap, "--delete", "--topic", name]).map(drop)
    }

    pub fn pids(&self) -> Result<Vec<u32>> {
        match self {
            Side::Kafka { tools, .. } => Ok(kafka_pids(tools)?.into_iter().map(|(_, pid)| pid).collect()),
            Side::Duolog { dir, nodes, .. } => Ok(files(dir, *nodes).iter().filter_map(NodeFiles::pid).collect()),
        }
    }

    pub fn kill(&self, node: u32) -> Result<()> {
        let pid = match self {
            Side::Kafka { tools, .. } => kafka_pids(tools)?.into_iter().find(|(id, _)| *id == node).map(|(_, pid)| pid),
            Side::Duolog { dir, nodes, .. } => files(dir, *nodes).get(node as usize).and_then(NodeFiles::pid),
        };
        process::signal(pid.with_context(|| format!("node {node} does not run"))?, libc::SIGKILL)
    }

    pub fn restart(&self, node: u32) -> Result<()> {
        match self {
            Side::Kafka { tools, .. } => {
                let status = tools.command().args(["start-node", &node.to_string()]).stdout(Stdio::null()).status()?;
                ensure!(status.success(), "kafka.sh start-node {node} failed ({status})");
                Ok(())
            }
            Side::Duolog { binary, dir, nodes, .. } => {
                process::reap();
                let files = files(dir, *nodes).swap_remove(node as usize);
                files.start(binary)?;
                wait_ready(&files, node as u16)
            }
        }
    }
}

fn files(dir: &std::path::Path, nodes: u16) -> Vec<NodeFiles> {
    (0..nodes).map(|id| NodeFiles { dir: dir.join(format!("node-{id}")) }).collect()
}

fn wait_ready(node: &NodeFiles, id: u16) -> Result<()> {
    let begin = Instant::now();
    while !http::is_healthy(node_config::http_port(id)) {
        let log = node.log();
        ensure!(node.pid().is_some(), "node {id} ended:\n{}", node.last_log_lines(20));
        ensure!(begin.elapsed() < READY_LIMIT, "node {id} is not ready after {READY_LIMIT:?}; see {}", log.display());
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// (node id, process id) of each running Kafka node, from lines `node=1 pid=123 …`.
fn kafka_pids(tools: &Tools) -> Result<Vec<(u32, u32)>> {
    // The verb fails when a node is stopped, which is no error here.
    let output = tools.command().arg("status").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let field = |line: &str, name: &str| {
        line.split_whitespace().find_map(|word| word.strip_prefix(name)).and_then(|value| value.parse().ok())
    };
    Ok(text.lines().filter_map(|line| Some((field(line, "node=")?, field(line, "pid=")?))).collect())
}
