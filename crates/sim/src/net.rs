//! The network between the nodes: turmoil's TCP, and above it links that can hold what is sent in one direction, and reset.
//!
//! What is held arrives later, as with segments that TCP sends again. What turmoil itself drops (`partition`) never arrives: its TCP
//! sends nothing again, so a connection that lost a segment is dead without anybody being told, as behind a firewall that forgets.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use duolog_replication::{Connection, Incoming, Net};
use futures_util::future::{BoxFuture, poll_fn};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use crate::machine::Machine;
use crate::node::node_of_host;

/// What the world does to the links; clones share it.
#[derive(Clone, Default)]
pub struct Links(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// (from, to): nothing arrives.
    held: BTreeSet<(u32, u32)>,
    /// How often the connections of a pair were reset.
    resets: BTreeMap<(u32, u32), u64>,
    /// Of those who read, by connection.
    readers: BTreeMap<u64, Waker>,
    next_connection: u64,
}

fn pair(a: u32, b: u32) -> (u32, u32) {
    (a.min(b), a.max(b))
}

impl State {
    fn wake(&mut self) {
        std::mem::take(&mut self.readers).into_values().for_each(Waker::wake);
    }

    fn resets_of(&self, a: u32, b: u32) -> u64 {
        self.resets.get(&pair(a, b)).copied().unwrap_or(0)
    }
}

impl Links {
    /// What `from` sends to `to` waits from now on.
    pub fn hold(&self, from: u32, to: u32) {
        self.0.lock().held.insert((from, to));
    }

    /// It arrives.
    pub fn release(&self, from: u32, to: u32) {
        let mut state = self.0.lock();
        state.held.remove(&(from, to));
        state.wake();
    }

    /// All connections between two nodes are reset.
    pub fn reset(&self, a: u32, b: u32) {
        let mut state = self.0.lock();
        *state.resets.entry(pair(a, b)).or_default() += 1;
        state.wake();
    }

    /// Waits until both directions are open.
    async fn open(&self, a: u32, b: u32) {
        let number = {
            let mut state = self.0.lock();
            state.next_connection += 1;
            state.next_connection
        };
        poll_fn(|context| {
            let mut state = self.0.lock();
            if state.held.contains(&(a, b)) || state.held.contains(&(b, a)) {
                state.readers.insert(number, context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    pub fn wrap(&self, inner: DuplexStream, own: u32, peer: u32) -> Connection {
        let mut state = self.0.lock();
        state.next_connection += 1;
        let (number, born) = (state.next_connection, state.resets_of(own, peer));
        drop(state);
        Connection(Box::new(LinkedStream { inner, links: self.clone(), own, peer, number, born }))
    }
}

/// The network as one node's process sees it.
pub struct SimNet {
    pub own: u32,
    pub links: Links,
    pub machine: Machine,
}

impl Net for SimNet {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Incoming>> {
        let (own, links, machine) = (self.own, self.links.clone(), self.machine.clone());
        Box::pin(async move { machine.listen(address, links, own).await })
    }

    fn connect(&self, name: String, port: u16) -> BoxFuture<'static, io::Result<Connection>> {
        let (own, links, machine) = (self.own, self.links.clone(), self.machine.clone());
        Box::pin(async move {
            let peer = node_of_host(&name).expect("the host of a node");
            if own != peer {
                links.open(own, peer).await;
            }
            let stream = machine.connect(peer, port).await?;
            Ok(links.wrap(stream, own, peer))
        })
    }
}

/// A connection over a link.
struct LinkedStream {
    inner: DuplexStream,
    links: Links,
    own: u32,
    peer: u32,
    number: u64,
    /// Resets of the pair when it began.
    born: u64,
}

impl LinkedStream {
    fn check_reset(&self, state: &State) -> io::Result<()> {
        let is_reset = state.resets_of(self.own, self.peer) != self.born;
        if is_reset { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for LinkedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let links = self.links.clone();
        let mut state = links.0.lock();
        self.check_reset(&state)?;
        state.readers.insert(self.number, context.waker().clone());
        if state.held.contains(&(self.peer, self.own)) {
            return Poll::Pending;
        }
        drop(state);
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for LinkedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_reset(&self.links.0.lock())?;
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl Drop for LinkedStream {
    fn drop(&mut self) {
        self.links.0.lock().readers.remove(&self.number);
    }
}
