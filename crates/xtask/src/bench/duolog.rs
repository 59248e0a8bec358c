//! Duolog as it is measured: the nodes of a cluster on this machine, and its topics.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::process::{self, NodeFiles};
use crate::{http, node_config};

const READY_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// The durability of a topic.
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

    /// As the command line takes it.
    fn option(self) -> &'static str {
        match self {
            Durability::SyncSync => "sync/sync",
            Durability::SyncAsync => "sync/async",
        }
    }
}

pub struct Duolog {
    binary: PathBuf,
    dir: PathBuf,
    node_count: u16,
}

impl Duolog {
    pub fn new(binary: &Path, dir: &Path, node_count: u16) -> Duolog {
        Duolog { binary: binary.to_owned(), dir: dir.join("duolog"), node_count }
    }

    /// An empty cluster.
    pub fn start(&self) -> Result<()> {
        let nodes = self.nodes();
        process::stop(&nodes, STOP_LIMIT)?;
        let taken = (0..self.node_count).find(|id| http::is_healthy(node_config::http_port(*id)));
        ensure!(taken.is_none(), "another Duolog answers on this machine: stop it first (cargo xtask down)");
        if self.dir.exists() {
            fs::remove_dir_all(&self.dir).with_context(|| format!("cannot delete {}", self.dir.display()))?;
        }
        for (id, node) in (0..).zip(&nodes) {
            node_config::write(node, id, self.node_count)?;
            node.start(&self.binary)?;
        }
        (0..).zip(&nodes).try_for_each(|(id, node)| wait_ready(node, id))
    }

    pub fn stop(&self) -> Result<()> {
        process::stop(&self.nodes(), STOP_LIMIT)?;
        Ok(fs::remove_dir_all(&self.dir)?)
    }

    /// For Kafka clients.
    pub fn bootstrap(&self) -> String {
        node_config::bootstrap(self.node_count)
    }

    /// For RocketMQ clients.
    pub fn endpoints(&self) -> String {
        let nodes: Vec<String> =
            (0..self.node_count).map(|id| format!("127.0.0.1:{}", node_config::rocketmq_port(id))).collect();
        nodes.join(";")
    }

    pub fn create_topic(&self, name: &str, partitions: u32, durability: Durability, configs: &[&str]) -> Result<()> {
        let partitions = partitions.to_string();
        let fixed = ["create", name, "--partitions", &partitions, "--durability", durability.option()];
        let configs: Vec<&str> = configs.iter().flat_map(|config| ["--config", config]).collect();
        self.topic_command(&[&fixed[..], &configs].concat()).map(drop)
    }

    /// Node id of the leader of partition 0.
    pub fn leader(&self, topic: &str) -> Result<u32> {
        let text = self.topic_command(&["describe", topic, "--output", "json"])?;
        let description: serde_json::Value = serde_json::from_str(&text)?;
        let leader = description["partitions"][0]["leader"].as_u64();
        Ok(leader.with_context(|| format!("no leader in {text}"))?.try_into()?)
    }

    pub fn pids(&self) -> Vec<u32> {
        self.nodes().iter().filter_map(NodeFiles::pid).collect()
    }

    pub fn pid(&self, node: u32) -> Result<u32> {
        let pid = self.nodes().get(node as usize).and_then(NodeFiles::pid);
        pid.with_context(|| format!("node {node} does not run"))
    }

    pub fn restart(&self, node: u32) -> Result<()> {
        process::reap();
        let files = self.nodes().swap_remove(node as usize);
        files.start(&self.binary)?;
        wait_ready(&files, node as u16)
    }

    fn nodes(&self) -> Vec<NodeFiles> {
        (0..self.node_count).map(|id| NodeFiles { dir: self.dir.join(format!("node-{id}")) }).collect()
    }

    /// Runs `duolog topic …` and returns what it printed.
    fn topic_command(&self, arguments: &[&str]) -> Result<String> {
        let (verb, rest) = arguments.split_first().context("a verb comes first")?;
        let mut command = Command::new(&self.binary);
        command.args(["topic", verb, "--bootstrap", &self.bootstrap()]).args(rest);
        let output = command.output().with_context(|| format!("cannot run {}", self.binary.display()))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "duolog topic {} failed: {errors}", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
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
