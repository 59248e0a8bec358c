//! QueryAssignment: what a push consumer asks for messages. By default each node that leads a partition, as a queue with id −1, which
//! means all that it leads: consumers share messages, not queues. In order each partition by itself; with another strategy of the
//! group the partitions that are this consumer's.

use std::collections::BTreeSet;

use duolog_broker::api::{TopicRef, TopicView};
use duolog_broker::message_api::MessageApi;
use duolog_types::{AssignmentStrategy, Rooms};

use super::query_route::queue_of;
use crate::assignment::{assigned, nearby};
use crate::caller::Caller;
use crate::context::Context;
use crate::errors::Refusal;
use crate::names;
use crate::proto::{Assignment, QueryAssignmentRequest, QueryAssignmentResponse};
use crate::settings;

/// Any queue of a broker.
pub(super) const ANY_QUEUE: i32 = -1;

pub(crate) async fn handle<B: MessageApi>(
    context: Context<B>,
    caller: Caller,
    request: QueryAssignmentRequest,
) -> Result<QueryAssignmentResponse, Refusal> {
    let group = names::group(request.group.as_ref())?;
    let topic = context.broker.topic(&TopicRef::Name(names::topic(request.topic.as_ref())?))?;
    let resource = request.topic.unwrap_or_default();
    let config = context.broker.group_config(&group);
    let strategy = config.strategy();
    let any = strategy == AssignmentStrategy::Shared && !settings::is_in_order(&config, &topic);
    let consumers = context.clients.consumers(&group, &topic.name, &caller.client_id);
    let own = match strategy {
        AssignmentStrategy::MachineRoom => in_rooms(&context, &config.rooms(), &topic, &consumers, &caller),
        _ => assigned(strategy, topic.partitions.len(), &consumers, &caller.client_id),
    };
    let own: BTreeSet<usize> = own.into_iter().collect();
    // A partition without a leader comes back with the next question, a few seconds later.
    let led = topic.partitions.iter().filter_map(|partition| Some((partition.leader?, partition.partition)));
    let queues: BTreeSet<_> = led
        .filter(|(_, partition)| own.contains(&(*partition as usize)))
        .map(|(leader, partition)| match any {
            true => (leader, ANY_QUEUE),
            false => (leader, i32::try_from(partition).unwrap_or(i32::MAX)),
        })
        .collect();
    let assignment =
        |(leader, id)| Assignment { message_queue: Some(queue_of(&context, &resource, &topic, id, leader)) };
    Ok(QueryAssignmentResponse { assignments: queues.into_iter().map(assignment).collect(), status: None })
}

/// The consumer's queues by machine rooms: nodes lie where their advertised host does, consumers where they call from.
fn in_rooms<B: MessageApi>(
    context: &Context<B>,
    rooms: &Rooms,
    topic: &TopicView,
    consumers: &[String],
    caller: &Caller,
) -> Vec<usize> {
    let Some(own) = consumers.iter().position(|id| *id == caller.client_id) else { return Vec::new() };
    let nodes = context.broker.cluster().nodes;
    let room_of_node = |id| nodes.iter().find(|node| node.id == id).and_then(|node| rooms.room_of(&node.host));
    let queues: Vec<_> = topic.partitions.iter().map(|partition| partition.leader.and_then(room_of_node)).collect();
    let room_of_consumer = |id: &String| match *id == caller.client_id {
        true => rooms.room_of(&caller.host),
        false => rooms.room_of(&context.clients.host(id)?),
    };
    let consumers: Vec<_> = consumers.iter().map(room_of_consumer).collect();
    nearby(&queues, &consumers, own)
}
