//! ListPartitionReassignments (46), version 0: none, ever. A partition has the replicas of its broker group. KIP-455.

use duolog_broker::api::BrokerApi;
use kafka_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use crate::context::Context;
use crate::shape::{INT32, Kind, Shape, field};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 0,
    fields: &[field(INT32), field(Kind::Array(&Kind::Struct(&[field(Kind::String), field(Kind::Array(&INT32))])))],
};

pub(crate) async fn handle<B: BrokerApi>(
    _: Context<B>,
    _version: i16,
    _: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default().with_error_message(None)
}
