//! Real `duolog` processes on loopback: configuration, start, signals, logs.
//!
//! Invariant: a process ends only through this file. One that ended otherwise is recorded as a violation and started
//! again. The nodes die with the runner (PR_SET_PDEATHSIG), so an interrupted run leaves nothing behind.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::history::Event;
use crate::http;
use crate::recorder::{Recorder, wait_until};

/// How a node is started: `duolog start --config node.toml`. `xtask` has the same words.
const SERVE: [&str; 2] = ["start", "--config"];

/// First port that is tried. Below the kernel's ephemeral ports (from 32768): a client connection must not take a node's port while
/// the node is down. Away from `cargo xtask up` (7070 to 9292) and from the Kafka of the benchmarks (19092).
const PORT_BASE: u16 = 21_000;

/// Small, so that a short run fills several.
const SEGMENT_SIZE_BYTES: u64 = 16 << 20;

const BROKER_GROUPS: u32 = 4;
const HEALTH_LIMIT: Duration = Duration::from_millis(400);

pub struct Cluster {
    binary: PathBuf,
    nodes: Vec<Node>,
}

pub struct Node {
    pub id: u32,
    pub ports: Ports,
    /// How often the process was started before.
    pub incarnation: u32,
    config: PathBuf,
    log: PathBuf,
    state: State,
}

#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub kafka: u16,
    pub rocketmq: u16,
    pub http: u16,
    pub grpc: u16,
}

enum State {
    Running(Child),
    Paused(Child),
    Down,
}

impl Cluster {
    /// Writes each node's configuration under `dir` and starts all of them.
    pub fn start(binary: &Path, dir: &Path, node_count: u32) -> Result<Cluster> {
        ensure!(binary.is_file(), "there is no duolog binary at {}", binary.display());
        let ports = free_ports(node_count)?;
        let mut nodes = Vec::new();
        for (id, of_node) in (0..).zip(&ports) {
            let config = dir.join(format!("node-{id}.toml"));
            let text = toml::to_string(&NodeConfig::new(id, &ports, &dir.join(format!("node-{id}"))))?;
            fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
            let log = dir.join(format!("node-{id}.log"));
            nodes.push(Node { id, ports: *of_node, incarnation: 0, config, log, state: State::Down });
        }
        let mut cluster = Cluster { binary: binary.to_path_buf(), nodes };
        for node in &mut cluster.nodes {
            node.spawn(&cluster.binary)?;
        }
        Ok(cluster)
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn bootstrap(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.ports.kafka)).collect();
        hosts.join(",")
    }

    pub fn rocketmq_ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.ports.rocketmq).collect()
    }

    pub fn kill(&mut self, node: u32) -> Result<()> {
        self.node(node).kill()
    }

    pub fn restart(&mut self, node: u32) -> Result<()> {
        let node = &mut self.nodes[node as usize];
        node.incarnation += 1;
        node.spawn(&self.binary)
    }

    pub fn pause(&mut self, node: u32) -> Result<()> {
        self.node(node).pause()
    }

    pub fn resume(&mut self, node: u32) -> Result<()> {
        self.node(node).resume()
    }

    /// Records processes that ended by themselves and starts them again.
    pub fn notice_exits(&mut self, recorder: &Recorder) -> Result<()> {
        for node in &mut self.nodes {
            let State::Running(child) = &mut node.state else { continue };
            let Some(status) = child.try_wait()? else { continue };
            let time_ms = recorder.now_ms();
            recorder.record(Event::NodeExited { time_ms, node: node.id, status: status.to_string() });
            node.state = State::Down;
            node.incarnation += 1;
            node.spawn(&self.binary)?;
        }
        Ok(())
    }

    pub fn unhealthy(&self) -> Vec<u32> {
        self.nodes.iter().filter(|node| !node.is_healthy()).map(|node| node.id).collect()
    }

    /// Fails early when a process ends instead of getting ready.
    pub fn wait_healthy(&mut self, limit: Duration) -> Result<()> {
        let mut ended = None;
        let healthy = wait_until(limit, || {
            for node in &mut self.nodes {
                if let State::Running(child) = &mut node.state
                    && let Ok(Some(status)) = child.try_wait()
                {
                    ended = Some((node.id, node.log.clone(), status));
                }
            }
            ended.is_some() || self.unhealthy().is_empty()
        });
        if let Some((id, log, status)) = ended {
            bail!("node {id} ended at its start ({status}); the end of {}:\n{}", log.display(), tail(&log, 20));
        }
        ensure!(healthy, "nodes {:?} do not answer /health with 200 within {limit:?}", self.unhealthy());
        Ok(())
    }

    /// Resumes what is paused and starts what is down.
    pub fn raise_all(&mut self) -> Result<()> {
        for id in 0..self.nodes.len() as u32 {
            match self.node(id).state {
                State::Running(_) => {}
                State::Paused(_) => self.resume(id)?,
                State::Down => self.restart(id)?,
            }
        }
        Ok(())
    }

    /// SIGTERM to all, SIGKILL after `limit`; says which had to be killed.
    pub fn stop(&mut self, limit: Duration) -> Result<Vec<u32>> {
        let mut killed = Vec::new();
        for node in &self.nodes {
            if let State::Running(child) = &node.state {
                signal(child, libc::SIGTERM)?;
            }
        }
        let end = Instant::now() + limit;
        for node in &mut self.nodes {
            if let State::Running(child) = &mut node.state {
                let left = end.saturating_duration_since(Instant::now());
                if !wait_until(left, || matches!(child.try_wait(), Ok(Some(_)))) {
                    killed.push(node.id);
                }
            }
            node.kill()?;
        }
        Ok(killed)
    }

    /// Lines of the nodes' logs that a human must look at: (node, line), panics first recorded as violations.
    pub fn read_logs(&self, recorder: &Recorder) -> Result<Vec<(u32, String)>> {
        let mut errors = Vec::new();
        for node in &self.nodes {
            for line in BufReader::new(File::open(&node.log)?).split(b'\n') {
                let line = String::from_utf8_lossy(&line?).into_owned();
                if line.contains("panicked at") {
                    recorder.record(Event::NodePanicked { node: node.id, line });
                } else if line.contains("ERROR") {
                    errors.push((node.id, line));
                }
            }
        }
        Ok(errors)
    }

    fn node(&mut self, id: u32) -> &mut Node {
        &mut self.nodes[id as usize]
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // Nothing can be done about a process that cannot be killed; the others must still be.
            let _ = node.kill();
        }
    }
}

impl Node {
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    pub fn is_healthy(&self) -> bool {
        self.is_running()
            && http::get(self.ports.http, "/health", HEALTH_LIMIT).is_ok_and(|answer| answer.status == 200)
    }

    fn spawn(&mut self, binary: &Path) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(binary);
        command.args(SERVE).arg(&self.config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // A group of its own: Ctrl-C is for the runner, which then ends the nodes.
        command.process_group(0);
        // SAFETY: prctl is async-signal-safe and touches nothing of the parent.
        unsafe {
            command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
        let child = command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
        self.state = State::Running(child);
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        if let State::Running(child) | State::Paused(child) = &mut self.state {
            child.kill()?;
            child.wait()?;
        }
        self.state = State::Down;
        Ok(())
    }

    fn pause(&mut self) -> Result<()> {
        self.state = match std::mem::replace(&mut self.state, State::Down) {
            State::Running(child) => {
                signal(&child, libc::SIGSTOP)?;
                State::Paused(child)
            }
            other => other,
        };
        Ok(())
    }

    fn resume(&mut self) -> Result<()> {
        self.state = match std::mem::replace(&mut self.state, State::Down) {
            State::Paused(child) => {
                signal(&child, libc::SIGCONT)?;
                State::Running(child)
            }
            other => other,
        };
        Ok(())
    }
}

/// `node.toml`, as the server reads it.
#[derive(Serialize)]
struct NodeConfig {
    cluster_name: String,
    node_id: u32,
    data_dir: PathBuf,
    broker_groups: u32,
    listen: Listen,
    log: Log,
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
    fn new(node_id: u32, ports: &[Ports], data_dir: &Path) -> NodeConfig {
        let own = ports[node_id as usize];
        let at = |port: u16| format!("127.0.0.1:{port}");
        let peer = |(id, ports): (u32, &Ports)| Peer {
            id,
            host: "127.0.0.1",
            kafka_port: ports.kafka,
            rocketmq_port: ports.rocketmq,
            http_port: ports.http,
            grpc_port: ports.grpc,
        };
        NodeConfig {
            cluster_name: "chaos".to_string(),
            node_id,
            data_dir: data_dir.to_path_buf(),
            broker_groups: BROKER_GROUPS,
            listen: Listen { kafka: at(own.kafka), rocketmq: at(own.rocketmq), http: at(own.http), grpc: at(own.grpc) },
            log: Log { segment_size_bytes: SEGMENT_SIZE_BYTES },
            nodes: (0..).zip(ports).map(peer).collect(),
        }
    }
}

/// A block of ports that are all free now. Several runs at once find different blocks.
fn free_ports(node_count: u32) -> Result<Vec<Ports>> {
    for block in 0..100 {
        let base = PORT_BASE + 100 * block;
        let ports: Vec<Ports> = (0..node_count as u16)
            .map(|i| base + 4 * i)
            .map(|first| Ports { kafka: first, http: first + 1, grpc: first + 2, rocketmq: first + 3 })
            .collect();
        let of_node = |ports: &Ports| [ports.kafka, ports.http, ports.grpc, ports.rocketmq];
        let all: Vec<u16> = ports.iter().flat_map(of_node).collect();
        // All are held until the block is judged, so that one is not counted twice.
        let held: Vec<TcpListener> =
            all.iter().filter_map(|port| TcpListener::bind(("127.0.0.1", *port)).ok()).collect();
        if held.len() == all.len() {
            return Ok(ports);
        }
    }
    bail!("no block of free ports from {PORT_BASE} on");
}

fn signal(child: &Child, signal: libc::c_int) -> Result<()> {
    // SAFETY: the child was not waited for yet, so the id is still its own.
    let result = unsafe { libc::kill(child.id() as libc::pid_t, signal) };
    ensure!(result == 0, "cannot signal process {}: {}", child.id(), std::io::Error::last_os_error());
    Ok(())
}

/// The last lines of a text file, or nothing.
pub fn tail(file: &Path, line_count: usize) -> String {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(line_count)..].join("\n")
}
