//! The machine of a node: its sockets, as a kernel has them. They go on while the process stands still.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use duolog_replication::Incoming;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use parking_lot::Mutex;
use tokio::io::{DuplexStream, copy_bidirectional, duplex};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;
use turmoil::net::{TcpListener, TcpStream};

use crate::net::Links;
use crate::node::{host, node_of_host};

/// What a socket holds in each direction.
const PIPE_BYTES: usize = 1 << 16;

/// What a process asks of its machine.
enum Call {
    Listen {
        address: SocketAddr,
        accepted: mpsc::UnboundedSender<(DuplexStream, u32)>,
        answer: oneshot::Sender<io::Result<()>>,
    },
    Connect {
        peer: u32,
        port: u16,
        answer: oneshot::Sender<io::Result<DuplexStream>>,
    },
}

/// The way from a process to its machine, and the machine's end of it.
#[derive(Clone)]
pub struct Machine {
    calls: mpsc::UnboundedSender<Call>,
    taken: Arc<Mutex<Option<mpsc::UnboundedReceiver<Call>>>>,
}

impl Machine {
    pub fn new() -> Self {
        let (calls, taken) = mpsc::unbounded_channel();
        Self { calls, taken: Arc::new(Mutex::new(Some(taken))) }
    }

    /// Serves the process, on the machine, until it is down.
    pub async fn run(self) -> turmoil::Result {
        let mut calls = self.taken.lock().take().expect("a machine runs once");
        while let Some(call) = calls.recv().await {
            match call {
                Call::Listen { address, accepted, answer } => match TcpListener::bind(address).await {
                    Ok(listener) => {
                        // Nobody listens any more when the process has ended.
                        let _ = answer.send(Ok(()));
                        drop(spawn_local(accept(listener, accepted)));
                    }
                    Err(error) => drop(answer.send(Err(error))),
                },
                Call::Connect { peer, port, answer } => drop(spawn_local(async move {
                    let stream = TcpStream::connect((host(peer), port)).await;
                    let _ = answer.send(stream.map(pipe));
                })),
            }
        }
        std::future::pending().await
    }

    /// Connections that others begin, each with who does.
    pub async fn listen(&self, address: SocketAddr, links: Links, own: u32) -> io::Result<Incoming> {
        let ((accepted, incoming), (answer, answered)) = (mpsc::unbounded_channel(), oneshot::channel());
        self.ask(Call::Listen { address, accepted, answer }, answered).await?;
        let next = move |mut incoming: mpsc::UnboundedReceiver<(DuplexStream, u32)>| {
            let links = links.clone();
            async move {
                let (stream, peer) = incoming.recv().await?;
                Some((Ok(links.wrap(stream, own, peer)), incoming))
            }
        };
        Ok(unfold(incoming, next).boxed())
    }

    pub async fn connect(&self, peer: u32, port: u16) -> io::Result<DuplexStream> {
        let (answer, answered) = oneshot::channel();
        self.ask(Call::Connect { peer, port, answer }, answered).await
    }

    async fn ask<T>(&self, call: Call, answered: oneshot::Receiver<io::Result<T>>) -> io::Result<T> {
        let down = || io::Error::from(io::ErrorKind::NetworkDown);
        self.calls.send(call).map_err(|_| down())?;
        answered.await.map_err(|_| down())?
    }
}

async fn accept(listener: TcpListener, accepted: mpsc::UnboundedSender<(DuplexStream, u32)>) {
    while let Ok((stream, from)) = listener.accept().await {
        let name = turmoil::reverse_lookup(from.ip()).unwrap_or_default();
        // Only nodes call nodes.
        let peer = node_of_host(&name).expect("the host of a node");
        if accepted.send((pipe(stream), peer)).is_err() {
            return;
        }
    }
}

/// The process's end of a socket.
fn pipe(mut stream: TcpStream) -> DuplexStream {
    let (process, mut machine) = duplex(PIPE_BYTES);
    drop(spawn_local(async move {
        // Either end may go; the other one sees that it is closed.
        let _ = copy_bidirectional(&mut stream, &mut machine).await;
    }));
    process
}
