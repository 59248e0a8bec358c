//! The listener: accepts, limits, and stops cleanly.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use duolog_broker::message_api::MessageApi;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;

use crate::budget::{Budgeted, Budgets};
use crate::config::RocketmqConfig;
use crate::context::Context;
use crate::metrics::RocketmqMetrics;
use crate::orphans;
use crate::proto::messaging_service_server::MessagingServiceServer;
use crate::service::Service;
use crate::stream::{self, Connection, HandshakeError, OpenConnection};
use crate::tls;
use crate::unread;

pub use crate::tls::TlsError;

/// Pause after an accept that failed, so that a lack of file descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A client whose machine is gone is noticed after these.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// What a client may send ahead of being read: of a call, and of a connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes of a call's metadata.
const METADATA_BYTES_MAX: u32 = 16 << 10;
/// Connections that have begun and wait to be served.
const BEGUN_MAX: usize = 64;

/// A RocketMQ front end.
pub struct RocketmqServer<B> {
    context: Context<B>,
    tls: TlsAcceptor,
}

impl<B: MessageApi> RocketmqServer<B> {
    /// A front end for a broker.
    ///
    /// # Errors
    /// TLS cannot be offered.
    pub fn new(broker: B, config: RocketmqConfig) -> Result<Self, TlsError> {
        let own_id = broker.node_id();
        let own_host = config.nodes.iter().find(|node| node.id == own_id).map(|node| node.host.clone());
        let tls = tls::acceptor(own_host, config.certificate.as_ref())?;
        Ok(Self { context: Context::new(broker, own_id, config), tls })
    }

    /// Its counters.
    #[must_use]
    pub fn metrics(&self) -> Arc<RocketmqMetrics> {
        self.context.metrics.clone()
    }

    /// Serves until `shutdown` is ready: then accepts no more, ends long polls and telemetry, waits for other calls for as long as
    /// [`RocketmqConfig::shutdown_grace_ms`], closes all connections and returns. May be called once.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let (begun, incoming) = mpsc::channel(BEGUN_MAX);
        let (abort, beginning) = (CancellationToken::new(), TaskTracker::new());
        let stop = self.context.stop.clone();
        let mut serving = tokio::spawn(speak(self.context.clone(), incoming));
        let asking = tokio::spawn(orphans::run(self.context.clone()));
        let relaying = tokio::spawn(orphans::relay(self.context.clone()));
        let looking = tokio::spawn(unread::run(self.context.answers.clone(), stop.clone()));
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => self.admit(accepted, &begun, &beginning, &abort).await,
            }
        }
        drop((listener, begun));
        stop.cancel();
        let grace = Duration::from_millis(self.context.config.shutdown_grace_ms);
        if timeout(grace, &mut serving).await.is_err() {
            let connections = self.context.metrics.connections();
            tracing::info!(connections, "RocketMQ connections with unanswered calls are closed");
        }
        abort.cancel();
        beginning.close();
        beginning.wait().await;
        if !serving.is_finished() {
            // Every connection ends with an error now.
            let _ = serving.await;
        }
        let _ = (asking.await, relaying.await, looking.await);
    }

    async fn admit(
        &self,
        accepted: io::Result<(TcpStream, SocketAddr)>,
        begun: &mpsc::Sender<io::Result<Connection>>,
        beginning: &TaskTracker,
        abort: &CancellationToken,
    ) {
        let (tcp, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a RocketMQ connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                return;
            }
        };
        let (metrics, config) = (&self.context.metrics, &self.context.config);
        if metrics.connections() >= config.connections_max as u64 {
            metrics.connection_refused();
            tracing::warn!(%peer, limit = config.connections_max, "connection refused: too many are open");
            return;
        }
        let open = OpenConnection::new(metrics.clone());
        let limit = Duration::from_millis(config.handshake_timeout_ms);
        let (tls, begun, metrics, abort) = (self.tls.clone(), begun.clone(), metrics.clone(), abort.clone());
        beginning.spawn(async move {
            let begins = async {
                match stream::begin(tcp, &tls, limit, open, abort.clone()).await {
                    // When nobody takes it, the front end has stopped.
                    Ok(connection) => drop(begun.send(Ok(connection)).await),
                    Err(HandshakeError::Silent) => {}
                    Err(error) => {
                        metrics.connection_broken();
                        tracing::debug!(%peer, %error, "connection closed");
                    }
                }
            };
            tokio::select! {
                () = begins => {}
                () = abort.cancelled() => {}
            }
        });
    }
}

/// Speaks HTTP/2 on all connections until the front end stops and they have ended.
async fn speak<B: MessageApi>(context: Context<B>, incoming: mpsc::Receiver<io::Result<Connection>>) {
    let stop = context.stop.clone();
    let bytes_max = context.config.message_bytes_max;
    let streams_max = context.config.streams_max;
    let budgets = Budgets::new(&context.config, context.metrics.clone());
    let service = MessagingServiceServer::new(Service::new(context))
        .max_decoding_message_size(bytes_max)
        // An answer may hold several of the largest messages.
        .max_encoding_message_size(usize::MAX);
    let served = Server::builder()
        .max_concurrent_streams(streams_max)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(METADATA_BYTES_MAX)
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .add_service(Budgeted::new(service, budgets))
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the RocketMQ front end has ended");
    }
}
