//! A connection from its first byte on: plaintext or TLS, then HTTP/2's preface, which is read here and given again to who speaks
//! HTTP/2. So nothing else than HTTP/2 gets any further, and a peer that says nothing holds a connection only for a while.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use duolog_broker::message_api::ConnectionId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::metrics::RocketmqMetrics;

/// What every HTTP/2 connection begins with (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The first byte of TLS: the record type of a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// Why a connection did not get any further.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the peer closed before it said anything")]
    Silent,
    #[error("the peer did not begin to speak HTTP/2 within {0:?}")]
    TooSlow(Duration),
    #[error("expected HTTP/2, with TLS or without, found {0:?}")]
    NoHttp2(String),
    #[error(transparent)]
    Socket(#[from] io::Error),
}

/// Counts a connection as open until it is dropped.
pub(crate) struct OpenConnection(Arc<RocketmqMetrics>);

impl OpenConnection {
    pub(crate) fn new(metrics: Arc<RocketmqMetrics>) -> Self {
        metrics.connection_opened();
        Self(metrics)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connection_closed();
    }
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that speaks HTTP/2.
pub(crate) struct Connection {
    transport: Transport,
    /// What of the preface was not given again yet.
    preface: &'static [u8],
    peer: Peer,
    abort: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Since the last flush: see [`Connection::poll_turn`].
    has_given_way: bool,
    _open: OpenConnection,
}

/// Where a connection comes from, and which one it is; every call on it can ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) connection: ConnectionId,
}

/// Of the next connection.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Begins a connection; `abort` ends it at any time.
pub(crate) async fn begin(
    tcp: TcpStream,
    tls: &TlsAcceptor,
    limit: Duration,
    open: OpenConnection,
    abort: CancellationToken,
) -> Result<Connection, HandshakeError> {
    tcp.set_nodelay(true)?;
    let peer = Peer { address: tcp.peer_addr()?, connection: ConnectionId(NEXT_ID.fetch_add(1, Ordering::Relaxed)) };
    let transport = timeout(limit, handshake(tcp, tls)).await.map_err(|_| HandshakeError::TooSlow(limit))??;
    let abort = Box::pin(abort.cancelled_owned());
    Ok(Connection { transport, preface: PREFACE, peer, abort, has_given_way: false, _open: open })
}

async fn handshake(mut tcp: TcpStream, tls: &TlsAcceptor) -> Result<Transport, HandshakeError> {
    let mut first = [0];
    if tcp.peek(&mut first).await? == 0 {
        return Err(HandshakeError::Silent);
    }
    if first[0] == TLS_HANDSHAKE {
        let mut stream = tls.accept(tcp).await?;
        read_preface(&mut stream).await?;
        return Ok(Transport::Tls(Box::new(stream)));
    }
    read_preface(&mut tcp).await?;
    Ok(Transport::Plain(tcp))
}

/// Reads the preface, no byte more, and no more than is right.
async fn read_preface(stream: &mut (impl AsyncRead + Unpin)) -> Result<(), HandshakeError> {
    let mut found = [0; PREFACE.len()];
    let mut length = 0;
    while length < PREFACE.len() {
        let read = stream.read(&mut found[length..]).await?;
        length += read;
        let is_right = PREFACE.starts_with(&found[..length]);
        if read == 0 && length == 0 {
            return Err(HandshakeError::Silent);
        }
        if read == 0 || !is_right {
            return Err(HandshakeError::NoHttp2(found[..length].escape_ascii().to_string()));
        }
    }
    Ok(())
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

impl Connection {
    fn poll_abort(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.abort.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }

    /// Before the first write after a flush all other tasks that are ready get a turn. The runtime runs a connection that an answer has
    /// woken before everything else, so each answer would be written by itself, although many calls are answered at the same moment.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.has_given_way, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_abort(context)?;
        if !self.preface.is_empty() {
            let (now, later) = self.preface.split_at(self.preface.len().min(buffer.remaining()));
            buffer.put_slice(now);
            self.preface = later;
            return Poll::Ready(Ok(()));
        }
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_abort(context)?;
        ready!(self.poll_turn(context));
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.has_given_way = false;
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_abort(context)?;
        ready!(self.poll_turn(context));
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_preface_gets_any_further() {
        read_preface(&mut &PREFACE[..]).await.unwrap();
        for (bytes, is_silent) in [(&b""[..], true), (b"GET / HTTP/1.1\r\n", false), (&PREFACE[..20], false)] {
            let error = read_preface(&mut &bytes[..]).await.unwrap_err();
            assert_eq!(matches!(error, HandshakeError::Silent), is_silent, "{error}");
        }
    }
}
