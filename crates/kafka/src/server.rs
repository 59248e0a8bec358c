//! The listener: accepts, limits, and stops cleanly.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use duolog_broker::RequestBudget;
use duolog_broker::api::BrokerApi;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::KafkaConfig;
use crate::connection;
use crate::context::Context;
use crate::metrics::KafkaMetrics;

/// Pause after an accept that failed, so that a lack of file descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A Kafka front end. Several listeners may be served by one; they share budget and counters.
pub struct KafkaServer<B> {
    context: Context<B>,
    budget: RequestBudget,
}

/// Serves Kafka clients on a listener until `shutdown` is ready; see [`KafkaServer::serve`].
pub async fn serve<B: BrokerApi>(
    listener: TcpListener,
    broker: B,
    config: KafkaConfig,
    shutdown: impl Future<Output = ()>,
) {
    KafkaServer::new(broker, config).serve(listener, shutdown).await;
}

impl<B: BrokerApi> KafkaServer<B> {
    /// A front end for a broker.
    #[must_use]
    pub fn new(broker: B, config: KafkaConfig) -> Self {
        let budget = RequestBudget::new(config.request_budget_bytes);
        Self { context: Context::new(broker, config, Arc::new(KafkaMetrics::default())), budget }
    }

    /// Its counters.
    #[must_use]
    pub fn metrics(&self) -> Arc<KafkaMetrics> {
        self.context.metrics.clone()
    }

    /// Serves until `shutdown` is ready: then accepts and reads no more, writes pending answers for as long as
    /// [`KafkaConfig::shutdown_grace_ms`], closes all connections and returns.
    pub async fn serve(&self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let stop = CancellationToken::new();
        let abort = CancellationToken::new();
        let tracker = TaskTracker::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => self.admit(accepted, &tracker, &stop, &abort).await,
            }
        }
        drop(listener);
        stop.cancel();
        tracker.close();
        let grace = Duration::from_millis(self.context.config.shutdown_grace_ms);
        if timeout(grace, tracker.wait()).await.is_err() {
            tracing::info!(connections = tracker.len(), "connections with unanswered requests are closed");
            abort.cancel();
            tracker.wait().await;
        }
    }

    async fn admit(
        &self,
        accepted: io::Result<(TcpStream, std::net::SocketAddr)>,
        tracker: &TaskTracker,
        stop: &CancellationToken,
        abort: &CancellationToken,
    ) {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                return;
            }
        };
        let metrics = &self.context.metrics;
        if tracker.len() >= self.context.config.connections_max {
            metrics.connection_refused();
            tracing::warn!(%peer, limit = self.context.config.connections_max, "connection refused: too many are open");
            return;
        }
        metrics.connection_opened();
        let open = OpenConnection(metrics.clone());
        let (context, budget, stop, abort) = (self.context.clone(), self.budget.clone(), stop.clone(), abort.clone());
        tracker.spawn(async move {
            let _open = open;
            tokio::select! {
                () = connection::run(context, budget, stream, peer, stop) => {}
                () = abort.cancelled() => {}
            }
        });
    }
}

/// Counts a connection as open until it is dropped, even by a panic.
struct OpenConnection(Arc<KafkaMetrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connection_closed();
    }
}
