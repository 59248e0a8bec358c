//! QueryRoute: a queue per partition, at the node that leads it; for a topic that one node leads, one more at another node. A topic that does not exist is not made.

use duolog_broker::api::{PartitionView, TopicRef, TopicView};
use duolog_broker::message_api::MessageApi;
use duolog_types::NodeId;

use crate::caller::Caller;
use crate::check::accepted;
use crate::context::Context;
use crate::errors::Refusal;
use crate::names;
use crate::proto::{Broker, MessageQueue, Permission, QueryRouteRequest, QueryRouteResponse, Resource};

pub(crate) async fn handle<B: MessageApi>(
    context: Context<B>,
    _: Caller,
    request: QueryRouteRequest,
) -> Result<QueryRouteResponse, Refusal> {
    let topic = context.broker.topic(&TopicRef::Name(names::topic(request.topic.as_ref())?))?;
    let resource = request.topic.unwrap_or_default();
    let queues = topic.partitions.iter().map(|partition| queue(&context, &resource, &topic, partition));
    let message_queues = queues.chain(way_round(&context, &resource, &topic)).collect();
    Ok(QueryRouteResponse { message_queues, status: None })
}

/// When one node leads the whole topic, the first queue at another node as well: clients ask for the route again only every 30
/// seconds, and would have nobody to turn to when that node ends.
fn way_round<B: MessageApi>(context: &Context<B>, resource: &Resource, topic: &TopicView) -> Option<MessageQueue> {
    let first = topic.partitions.first()?;
    let leader = first.leader.filter(|leader| topic.partitions.iter().all(|one| one.leader == Some(*leader)))?;
    let mut others = first.in_sync_replicas.iter().copied().filter(|node| *node != leader);
    let other = others.find(|node| context.peers.endpoints(*node).is_some())?;
    let id = i32::try_from(first.partition).unwrap_or(i32::MAX);
    Some(queue_of(context, resource, topic, id, other))
}

fn queue<B: MessageApi>(
    context: &Context<B>,
    resource: &Resource,
    topic: &TopicView,
    partition: &PartitionView,
) -> MessageQueue {
    // While there is no leader, any replica will do: it waits for the next one.
    let leader = partition.leader.or(partition.in_sync_replicas.first().copied());
    let id = i32::try_from(partition.partition).unwrap_or(i32::MAX);
    queue_of(context, resource, topic, id, leader.unwrap_or_else(|| context.broker.node_id()))
}

/// A queue at a node.
pub(super) fn queue_of<B: MessageApi>(
    context: &Context<B>,
    resource: &Resource,
    topic: &TopicView,
    id: i32,
    leader: NodeId,
) -> MessageQueue {
    let own = || context.peers.endpoints(context.broker.node_id());
    let mut queue = MessageQueue {
        topic: Some(resource.clone()),
        id,
        broker: Some(Broker {
            name: broker_name(leader),
            id: 0,
            // A node that serves no RocketMQ clients is reached through this one.
            endpoints: context.peers.endpoints(leader).or_else(own),
        }),
        accept_message_types: accepted(topic.config.message_type()).iter().map(|kind| i32::from(*kind)).collect(),
        ..MessageQueue::default()
    };
    queue.set_permission(Permission::ReadWrite);
    queue
}

const BROKER_NAME_PREFIX: &str = "node-";

/// A node's name as clients see it.
fn broker_name(node: NodeId) -> String {
    format!("{BROKER_NAME_PREFIX}{node}")
}

/// The node of a name.
pub(super) fn node_named(name: &str) -> Option<NodeId> {
    name.strip_prefix(BROKER_NAME_PREFIX)?.parse().ok().map(NodeId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_nodes_go_both_ways() {
        assert_eq!(node_named(&broker_name(NodeId(12))), Some(NodeId(12)));
        assert_eq!((node_named("node-x"), node_named("12"), node_named("")), (None, None, None));
    }
}
