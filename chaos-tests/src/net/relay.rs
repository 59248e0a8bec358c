//! One relay: takes connections, finds out whose they are, and passes the bytes on as the links allow.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::whose::{self, Owner};
use super::{Link, Route, Shared};

const CHUNK_BYTES: usize = 64 << 10;
/// Chunks under way on a link of a connection; beyond them the sender's own buffers fill, as with a real network.
const CHUNKS_MAX: usize = 16;
/// After a listener's error, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Never returns.
pub async fn serve(shared: Arc<Shared>, route: Route, listener: std::net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let of_task = shared.clone();
                tokio::spawn(async move { begin(&of_task, route, stream).await });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn begin(shared: &Arc<Shared>, route: Route, from: TcpStream) -> Option<()> {
    let client_port = from.peer_addr().ok()?.port();
    let of_search = shared.clone();
    let source = tokio::task::spawn_blocking(move || source(&of_search, client_port, route)).await.ok()??;
    // A node that is down refuses, and so does its relay.
    let to = match TcpStream::connect(("127.0.0.1", route.target_port)).await {
        Ok(to) => to,
        Err(_) => return from.set_zero_linger().ok(),
    };
    let task = tokio::spawn(pass(shared.clone(), source, route.node, from, to));
    if let Some(source) = source {
        let mut connections = shared.lock();
        connections.retain(|(.., connection)| !connection.is_finished());
        connections.push((source, route.node, task.abort_handle()));
    }
    Some(())
}

/// The other node that has opened the connection; Some(None): a client, or the node itself. None: it has given up meanwhile.
fn source(shared: &Shared, client_port: u16, route: Route) -> Option<Option<u32>> {
    let processes: Vec<u32> = shared.processes.iter().map(|process| process.load(Ordering::Relaxed)).collect();
    let owner = match whose::owner(client_port, route.relay_port, processes.iter().copied()) {
        Owner::Process(owner) => owner,
        Owner::Other => return Some(None),
        Owner::Gone => return None,
    };
    let source = processes.iter().position(|process| *process == owner).map(|source| source as u32);
    Some(source.filter(|source| *source != route.node))
}

/// Both directions of a connection, until one fails or both end. Aborted, it leaves a reset at both ends.
async fn pass(shared: Arc<Shared>, source: Option<u32>, node: u32, mut from: TcpStream, mut to: TcpStream) {
    for stream in [&from, &to] {
        let _ = stream.set_nodelay(true);
        // What ends otherwise than by the end of both directions is a reset.
        let _ = stream.set_zero_linger();
    }
    let (from_read, from_write) = from.split();
    let (to_read, to_write) = to.split();
    let link = |from, to| shared.link(from, to).subscribe();
    let (there, back) = match source {
        Some(source) => (link(source, node), link(node, source)),
        None => (watch::channel(Link::Open).1, watch::channel(Link::Open).1),
    };
    let _ = tokio::try_join!(one_way(from_read, to_write, there), one_way(to_read, from_write, back));
}

async fn one_way(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, link: watch::Receiver<Link>) -> io::Result<()> {
    let (under_way, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let mut gate = link.clone();
    let read = async move {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            if from.read_buf(&mut chunk).await? == 0 {
                return Ok(());
            }
            let delay = match *link.borrow() {
                Link::Slow(delay) => delay,
                Link::Open | Link::Held => Duration::ZERO,
            };
            if under_way.send((Instant::now() + delay, chunk)).await.is_err() {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = arriving.recv().await {
            sleep_until(due).await;
            wait_open(&mut gate).await;
            to.write_all(&chunk).await?;
        }
        // An end is held as bytes are.
        wait_open(&mut gate).await;
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(|_: ((), ())| ())
}

/// For ever, if the link is dropped while it is held.
async fn wait_open(link: &mut watch::Receiver<Link>) {
    // Of a client's link there is no sender: it stays open.
    if link.wait_for(|link| *link != Link::Held).await.is_err() && *link.borrow() == Link::Held {
        std::future::pending::<()>().await;
    }
}
