//! InitProducerId (22), versions 0–5: the identity of an idempotent producer. KIP-98, KIP-360.

use duolog_broker::api::{BrokerApi, ProducerIdentity};
use duolog_types::{ProducerEpoch, ProducerId};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};

use crate::context::Context;
use crate::errors::{TRANSACTIONS_REFUSED, TRANSACTIONS_REFUSED_SENTENCE};
use crate::shape::{INT16, INT32, INT64, Kind, Shape, field};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 2,
    fields: &[field(Kind::String), field(INT32), field(INT64).from(3), field(INT16).from(3)],
};

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    _version: i16,
    request: InitProducerIdRequest,
) -> InitProducerIdResponse {
    let refused = |code: i16| {
        InitProducerIdResponse::default().with_error_code(code).with_producer_id((-1).into()).with_producer_epoch(-1)
    };
    if request.transactional_id.is_some() {
        return refused(context.refusal(TRANSACTIONS_REFUSED, TRANSACTIONS_REFUSED_SENTENCE).0);
    }
    let known = match (request.producer_id.0, request.producer_epoch) {
        (-1, -1) => None,
        (id, epoch) if id >= 0 && epoch >= 0 => {
            Some(ProducerIdentity { id: ProducerId(id), epoch: ProducerEpoch(epoch) })
        }
        (id, epoch) => {
            let sentence = format!("producer id {id} with epoch {epoch}: both or neither must be given");
            return refused(context.refusal(ResponseError::InvalidRequest, sentence).0);
        }
    };
    match context.broker.init_producer_id(known).await {
        Ok(identity) => InitProducerIdResponse::default()
            .with_producer_id(identity.id.0.into())
            .with_producer_epoch(identity.epoch.0),
        Err(error) => refused(context.failure(&error).0),
    }
}
