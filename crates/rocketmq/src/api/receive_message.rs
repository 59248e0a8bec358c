//! ReceiveMessage: waits for messages at a node that leads some of the topic.
//!
//! Which partitions a request is about: the one that it names, when it comes from a consumer that was assigned queues; else all that the
//! leader of the named queue leads, so that one long poll sees whatever comes there.

use std::time::Duration;

use duolog_broker::BrokerError;
use duolog_broker::api::{TopicRef, TopicView};
use duolog_broker::message_api::{DeliveredMessage, Filter, MessageApi, Receive};
use duolog_types::{AssignmentStrategy, GroupConfig, MessageType, NodeId};
use tokio::time::{Instant, sleep_until};

use super::invisible_ms;
use super::query_assignment::ANY_QUEUE;
use super::query_route::node_named;
use crate::caller::Caller;
use crate::context::Context;
use crate::errors::Refusal;
use crate::mapping::{Place, to_message};
use crate::place::{Leader, Patience, node_of};
use crate::proto::{Code, FilterExpression, FilterType, Message, ReceiveMessageRequest, Resource, Status};
use crate::settings::{self, POLL_MS, RECEIVE_BATCH_MAX};
use crate::time::{from_duration, to_duration};
use crate::{handles, names};

/// How long a message is invisible that is renewed as long as its consumer lives.
const RENEWED_MS: u64 = 60_000;

/// How long a consumer that has no assignment waits at one node before the others are looked at again.
const SLICE: Duration = Duration::from_secs(1);
/// The least time between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Longest id of an attempt, which the leader remembers for a while: clients send UUIDs.
const ATTEMPT_ID_BYTES_MAX: usize = 128;

/// The status of an answer without messages.
pub(crate) fn nothing() -> Status {
    Status { code: Code::MessageNotFound.into(), message: "no message came in time".to_owned() }
}

/// Gives the messages; none when none came in time.
pub(crate) async fn handle<B: MessageApi>(
    context: Context<B>,
    caller: Caller,
    mut request: ReceiveMessageRequest,
) -> Result<Vec<Message>, Refusal> {
    let mut queue = request.message_queue.clone().unwrap_or_default();
    let name = names::topic(queue.topic.as_ref())?;
    let topic = context.broker.topic(&TopicRef::Name(name.clone()))?;
    let resource = queue.topic.clone().unwrap_or_default();
    let config = context.broker.group_config(&names::group(request.group.as_ref())?);
    let is_assigned = config.strategy() != AssignmentStrategy::Shared || settings::is_in_order(&config, &topic);
    let is_fifo = topic.config.message_type() == MessageType::Fifo;
    let named = queue.broker.as_ref().and_then(|broker| node_named(&broker.name));
    let wanted = queue.id;
    // Another node has decided already.
    if !caller.is_forwarded && (!is_assigned || context.clients.is_simple_consumer(&caller.client_id)) {
        queue.id = ANY_QUEUE;
    }
    let partition = (queue.id >= 0).then_some(queue.id);
    request.message_queue = Some(queue);
    let until = caller.deadline(wait(&request));
    let receive = receive_of(&context, &caller, &request, &topic, partition, &config)?;
    // A consumer with an assignment names the node that it asks, and asks the others by itself. With priorities what lies elsewhere may
    // come first all the same.
    let is_leader = |node| topic.partitions.iter().any(|partition| partition.leader == Some(node));
    let asks_each_node = named.is_some_and(is_leader)
        && context.clients.is_push_consumer(&caller.client_id)
        && topic.config.message_type() != MessageType::Priority;
    if partition.is_none() && !caller.is_forwarded && !asks_each_node {
        let found = look_everywhere(&context, &caller, &request, &receive, (&topic, named), &resource, is_fifo).await;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    // A consumer with an assignment asks each node by itself; others ask for one queue at a time.
    let first = topic.partitions.first().and_then(|partition| partition.leader);
    let is_spread = topic.partitions.iter().any(|partition| partition.leader != first);
    let looks_again = is_spread && !caller.is_forwarded && context.clients.is_simple_consumer(&caller.client_id);
    let mut patience = Patience::new(&caller, caller.deadline(wait(&request) + context.retry()));
    loop {
        let begun = Instant::now();
        let left = until.saturating_duration_since(begun);
        let is_slice = looks_again && left > SLICE;
        let left = if is_slice { SLICE } else { left };
        let result = match leader(&context, &caller, &name, wanted, named) {
            Ok(Leader::Here) => here(&context, receive.clone(), left, &resource, is_fifo).await,
            Ok(Leader::There(node)) => {
                let request = with_wait(&request, left);
                context.peers.receive(node, &caller, request, begun + left + context.retry()).await
            }
            Err(refusal) => Err(refusal),
        };
        match result {
            Err(refusal) if refusal.is_transient() && patience.wait().await => {}
            Ok(found) if found.is_empty() && is_slice && !context.stop.is_cancelled() => {
                // A node that stops answers at once.
                sleep_until(begun + PAUSE).await;
                let places = (&topic, named);
                let found = look_everywhere(&context, &caller, &request, &receive, places, &resource, is_fifo).await;
                if !found.is_empty() {
                    return Ok(found);
                }
            }
            result => return result,
        }
    }
}

/// Whatever lies ready, from the named node first: a consumer must not wait at one node while messages lie at another. Where messages
/// have priorities that counts more than where they lie. What fails is tried again by the caller.
async fn look_everywhere<B: MessageApi>(
    context: &Context<B>,
    caller: &Caller,
    request: &ReceiveMessageRequest,
    receive: &Receive,
    (topic, named): (&TopicView, Option<NodeId>),
    resource: &Resource,
    is_fifo: bool,
) -> Vec<Message> {
    for (leader, partition) in stations(topic, named) {
        let receive = Receive { partition, ..receive.clone() };
        let found = match node_of(context, leader) {
            Leader::Here => here(context, receive, Duration::ZERO, resource, is_fifo).await,
            Leader::There(node) => {
                let mut request = with_wait(request, Duration::ZERO);
                request.message_queue.get_or_insert_default().id = partition.unwrap_or(ANY_QUEUE);
                context.peers.receive(node, caller, request, Instant::now() + context.retry()).await
            }
        };
        match found {
            Ok(found) if !found.is_empty() => return found,
            Ok(_) | Err(_) => {}
        }
    }
    Vec::new()
}

/// Who is asked in turn, and for which partition: all that he leads, or with priorities each one by itself, the highest first.
fn stations(topic: &TopicView, named: Option<NodeId>) -> Vec<(NodeId, Option<i32>)> {
    let led = topic.partitions.iter().filter_map(|partition| Some((partition.leader?, partition.partition)));
    let mut leaders: Vec<NodeId> = led.clone().map(|(leader, _)| leader).collect();
    leaders.sort_unstable_by_key(|leader| (Some(*leader) != named, *leader));
    leaders.dedup();
    if topic.config.message_type() == MessageType::Priority && leaders.len() > 1 {
        let single = |(leader, partition)| (leader, Some(i32::try_from(partition).unwrap_or(i32::MAX)));
        return led.rev().map(single).collect();
    }
    leaders.into_iter().map(|leader| (leader, None)).collect()
}

fn wait(request: &ReceiveMessageRequest) -> Duration {
    let ms = request.long_polling_timeout.as_ref().and_then(from_duration);
    Duration::from_millis(ms.unwrap_or(POLL_MS).min(2 * POLL_MS))
}

fn with_wait(request: &ReceiveMessageRequest, left: Duration) -> ReceiveMessageRequest {
    let ms = u64::try_from(left.as_millis()).unwrap_or(POLL_MS);
    ReceiveMessageRequest { long_polling_timeout: Some(to_duration(ms)), ..request.clone() }
}

fn receive_of<B: MessageApi>(
    context: &Context<B>,
    caller: &Caller,
    request: &ReceiveMessageRequest,
    topic: &TopicView,
    partition: Option<i32>,
    config: &GroupConfig,
) -> Result<Receive, Refusal> {
    let invisible_ms = match (&request.invisible_duration, request.auto_renew) {
        (None, true) => RENEWED_MS,
        (duration, _) => invisible_ms(duration.as_ref(), 1)?,
    };
    Ok(Receive {
        consumer: names::consumer(request.group.as_ref(), caller)?,
        topic: TopicRef::Id(topic.id),
        partition,
        count_max: u32::try_from(request.batch_size).unwrap_or(0).clamp(1, RECEIVE_BATCH_MAX),
        filter: filter_of(request.filter_expression.as_ref()),
        invisible_ms,
        auto_renew: request.auto_renew,
        connection: caller.connection.filter(|_| !caller.is_forwarded),
        attempt_id: attempt_id(request)?,
        attempts_max: settings::attempts_max(config, context.clients.attempts_max(&caller.client_id)),
        wait_ms_max: 0,
    })
}

fn attempt_id(request: &ReceiveMessageRequest) -> Result<Option<String>, Refusal> {
    let id = request.attempt_id.as_ref().filter(|id| !id.is_empty());
    if let Some(id) = id.filter(|id| id.len() > ATTEMPT_ID_BYTES_MAX) {
        let sentence = format!("attempt_id has {} bytes: expected at most {ATTEMPT_ID_BYTES_MAX}", id.len());
        return Err(Refusal::new(Code::BadRequest, sentence));
    }
    Ok(id.cloned())
}

pub(super) fn filter_of(expression: Option<&FilterExpression>) -> Filter {
    let Some(expression) = expression else { return Filter::All };
    let text = expression.expression.trim();
    match expression.r#type() {
        FilterType::Sql => Filter::Sql(text.to_owned()),
        FilterType::Tag | FilterType::Unspecified if text.is_empty() || text == "*" => Filter::All,
        FilterType::Tag | FilterType::Unspecified => {
            let tags = text.split("||").map(str::trim).filter(|tag| !tag.is_empty());
            Filter::Tags(tags.map(str::to_owned).collect())
        }
    }
}

/// Who is asked: the leader of the queue's partition; for any queue the broker that is named, this node, or whoever leads anything.
fn leader<B: MessageApi>(
    context: &Context<B>,
    caller: &Caller,
    topic: &str,
    queue: i32,
    named: Option<NodeId>,
) -> Result<Leader, Refusal> {
    if caller.is_forwarded {
        return Ok(Leader::Here);
    }
    let topic = context.broker.topic(&TopicRef::Name(topic.to_owned()))?;
    let leader = match usize::try_from(queue) {
        Ok(partition) => {
            let view = topic.partitions.get(partition);
            let unknown = || BrokerError::UnknownPartition { topic: topic.name.clone(), partition: queue };
            view.ok_or_else(unknown)?.leader
        }
        Err(_) => {
            let leads = |node: &NodeId| topic.partitions.iter().any(|partition| partition.leader == Some(*node));
            let own = context.broker.node_id();
            let any = || topic.partitions.iter().find_map(|partition| partition.leader);
            named.filter(leads).or_else(|| Some(own).filter(leads)).or_else(any)
        }
    };
    leader.map(|node| node_of(context, node)).ok_or_else(|| BrokerError::LeaderNotAvailable.into())
}

async fn here<B: MessageApi>(
    context: &Context<B>,
    receive: Receive,
    wait: Duration,
    resource: &Resource,
    is_fifo: bool,
) -> Result<Vec<Message>, Refusal> {
    let wait_ms_max = u64::try_from(wait.as_millis()).unwrap_or(POLL_MS);
    let invisible_ms = receive.invisible_ms;
    let received = tokio::select! {
        received = context.broker.receive(Receive { wait_ms_max, ..receive }) => received,
        () = context.stop.cancelled() => Ok(Vec::new()),
    };
    let delivered = received.map_err(|error| match error {
        BrokerError::InvalidRequest(sentence) => Refusal::Own(Code::IllegalFilterExpression, sentence),
        error => error.into(),
    })?;
    context.metrics.count_delivered(delivered.len());
    let host = context.own_address.as_str();
    let message = |delivered: &DeliveredMessage| {
        let place = Place { topic: resource, partition: delivered.partition, is_fifo, host };
        let mut message = to_message(&delivered.record, place);
        let system = message.system_properties.get_or_insert_default();
        system.receipt_handle = Some(handles::write_receipt(&delivered.receipt));
        system.delivery_attempt = Some(i32::try_from(delivered.attempt).unwrap_or(i32::MAX));
        system.invisible_duration = Some(to_duration(invisible_ms));
        message
    };
    Ok(delivered.iter().map(message).collect())
}

#[cfg(test)]
mod tests {
    use duolog_broker::api::PartitionView;
    use duolog_types::{BrokerGroupId, LeaderEpoch, TopicConfig, TopicId};

    use super::*;

    fn filter(kind: FilterType, text: &str) -> Filter {
        filter_of(Some(&FilterExpression { r#type: kind.into(), expression: text.to_owned() }))
    }

    #[test]
    fn priorities_count_more_than_where_they_lie() {
        let view = |(partition, leader): (u32, Option<u64>)| PartitionView {
            partition,
            broker_group: BrokerGroupId(1),
            leader: leader.map(NodeId),
            leader_epoch: LeaderEpoch(1),
            replicas: Vec::new(),
            in_sync_replicas: Vec::new(),
        };
        let asked = |message_type: &str, leaders: &[Option<u64>]| {
            let config = TopicConfig::new([("message.type", message_type)]).unwrap();
            let partitions = (0..).zip(leaders.iter().copied()).map(view).collect();
            let topic = TopicView { name: "t".to_owned(), id: TopicId([1; 16]), partitions, config };
            let asked = stations(&topic, Some(NodeId(1))).into_iter();
            asked.map(|(leader, partition)| (leader.0, partition)).collect::<Vec<_>>()
        };
        let spread = [Some(0), Some(1), None, Some(0)];
        assert_eq!(asked("NORMAL", &spread), [(1, None), (0, None)]);
        assert_eq!(asked("PRIORITY", &spread), [(0, Some(3)), (1, Some(1)), (0, Some(0))]);
        assert_eq!(asked("PRIORITY", &[Some(0), Some(0)]), [(0, None)], "one leader knows the order himself");
    }

    #[test]
    fn an_attempt_has_a_short_id_or_none() {
        let of = |id: &str| {
            let request = ReceiveMessageRequest { attempt_id: Some(id.to_owned()), ..ReceiveMessageRequest::default() };
            attempt_id(&request)
        };
        let longest = "x".repeat(128);
        assert_eq!((of(""), of(&longest)), (Ok(None), Ok(Some(longest.clone()))));
        let refusal = of(&format!("{longest}y")).unwrap_err();
        assert_eq!(refusal, Refusal::new(Code::BadRequest, "attempt_id has 129 bytes: expected at most 128"));
    }

    #[test]
    fn filters_are_told_apart() {
        let tags = |tags: &[&str]| Filter::Tags(tags.iter().map(|tag| (*tag).to_owned()).collect());
        assert_eq!((filter_of(None), filter(FilterType::Tag, "*")), (Filter::All, Filter::All));
        assert_eq!(filter(FilterType::Tag, "a"), tags(&["a"]));
        assert_eq!(filter(FilterType::Unspecified, " a ||b|| "), tags(&["a", "b"]));
        assert_eq!(filter(FilterType::Sql, "n > 1"), Filter::Sql("n > 1".to_owned()));
    }
}
