//! Producer ids: this node takes blocks from the catalog and hands them out one by one.

use std::time::Duration;

use duolog_state::Response;
use duolog_state::command::{CatalogCommand, Command};
use duolog_types::{BrokerGroupId, FlushWish, ProducerEpoch, ProducerId};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::api::{ItemResult, ProducerIdentity};
use crate::broker::Broker;
use crate::error::BrokerError;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The block that this node has left.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds(Mutex<std::ops::Range<i64>>);

impl ProducerIds {
    async fn next(&self, broker: &Broker) -> ItemResult<ProducerId> {
        let mut left = self.0.lock().await;
        if left.is_empty() {
            let command = Command::Catalog(CatalogCommand::AllocateProducerIds { node: broker.own_id() });
            let deadline = Instant::now() + TIMEOUT;
            match broker.propose(BrokerGroupId::SYSTEM, &command, FlushWish::Now, deadline).await? {
                Response::ProducerIds { first, count } => *left = first.0..first.0 + count,
                other => return Err(BrokerError::Storage(format!("unexpected answer of the catalog: {other:?}"))),
            }
        }
        Ok(ProducerId(left.next().expect("a block is not empty")))
    }
}

/// A new id with epoch 0, or the next epoch of a known one: a producer that lost track starts its sequence anew (KIP-360).
pub(crate) async fn init(broker: &Broker, known: Option<ProducerIdentity>) -> ItemResult<ProducerIdentity> {
    match known {
        Some(known) if known.id.0 >= 0 && known.epoch.0 < i16::MAX - 1 => {
            Ok(ProducerIdentity { id: known.id, epoch: ProducerEpoch(known.epoch.0 + 1) })
        }
        _ => Ok(ProducerIdentity { id: broker.producer_ids().next(broker).await?, epoch: ProducerEpoch(0) }),
    }
}
