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

const NODES: u16 = 3;
const READY_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// The durability of Duolog's topic. Kafka's side is acks=all with `min.insync.replicas=2` in both cases.
#[derive(Clone, Copy)]
pub enum Mode {
    SyncSync,
    SyncAsync,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::SyncSync => "sync-sync",
            Mode::SyncAsync => "sync-async",
        }
    }

    fn flush(self) -> &'static str {
        match self {
            Mode::SyncSync => "sync",
            Mode::SyncAsync => "async",
        }
    }
}

pub enum Side {
    Duolog { binary: PathBuf, dir: PathBuf },
    Kafka { tools: Tools },
}

impl Side {
    pub fn duolog(binary: PathBuf, dir: PathBuf) -> Side {
        Side::Duolog { binary, dir }
    }

    pub fn kafka(tools: Tools) -> Side {
        Side::Kafka { tools }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Side::Duolog { .. } => "duolog",
            Side::Kafka { .. } => "kafka",
        }
    }

    /// An empty cluster of three nodes.
    pub fn start(&self) -> Result<()> {
        match self {
            Side::Kafka { tools } => {
                tools.call(&["wipe"])?;
                // kafka.sh's nodes keep the output open, so it must not be a pipe that is read to its end.
                let status = tools.command().args(["start", "3"]).stdout(Stdio::null()).status()?;
                ensure!(status.success(), "kafka.sh start 3 failed ({status})");
                Ok(())
            }
            Side::Duolog { binary, dir } => {
                let nodes = nodes(dir);
                process::stop(&nodes, STOP_LIMIT)?;
                let taken = (0..NODES).find(|id| http::is_healthy(node_config::http_port(*id)));
                ensure!(taken.is_none(), "another Duolog answers on this machine: stop it first (cargo xtask down)");
                if dir.exists() {
                    fs::remove_dir_all(dir).with_context(|| format!("cannot delete {}", dir.display()))?;
                }
                for (id, node) in (0..).zip(&nodes) {
                    node_config::write(node, id, NODES)?;
                    node.start(binary)?;
                }
                (0..NODES).try_for_each(|id| wait_ready(&nodes[usize::from(id)], id))
            }
        }
    }

    pub fn stop(&self) -> Result<()> {
        match self {
            Side::Kafka { tools } => tools.call(&["wipe"]).map(drop),
            Side::Duolog { dir, .. } => {
                process::stop(&nodes(dir), STOP_LIMIT)?;
                Ok(fs::remove_dir_all(dir)?)
            }
        }
    }

    pub fn bootstrap(&self) -> Result<String> {
        match self {
            Side::Kafka { tools } => Ok(tools.call(&["bootstrap"])?.trim().to_string()),
            Side::Duolog { .. } => Ok(node_config::bootstrap(NODES)),
        }
    }

    pub fn create_topic(&self, topic: &str, partitions: u32, mode: Mode) -> Result<()> {
        let partitions = partitions.to_string();
        match self {
            Side::Kafka { tools } => {
                let fixed = ["topics", "-", "--create", "--topic", topic, "--partitions", &partitions];
                tools.call(&[&fixed[..], &["--replication-factor", "3"]].concat()).map(drop)
            }
            Side::Duolog { binary, .. } => {
                let output = Command::new(binary)
                    .args(["topic", "create", "--bootstrap", &self.bootstrap()?, topic, "--partitions", &partitions])
                    .args(["--config", "duolog.replication=sync"])
                    .args(["--config", &format!("duolog.flush={}", mode.flush())])
                    .output()?;
                ensure!(output.status.success(), "cannot create {topic}: {}", String::from_utf8_lossy(&output.stderr));
                Ok(())
            }
        }
    }

    /// The brokers' processes.
    pub fn pids(&self) -> Result<Vec<u32>> {
        match self {
            Side::Kafka { tools } => Ok(kafka_pids(tools)?.into_iter().map(|(_, pid)| pid).collect()),
            Side::Duolog { dir, .. } => Ok(nodes(dir).iter().filter_map(NodeFiles::pid).collect()),
        }
    }

    pub fn kill(&self, node: u32) -> Result<()> {
        let pid = match self {
            Side::Kafka { tools } => kafka_pids(tools)?.into_iter().find(|(id, _)| *id == node).map(|(_, pid)| pid),
            Side::Duolog { dir, .. } => nodes(dir).get(node as usize).and_then(NodeFiles::pid),
        };
        process::signal(pid.with_context(|| format!("node {node} does not run"))?, libc::SIGKILL)
    }

    pub fn restart(&self, node: u32) -> Result<()> {
        match self {
            Side::Kafka { tools } => {
                let status = tools.command().args(["start-node", &node.to_string()]).stdout(Stdio::null()).status()?;
                ensure!(status.success(), "kafka.sh start-node {node} failed ({status})");
                Ok(())
            }
            Side::Duolog { binary, dir } => {
                process::reap();
                let files = nodes(dir).swap_remove(node as usize);
                files.start(binary)?;
                wait_ready(&files, node as u16)
            }
        }
    }
}

fn nodes(dir: &std::path::Path) -> Vec<NodeFiles> {
    (0..NODES).map(|id| NodeFiles { dir: dir.join(format!("node-{id}")) }).collect()
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
