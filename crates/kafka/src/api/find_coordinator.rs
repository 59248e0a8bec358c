//! FindCoordinator (10), versions 0–6: who coordinates a consumer group. Several keys from version 4 on (KIP-699).

use duolog_broker::api::{BrokerApi, NodeView};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use crate::bounds::each_once;
use crate::context::Context;
use crate::errors::{TRANSACTIONS_REFUSED, TRANSACTIONS_REFUSED_SENTENCE};
use crate::shape::{INT8, Kind, Shape, field};
use crate::translate::{broker_id, string};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 3,
    fields: &[field(Kind::String).until(3), field(INT8).from(1), field(Kind::Array(&Kind::String)).from(4)],
};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    version: i16,
    mut request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let key_type = request.key_type;
    if version >= 4 {
        each_once(&mut request.coordinator_keys, Clone::clone);
        let coordinators =
            request.coordinator_keys.into_iter().map(|key| coordinator(&context, key_type, key)).collect();
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    let found = coordinator(&context, key_type, request.key);
    FindCoordinatorResponse::default()
        .with_error_code(found.error_code)
        .with_error_message(found.error_message.filter(|_| version >= 1))
        .with_node_id(found.node_id)
        .with_host(found.host)
        .with_port(found.port)
}

fn coordinator<B: BrokerApi>(context: &Context<B>, key_type: i8, key: StrBytes) -> Coordinator {
    match find(context, key_type, &key) {
        Ok(node) => Coordinator::default()
            .with_key(key)
            .with_node_id(broker_id(node.id))
            .with_host(string(node.host))
            .with_port(i32::from(node.kafka_port))
            .with_error_message(None),
        Err((code, sentence)) => Coordinator::default()
            .with_key(key)
            .with_node_id((-1).into())
            .with_port(-1)
            .with_error_code(code)
            .with_error_message(sentence),
    }
}

fn find<B: BrokerApi>(context: &Context<B>, key_type: i8, key: &StrBytes) -> Result<NodeView, (i16, Option<StrBytes>)> {
    match key_type {
        GROUP => context.broker.find_group_coordinator(key).map_err(|error| context.failure(&error)),
        TRANSACTION => Err(context.refusal(TRANSACTIONS_REFUSED, TRANSACTIONS_REFUSED_SENTENCE)),
        other => Err(context.refusal(
            ResponseError::InvalidRequest,
            format!("coordinator type {other} is not supported: 0 (consumer group) is"),
        )),
    }
}
