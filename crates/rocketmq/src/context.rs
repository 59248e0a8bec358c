//! What every handler gets: the broker, the settings, the counters, the clients, the other nodes.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use duolog_broker::message_api::MessageApi;
use duolog_types::NodeId;
use tokio_util::sync::CancellationToken;

use crate::clients::Clients;
use crate::config::{RocketmqConfig, RocketmqNode};
use crate::metrics::RocketmqMetrics;
use crate::peers::{LookUp, Peers};
use crate::unread::{Answers, PATIENCE};

/// Shared by all connections; cheap to clone.
pub(crate) struct Context<B>(Arc<Shared<B>>);

pub(crate) struct Shared<B> {
    pub(crate) broker: B,
    pub(crate) config: RocketmqConfig,
    pub(crate) metrics: Arc<RocketmqMetrics>,
    pub(crate) clients: Clients,
    pub(crate) peers: Peers,
    /// Answers that are not read to their end yet.
    pub(crate) answers: Arc<Answers>,
    /// The address that clients know this node by.
    pub(crate) own_address: String,
    /// Cancelled when the front end stops: long polls and telemetry end.
    pub(crate) stop: CancellationToken,
    turn: AtomicU32,
}

impl<B: MessageApi> Context<B> {
    pub(crate) fn new(broker: B, own_id: NodeId, config: RocketmqConfig) -> Self {
        let metrics = Arc::new(RocketmqMetrics::default());
        let own = config.nodes.iter().find(|node| node.id == own_id);
        Self(Arc::new(Shared {
            own_address: own.map(|own| format!("{}:{}", own.host, own.port)).unwrap_or_default(),
            clients: Clients::new(config.clients_max, Duration::from_millis(config.client_expiration_ms)),
            peers: Peers::new(&config, look_up(broker.clone()), metrics.clone()),
            answers: Arc::new(Answers::new(PATIENCE)),
            stop: CancellationToken::new(),
            turn: AtomicU32::new(0),
            broker,
            config,
            metrics,
        }))
    }
}

/// Members that joined after this node's config was written said themselves where they are.
fn look_up(broker: impl MessageApi) -> LookUp {
    Box::new(move |id| {
        let member = broker.cluster().nodes.into_iter().find(|node| node.id == id)?;
        (member.rocketmq_port > 0).then_some(RocketmqNode { id, host: member.host, port: member.rocketmq_port })
    })
}

impl<B> Shared<B> {
    /// How long a call is tried again while there is no leader.
    pub(crate) fn retry(&self) -> Duration {
        Duration::from_millis(self.config.retry_ms)
    }

    /// A number that is another one each time.
    pub(crate) fn next_turn(&self) -> u32 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}

impl<B> Clone for Context<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B> Deref for Context<B> {
    type Target = Shared<B>;

    fn deref(&self) -> &Shared<B> {
        &self.0
    }
}
