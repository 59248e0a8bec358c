//! Real `duolog` processes on loopback: configuration, start, signals, logs, and the relays between them.
//!
//! Invariant: a process ends only through this file. One that ended otherwise is recorded as a violation and started
//! again. The nodes die with the runner (PR_SET_PDEATHSIG), so an interrupted run leaves nothing behind.

mod config;
mod guest;
mod node;
mod segments;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::history::Event;
use crate::net::{Network, Route};
use crate::power::{self, Lost};
use crate::preload::{self, Control};
use crate::recorder::{Recorder, wait_until};
use config::{Files, NodeConfig, Ports, free_ports};

pub use config::{DISK_FREE_BYTES_MIN, Plan};
pub use guest::{Guest, Step};
pub use node::Node;

/// So much is free where a run does not say that a disk is full.
const MUCH_FREE_BYTES: u64 = 100 << 30;

pub struct Cluster {
    /// What a node runs at last; and what the operator's commands are.
    binary: PathBuf,
    /// The preloaded library.
    preload: Option<PathBuf>,
    nodes: Vec<Node>,
    network: Option<Network>,
    dir: PathBuf,
    plan: Plan,
    guest: Option<Guest>,
    /// Those that have left.
    former: Vec<Node>,
    guest_ports: Ports,
}

impl Cluster {
    /// Writes each node's configuration under `dir` and starts all of them; with `older`, that binary, until they are upgraded.
    pub fn start(binary: &Path, older: Option<&Path>, dir: &Path, node_count: u32, plan: Plan) -> Result<Cluster> {
        for binary in std::iter::once(binary).chain(older) {
            ensure!(binary.is_file(), "there is no duolog binary at {}", binary.display());
        }
        ensure!(
            older != Some(binary),
            "expected two binaries to upgrade from and to, found {} twice",
            binary.display()
        );
        // Nodes see their own files by true paths.
        let dir = &dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()))?;
        let preload = plan.preload.then(|| preload::write_library(dir)).transpose()?;
        // The last ones are for whoever joins.
        let mut ports = free_ports(node_count + 1)?;
        let network = plan.relays.then(|| relays(&ports)).transpose()?;
        let guest_ports = ports.pop().expect("one more than there are nodes");
        let known: Vec<(u32, Ports)> = (0..).zip(ports).collect();
        let first = older.unwrap_or(binary);
        let nodes = known.iter().map(|(id, _)| make_node(*id, &known, first, dir, plan)).collect::<Result<_>>()?;
        let mut cluster = Cluster {
            binary: binary.to_path_buf(),
            preload,
            nodes,
            network,
            dir: dir.clone(),
            plan,
            guest: None,
            former: Vec::new(),
            guest_ports,
        };
        for id in 0..node_count {
            cluster.spawn(id)?;
        }
        Ok(cluster)
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// # Panics
    /// The cluster was started without relays.
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("faults of the network are chosen before the cluster is started")
    }

    pub fn bootstrap(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.ports.kafka)).collect();
        hosts.join(",")
    }

    fn grpc_addresses(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.ports.grpc)).collect();
        hosts.join(",")
    }

    pub fn rocketmq_ports(&self) -> Vec<u16> {
        self.nodes.iter().map(|node| node.ports.rocketmq).collect()
    }

    pub fn kill(&mut self, node: u32) -> Result<()> {
        self.node(node).kill()
    }

    pub fn restart(&mut self, node: u32) -> Result<()> {
        self.node(node).incarnation += 1;
        self.spawn(node)
    }

    pub fn runs_older(&self, node: u32) -> bool {
        self.nodes[node as usize].binary != self.binary
    }

    /// Starts a node that is down with the newer binary, for good.
    pub fn upgrade(&mut self, node: u32) -> Result<()> {
        self.node(node).binary = self.binary.clone();
        self.restart(node)
    }

    pub fn pause(&mut self, node: u32) -> Result<()> {
        self.node(node).pause()
    }

    pub fn resume(&mut self, node: u32) -> Result<()> {
        self.node(node).resume()
    }

    /// SIGTERM; false: the node has not ended within `limit`. An end without success is recorded as one that nobody wanted.
    pub fn stop_one(&mut self, id: u32, limit: Duration, recorder: &Recorder) -> Result<bool> {
        let node = self.node(id);
        node.terminate()?;
        let Some(ended) = node.wait_end(limit) else { return Ok(false) };
        if let Some(status) = ended.filter(|status| !status.success()) {
            let status = format!("{status} after SIGTERM");
            recorder.record(Event::NodeExited { time_ms: recorder.now_ms(), node: id, status });
        }
        Ok(true)
    }

    /// What the node is told of its disk; None: there is much room.
    pub fn tell_free_bytes(&mut self, node: u32, free_bytes: Option<u64>) -> Result<()> {
        let file = &self.node(node).files.free_bytes;
        // By a new name, so that nobody reads half a number.
        let new = file.with_extension("new");
        write(&new, &free_bytes.unwrap_or(MUCH_FREE_BYTES).to_string())?;
        Ok(fs::rename(&new, file)?)
    }

    /// Records processes that ended by themselves and starts them again.
    pub fn notice_exits(&mut self, recorder: &Recorder) -> Result<()> {
        for id in 0..self.nodes.len() as u32 {
            if let Some(status) = self.node(id).take_exit()? {
                let time_ms = recorder.now_ms();
                recorder.record(Event::NodeExited { time_ms, node: id, status: status.to_string() });
                self.restart(id)?;
            }
        }
        self.notice_guest_exit(recorder)
    }

    pub fn unhealthy(&self) -> Vec<u32> {
        self.nodes.iter().filter(|node| !node.is_healthy()).map(|node| node.id).collect()
    }

    /// Fails early when a process ends instead of getting ready.
    pub fn wait_healthy(&mut self, limit: Duration) -> Result<()> {
        let mut ended = None;
        let healthy = wait_until(limit, || {
            for node in &mut self.nodes {
                if let Ok(Some(status)) = node.take_exit() {
                    ended = Some((node.id, node.files.log.clone(), status));
                }
            }
            ended.is_some() || self.unhealthy().is_empty()
        });
        if let Some((id, log, status)) = ended {
            bail!("node {id} ended at its start ({status}); the end of {}:\n{}", log.display(), tail(&log, 20));
        }
        ensure!(healthy, "nodes {:?} do not answer /health with 200 within {limit:?}", self.unhealthy());
        if self.preload.is_some() && !self.nodes.iter().all(|node| node.control.is_alive()) {
            bail!(
                "{} does not take a preloaded library: expected a binary for this machine that is linked dynamically; leave out \
                 --faults slow-disk, failing-disk, power and clock",
                self.binary.display()
            );
        }
        Ok(())
    }

    /// Whether every replica answers and none is held by the power-loss guard, as `duolog cluster health` sees it.
    pub fn is_whole(&self) -> bool {
        let mut command = cluster_command(&self.binary, &["health"], &self.grpc_addresses());
        command.status().is_ok_and(|status| status.success())
    }

    /// Each consumer of the group gets every message, from the first one on.
    pub fn make_broadcasting(&self, group: &str) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.args(["group", "alter", group, "--bootstrap", &self.bootstrap()]);
        command.args(["--config", "consumption.mode=broadcasting", "--config", "consumption.start=first"]);
        let output = command.stdin(Stdio::null()).output().context("cannot run the command that alters a group")?;
        let reason = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cannot make the group {group} broadcasting: {reason}");
        Ok(())
    }

    /// As an operator does it. False: the command has failed.
    pub fn drain(&self, node: u32, options: &[&str]) -> Result<bool> {
        let mut command = cluster_command(&self.binary, &["drain", "--id", &node.to_string()], &self.grpc_addresses());
        Ok(command.args(options).status().context("cannot run duolog cluster drain")?.success())
    }

    /// Segments of the node's logs that are not written any more, with their bytes.
    pub fn sealed_segments(&self, node: u32) -> Result<Vec<(PathBuf, u64)>> {
        segments::sealed(&self.nodes[node as usize].files.data)
    }

    pub fn control(&self, node: u32) -> &Control {
        &self.nodes[node as usize].control
    }

    /// What a loss of power takes from a node that is down. In a new boot of the machine, unless the machine runs on.
    pub fn cut_power(&mut self, id: u32, seed: u64, is_new_boot: bool) -> Result<Lost> {
        let node = self.node(id);
        ensure!(node.process().is_none(), "node {id} runs");
        let lost = power::cut(&node.files.data, &node.files.shadow, seed)?;
        if is_new_boot {
            write(&node.files.boot_id, &format!("boot-{seed}-{}", node.incarnation))?;
        }
        Ok(lost)
    }

    /// Waits until the node has ended by itself; false: it has not within `limit`.
    pub fn wait_end(&mut self, id: u32, limit: Duration) -> bool {
        self.node(id).wait_end(limit).is_some()
    }

    /// Resumes what is paused and starts what is down.
    pub fn raise_all(&mut self) -> Result<()> {
        for id in 0..self.nodes.len() as u32 {
            let node = self.node(id);
            if node.is_paused() {
                node.resume()?;
            } else if !node.is_running() {
                self.restart(id)?;
            }
        }
        Ok(())
    }

    /// SIGTERM to all, SIGKILL after `limit`; says which had to be killed.
    pub fn stop(&mut self, limit: Duration) -> Result<Vec<u32>> {
        let mut killed = Vec::new();
        let guest = self.guest.iter().map(|guest| &guest.node);
        self.nodes.iter().chain(guest).try_for_each(Node::terminate)?;
        let end = Instant::now() + limit;
        for node in self.nodes.iter_mut().chain(self.guest.iter_mut().map(|guest| &mut guest.node)) {
            if node.wait_end(end.saturating_duration_since(Instant::now())).is_none() {
                killed.push(node.id);
            }
            node.kill()?;
        }
        Ok(killed)
    }

    /// Lines of the nodes' logs that a human must look at: (node, line), panics first recorded as violations.
    pub fn read_logs(&self, recorder: &Recorder) -> Result<Vec<(u32, String)>> {
        let mut errors = Vec::new();
        let guest = self.guest.iter().map(|guest| &guest.node);
        for node in self.nodes.iter().chain(guest).chain(&self.former) {
            for line in BufReader::new(File::open(&node.files.log)?).split(b'\n') {
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

    fn spawn(&mut self, id: u32) -> Result<()> {
        let node = &mut self.nodes[id as usize];
        node.spawn(self.preload.as_deref())?;
        if let Some(network) = &self.network {
            network.set_process(id, node.process());
        }
        Ok(())
    }

    // ---- who joins and leaves

    pub fn guest(&self) -> Option<&Guest> {
        self.guest.as_ref()
    }

    pub fn guest_mut(&mut self) -> Option<&mut Guest> {
        self.guest.as_mut()
    }

    /// The guest's place in the network, behind the nodes'.
    pub fn guest_slot(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// Starts a node with a new id, which waits to be let in.
    pub fn invite(&mut self) -> Result<u32> {
        let id = (self.nodes.len() + self.former.len()) as u32;
        let mut known: Vec<(u32, Ports)> = self.nodes.iter().map(|node| (node.id, node.ports)).collect();
        known.push((id, self.guest_ports));
        self.guest = Some(Guest::new(make_node(id, &known, &self.binary, &self.dir, self.plan)?));
        self.spawn_guest()?;
        Ok(id)
    }

    /// One step of the change that is under way; None: there is no guest.
    pub fn guest_step(&mut self) -> Result<Option<(u32, Step)>> {
        let addresses = self.grpc_addresses();
        let Some(guest) = &mut self.guest else { return Ok(None) };
        Ok(Some((guest.id(), guest.step(&self.binary, &addresses)?)))
    }

    /// Waits until the guest that has left has ended by itself; false: it has not within `limit`.
    pub fn see_off(&mut self, limit: Duration) -> Result<bool> {
        let Some(mut guest) = self.guest.take() else { return Ok(true) };
        let has_ended = guest.node.wait_end(limit).is_some();
        guest.node.kill()?;
        self.former.push(guest.into_node());
        if let Some(network) = &self.network {
            network.set_process(self.guest_slot(), None);
        }
        Ok(has_ended)
    }

    fn spawn_guest(&mut self) -> Result<()> {
        let slot = self.guest_slot();
        let Some(guest) = &mut self.guest else { return Ok(()) };
        guest.node.spawn(self.preload.as_deref())?;
        if let Some(network) = &self.network {
            network.set_process(slot, guest.node.process());
        }
        Ok(())
    }

    /// One that ends before it may is recorded and started again.
    fn notice_guest_exit(&mut self, recorder: &Recorder) -> Result<()> {
        let Some(guest) = self.guest.as_mut().filter(|guest| !guest.may_end()) else { return Ok(()) };
        if let Some(status) = guest.node.take_exit()? {
            let (time_ms, node) = (recorder.now_ms(), guest.id());
            recorder.record(Event::NodeExited { time_ms, node, status: status.to_string() });
            self.spawn_guest()?;
        }
        Ok(())
    }
}

/// A command of the operator that asks these nodes, and whose output nobody wants.
fn cluster_command(binary: &Path, args: &[&str], addresses: &str) -> Command {
    let mut command = Command::new(binary);
    command.arg("cluster").args(args).args(["--node", addresses]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn make_node(id: u32, known: &[(u32, Ports)], binary: &Path, dir: &Path, plan: Plan) -> Result<Node> {
    let files = Files::new(dir, id);
    let text = toml::to_string(&NodeConfig::new(id, known, &files, plan))?;
    write(&files.config, &text)?;
    write(&files.boot_id, "boot-0")?;
    write(&files.free_bytes, &MUCH_FREE_BYTES.to_string())?;
    let control = Control::create(&files.control)?;
    let (_, ports) = *known.iter().find(|(known, _)| *known == id).expect("a node knows itself");
    Ok(Node::new(id, binary.to_path_buf(), ports, files, control))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.iter_mut().chain(self.guest.iter_mut().map(|guest| &mut guest.node)) {
            // Nothing can be done about a process that cannot be killed; the others must still be.
            let _ = node.kill();
        }
    }
}

/// Before the ports of each node that other nodes call: RocketMQ clients' calls are sent on to the leader's node.
fn relays(ports: &[Ports]) -> Result<Network> {
    let routes = (0..).zip(ports).flat_map(|(node, ports)| {
        [(ports.grpc_relay, ports.grpc), (ports.rocketmq_relay, ports.rocketmq)]
            .map(|(relay_port, target_port)| Route { node, relay_port, target_port })
    });
    Network::start(ports.len() as u32, &routes.collect::<Vec<_>>())
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The last lines of a text file, or nothing.
pub fn tail(file: &Path, line_count: usize) -> String {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(line_count)..].join("\n")
}
