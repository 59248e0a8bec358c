//! QueryAssignment: what a push consumer asks for messages. In FIFO topics each partition; else each node that leads one, as a
//! queue with id −1, which means all that it leads: consumers share messages, not queues.

use std::collections::BTreeSet;

use duolog_broker::api::TopicRef;
use duolog_broker::message_api::MessageApi;
use duolog_types::MessageType;

use super::query_route::queue_of;
use crate::caller::Caller;
use crate::context::Context;
use crate::errors::Refusal;
use crate::names;
use crate::proto::{Assignment, QueryAssignmentRequest, QueryAssignmentResponse};

/// Any queue of a broker.
pub(super) const ANY_QUEUE: i32 = -1;

pub(crate) async fn handle<B: MessageApi>(
    context: Context<B>,
    _: Caller,
    request: QueryAssignmentRequest,
) -> Result<QueryAssignmentResponse, Refusal> {
    names::group(request.group.as_ref())?;
    let topic = context.broker.topic(&TopicRef::Name(names::topic(request.topic.as_ref())?))?;
    let resource = request.topic.unwrap_or_default();
    let is_fifo = topic.config.message_type() == MessageType::Fifo;
    // A partition without a leader comes back with the next question, a few seconds later.
    let led = topic.partitions.iter().filter_map(|partition| Some((partition.leader?, partition.partition)));
    let queues: BTreeSet<_> = led
        .map(|(leader, partition)| match is_fifo {
            true => (leader, i32::try_from(partition).unwrap_or(i32::MAX)),
            false => (leader, ANY_QUEUE),
        })
        .collect();
    let assignment =
        |(leader, id)| Assignment { message_queue: Some(queue_of(&context, &resource, &topic, id, leader)) };
    Ok(QueryAssignmentResponse { assignments: queues.into_iter().map(assignment).collect(), status: None })
}
