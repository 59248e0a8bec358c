//! The network between the nodes: a relay before each node's port for calls of other nodes, and what happens on each link.
//!
//! A link is the way of the bytes from one node to another, so it is directed. A connection from node 0 to node 1 uses two:
//!
//! ```text
//!            link 0→1: requests         ┌──────────────┐
//!   node 0 ───────────────────────────▶ │    relay     │ ───▶ node 1, listen.grpc
//!          ◀─────────────────────────── │ nodes[1].grpc│ ◀───
//!            link 1→0: answers          └──────────────┘
//! ```
//!
//! All nodes know node 1 by the same address, since the addresses are in the replicated membership. Which node a connection comes
//! from is found by its socket ([`whose`]); one from any other process is a client's, and always passes (ADR 0022).

mod relay;
mod whose;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// What happens to bytes on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Open,
    /// They wait until the link is open again, as packets that are repeated until they arrive.
    Held,
    /// They arrive this much later.
    Slow(Duration),
}

/// A port that stands for another one.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Whose port it is.
    pub node: u32,
    pub relay_port: u16,
    pub target_port: u16,
}

/// Relays until it is dropped.
pub struct Network {
    shared: std::sync::Arc<Shared>,
    // Ends with the network.
    _runtime: Runtime,
}

struct Shared {
    node_count: u32,
    /// By [`Shared::index`].
    links: Vec<watch::Sender<Link>>,
    /// Process ids of the nodes; 0: not running.
    processes: Vec<AtomicU32>,
    /// Connections between two nodes: who has opened it, to whom, and how to end it.
    connections: Mutex<Vec<(u32, u32, AbortHandle)>>,
}

impl Network {
    /// # Errors
    /// A relay's port is taken.
    pub fn start(node_count: u32, routes: &[Route]) -> Result<Network> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let count = (node_count * node_count) as usize;
        let shared = std::sync::Arc::new(Shared {
            node_count,
            links: (0..count).map(|_| watch::Sender::new(Link::Open)).collect(),
            processes: (0..node_count).map(|_| AtomicU32::new(0)).collect(),
            connections: Mutex::new(Vec::new()),
        });
        for route in routes {
            let listener = std::net::TcpListener::bind(("127.0.0.1", route.relay_port))
                .with_context(|| format!("the relay of node {} cannot listen", route.node))?;
            listener.set_nonblocking(true)?;
            runtime.spawn(relay::serve(shared.clone(), *route, listener));
        }
        Ok(Network { shared, _runtime: runtime })
    }

    /// The node runs in this process from now on; None: in none.
    pub fn set_process(&self, node: u32, process: Option<u32>) {
        self.shared.processes[node as usize].store(process.unwrap_or(0), Ordering::Relaxed);
    }

    /// Bytes from node `from` to node `to`, of connections that are open and of those to come.
    pub fn set(&self, from: u32, to: u32, link: Link) {
        self.shared.link(from, to).send_replace(link);
    }

    /// Opens every link.
    pub fn heal(&self) {
        self.shared.links.iter().for_each(|link| {
            link.send_replace(Link::Open);
        });
    }

    /// Ends every connection between the two, as a reset.
    pub fn reset(&self, one: u32, other: u32) {
        let mut connections = self.shared.lock();
        connections.retain(|(from, to, connection)| {
            let is_between = (*from, *to) == (one, other) || (*from, *to) == (other, one);
            if is_between {
                connection.abort();
            }
            !is_between && !connection.is_finished()
        });
    }
}

impl Shared {
    fn link(&self, from: u32, to: u32) -> &watch::Sender<Link> {
        &self.links[(from * self.node_count + to) as usize]
    }

    // A thread that panics between two pushes leaves a whole list.
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(u32, u32, AbortHandle)>> {
        self.connections.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// A relay whose both ends are this process, which is node 0; node 1 is an echo in it.
    fn network() -> (Network, TcpStream) {
        let echo = TcpListener::bind("127.0.0.1:0").expect("a port");
        let target_port = echo.local_addr().expect("an address").port();
        std::thread::spawn(move || {
            for stream in echo.incoming() {
                let mut stream = stream.expect("a connection");
                std::thread::spawn(move || std::io::copy(&mut stream.try_clone().expect("a clone"), &mut stream));
            }
        });
        let relay_port = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port").port();
        let network = Network::start(2, &[Route { node: 1, relay_port, target_port }]).expect("a network");
        network.set_process(0, Some(std::process::id()));
        let stream = TcpStream::connect(("127.0.0.1", relay_port)).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a limit");
        (network, stream)
    }

    fn says(stream: &mut TcpStream, text: &[u8; 4]) -> std::io::Result<()> {
        stream.write_all(text)?;
        hears(stream, text)
    }

    fn hears(stream: &mut TcpStream, text: &[u8; 4]) -> std::io::Result<()> {
        let mut heard = [0; 4];
        stream.read_exact(&mut heard)?;
        assert_eq!(&heard, text);
        Ok(())
    }

    #[test]
    fn bytes_wait_on_a_held_link_of_either_direction_and_arrive_when_it_opens() {
        let (network, mut stream) = network();
        says(&mut stream, b"open").expect("an open link");
        for (from, to) in [(0, 1), (1, 0)] {
            network.set(from, to, Link::Held);
            let error = says(&mut stream, b"held").expect_err("a held link");
            assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
            network.set(from, to, Link::Open);
            hears(&mut stream, b"held").expect("the link is open again");
        }
    }

    #[test]
    fn a_slow_link_is_slow() {
        let (network, mut stream) = network();
        network.set(0, 1, Link::Slow(Duration::from_millis(120)));
        let begin = std::time::Instant::now();
        says(&mut stream, b"slow").expect("a slow link");
        assert!(begin.elapsed() >= Duration::from_millis(120), "{:?}", begin.elapsed());
    }

    #[test]
    fn a_reset_ends_the_connection() {
        let (network, mut stream) = network();
        says(&mut stream, b"open").expect("an open link");
        network.reset(1, 0);
        assert!(matches!(stream.read(&mut [0; 1]), Err(error) if error.kind() == ErrorKind::ConnectionReset));
    }

    #[test]
    fn a_client_passes_whatever_the_links_are() {
        let (network, mut stream) = network();
        says(&mut stream, b"node").expect("an open link");
        network.set_process(0, None);
        network.set(0, 1, Link::Held);
        network.set(1, 0, Link::Held);
        let mut client = TcpStream::connect(stream.peer_addr().expect("an address")).expect("a connection");
        client.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
        says(&mut client, b"pass").expect("a client");
    }
}
