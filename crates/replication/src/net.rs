//! How nodes reach each other: TCP, or the network of a simulation.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::{Connected, TcpIncoming};

/// A byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection between two nodes.
pub struct Connection(pub Box<dyn Stream>);

/// Connections that others begin.
pub type Incoming = BoxStream<'static, io::Result<Connection>>;

/// A network that is not TCP.
pub trait Net: Send + Sync {
    /// Accepts connections.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Incoming>>;
    /// Connects to a node.
    fn connect(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Connection>>;
}

/// Accepts TCP connections.
pub(crate) async fn listen_tcp(address: SocketAddr) -> io::Result<Incoming> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    // The server builder's own setting is not used for a listener that is handed in. With Nagle's algorithm a follower's answers
    // wait for the leader's delayed acknowledgement: 40 ms.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Ok(incoming.map(|stream| Ok(Connection(Box::new(stream?)))).boxed())
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
