//! A cluster of real processes in a directory of its own.

use std::fmt::Write;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::node::{Node, Ports};
use super::{show, wait_for};

/// Below the kernel's ephemeral ports (from 32768), so that no client's connection takes the port of a node that is down,
/// and away from `cargo xtask up` and from the chaos runner.
const PORT_BASE: u16 = 24_000;
const PORTS: u16 = 8_000;
const READY_LIMIT: Duration = Duration::from_secs(60);

/// What the nodes of a cluster have in common.
pub struct Layout {
    pub nodes: u64,
    pub broker_groups: u32,
    /// Tables at the end of every `node.toml`.
    pub tables: &'static str,
}

pub struct Cluster {
    nodes: Vec<Node>,
    layout: Layout,
    dir: TempDir,
}

impl Cluster {
    /// Nodes 0.. of the layout, all of them down.
    pub fn down(layout: Layout) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut cluster = Self { nodes: Vec::new(), layout, dir };
        let listed: Vec<(u64, Ports)> = (0..cluster.layout.nodes).map(|id| (id, free_ports())).collect();
        for (id, ports) in &listed {
            let node = cluster.make(*id, *ports, &listed);
            cluster.nodes.push(node);
        }
        cluster
    }

    /// Nodes 0.. of the layout, all of them ready.
    pub fn start(layout: Layout) -> Self {
        let mut cluster = Self::down(layout);
        cluster.nodes.iter_mut().for_each(Node::start);
        cluster.wait_ready();
        cluster
    }

    /// A further node, down, that lists itself and `others`.
    pub fn add(&mut self, id: u64, others: &[u64]) {
        let ports = free_ports();
        let mut listed: Vec<(u64, Ports)> = others.iter().map(|id| (*id, self.node(*id).ports)).collect();
        listed.push((id, ports));
        let node = self.make(id, ports, &listed);
        self.nodes.push(node);
    }

    fn make(&self, id: u64, ports: Ports, listed: &[(u64, Ports)]) -> Node {
        let dir = self.dir.path().join(format!("node-{id}"));
        let mut base = format!(
            "cluster_name = \"test\"\nnode_id = {id}\ndata_dir = {:?}\nbroker_groups = {}\nboot_id_path = {:?}\n\
             [listen]\nkafka = \"127.0.0.1:{}\"\nrocketmq = \"127.0.0.1:{}\"\nhttp = \"127.0.0.1:{}\"\ngrpc = \"127.0.0.1:{}\"\n",
            dir.join("data"),
            self.layout.broker_groups,
            dir.join("boot_id"),
            ports.kafka,
            ports.rocketmq,
            ports.http,
            ports.grpc,
        );
        for (id, Ports { kafka, rocketmq, http, grpc }) in listed {
            write!(
                base,
                "[[nodes]]\nid = {id}\nhost = \"127.0.0.1\"\nkafka_port = {kafka}\nrocketmq_port = {rocketmq}\nhttp_port = {http}\ngrpc_port = {grpc}\n"
            )
            .expect("a string takes everything");
        }
        Node::new(id, ports, dir, base, self.layout.tables)
    }

    pub fn node(&self, id: u64) -> &Node {
        self.nodes.iter().find(|node| node.id == id).expect("a node of the cluster")
    }

    pub fn node_mut(&mut self, id: u64) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).expect("a node of the cluster")
    }

    /// Waits until every node that runs is ready; fails early when one ends.
    pub fn wait_ready(&mut self) {
        let nodes = &mut self.nodes;
        wait_for("every running node answers /health with 200", READY_LIMIT, || {
            nodes.iter_mut().all(|node| {
                let started = node.has_started();
                assert!(!started || node.is_running(), "node {} has ended by itself", node.id);
                !started || node.is_healthy()
            })
        });
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.iter().filter(|_| std::thread::panicking()) {
            let output = node.output();
            let lines: Vec<&str> = output.lines().collect();
            show(&format!("--- node {}\n{}", node.id, lines[lines.len().saturating_sub(30)..].join("\n")));
        }
    }
}

/// Four ports that nobody listens on, and that no other call of this process gives.
fn free_ports() -> Ports {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes may run side by side.
    let first = (std::process::id() % 500) as u16 * 16;
    let next = || loop {
        let port = PORT_BASE + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    };
    Ports { kafka: next(), rocketmq: next(), http: next(), grpc: next() }
}
