//! DescribeCluster (60), versions 0–2: nodes and controller. KIP-700, KIP-919.

use duolog_broker::api::BrokerApi;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

use crate::context::Context;
use crate::shape::{BOOL, INT8, Shape, field};
use crate::translate::{CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED, broker_id, optional_broker_id, string};

pub(crate) const SHAPE: Shape =
    Shape { flexible_from: 0, fields: &[field(BOOL), field(INT8).from(1), field(BOOL).from(2)] };

const ENDPOINT_BROKER: i8 = 1;
const ENDPOINT_CONTROLLER: i8 = 2;

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    version: i16,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    if version >= 1 && request.endpoint_type != ENDPOINT_BROKER {
        let code = match request.endpoint_type {
            ENDPOINT_CONTROLLER => ResponseError::MismatchedEndpointType,
            _ => ResponseError::UnsupportedEndpointType,
        };
        let sentence = format!("endpoint type {} was asked for, but this is a broker (type 1)", request.endpoint_type);
        let (code, sentence) = context.refusal(code, sentence);
        return DescribeClusterResponse::default().with_error_code(code).with_error_message(sentence);
    }
    let cluster = context.broker.cluster();
    let brokers = cluster
        .nodes
        .into_iter()
        .map(|node| {
            DescribeClusterBroker::default()
                .with_broker_id(broker_id(node.id))
                .with_host(string(node.host))
                .with_port(i32::from(node.kafka_port))
        })
        .collect();
    DescribeClusterResponse::default()
        .with_cluster_id(string(cluster.cluster_id))
        .with_controller_id(optional_broker_id(cluster.controller))
        .with_brokers(brokers)
        .with_cluster_authorized_operations(if request.include_cluster_authorized_operations {
            CLUSTER_OPERATIONS
        } else {
            OPERATIONS_NOT_ASKED
        })
}
