//! Metadata (3), versions 0–13: nodes, topics, leaders. Creates topics on first use where both sides allow it.

use std::collections::{BTreeMap, BTreeSet};

use duolog_broker::BrokerError;
use duolog_broker::api::{BrokerApi, ItemResult, NewTopic, TopicRef, TopicView};
use duolog_types::limits;
use kafka_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{MetadataRequest, TopicName};
use uuid::Uuid;

use crate::context::Context;
use crate::shape::{BOOL, Kind, Shape, UUID, field};
use crate::translate::{
    CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED, TOPIC_OPERATIONS, broker_id, broker_ids, is_topic_name, offline_replicas,
    optional_broker_id, partition_error, string, topic_id, topic_name, uuid,
};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 9,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[field(UUID).from(10), field(Kind::String)]))),
        field(BOOL).from(4),
        field(BOOL).from(8).until(10),
        field(BOOL).from(8),
    ],
};

/// Most topics that one request creates; the client asks again for the others.
const CREATED_PER_REQUEST_MAX: usize = 100;

/// A topic of the answer: what was asked for, what was found.
type Found = (TopicRef, ItemResult<TopicView>);

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    version: i16,
    request: MetadataRequest,
) -> MetadataResponse {
    let operations = if request.include_topic_authorized_operations { TOPIC_OPERATIONS } else { OPERATIONS_NOT_ASKED };
    let may_create = (version < 4 || request.allow_auto_topic_creation) && context.broker.auto_create_topics();
    let topics = match asked(version, request.topics) {
        None => context.broker.topics().into_iter().map(|topic| (TopicRef::Id(topic.id), Ok(topic))).collect(),
        Some(asked) => find(&context, asked, may_create).await,
    };
    let topics = topics.into_iter().map(|found| topic(&context, version, operations, found)).collect();
    let cluster_operations = if version <= 10 && request.include_cluster_authorized_operations {
        CLUSTER_OPERATIONS
    } else {
        OPERATIONS_NOT_ASKED
    };
    cluster(&context).with_topics(topics).with_cluster_authorized_operations(cluster_operations)
}

/// `None` means all topics: null, and in version 0, which has no null, the empty list.
fn asked(
    version: i16,
    topics: Option<Vec<kafka_protocol::messages::metadata_request::MetadataRequestTopic>>,
) -> Option<Vec<TopicRef>> {
    let topics = topics.filter(|topics| version >= 1 || !topics.is_empty())?;
    let by_name_or_id = topics.into_iter().map(|topic| match topic.name {
        Some(name) if topic.topic_id.is_nil() => TopicRef::Name(name.to_string()),
        _ => TopicRef::Id(topic_id(topic.topic_id)),
    });
    Some(by_name_or_id.collect::<BTreeSet<_>>().into_iter().collect())
}

async fn find<B: BrokerApi>(context: &Context<B>, asked: Vec<TopicRef>, may_create: bool) -> Vec<Found> {
    let mut found: Vec<Found> = asked
        .into_iter()
        .map(|topic| {
            let result = look_up(context, &topic);
            (topic, result)
        })
        .collect();
    if may_create {
        create_missing(context, &mut found).await;
    }
    found
}

/// A name that no topic can have is told apart from one that no topic has.
fn look_up<B: BrokerApi>(context: &Context<B>, topic: &TopicRef) -> ItemResult<TopicView> {
    match topic {
        TopicRef::Name(name) if !is_topic_name(name) => {
            Err(BrokerError::InvalidTopicName(format!("{name:?} is not a valid topic name")))
        }
        _ => context.broker.topic(topic),
    }
}

async fn create_missing<B: BrokerApi>(context: &Context<B>, found: &mut [Found]) {
    let mut missing = BTreeMap::new();
    for (index, (_, result)) in found.iter_mut().enumerate() {
        if let Err(BrokerError::UnknownTopic(name)) = result
            // These are made with the first dead letter, with a partition in every broker group.
            && !name.starts_with(limits::DEAD_LETTER_TOPIC_PREFIX)
        {
            let name = name.clone();
            *result = Err(BrokerError::LeaderNotAvailable);
            if missing.len() < CREATED_PER_REQUEST_MAX {
                missing.insert(index, name);
            }
        }
    }
    if missing.is_empty() {
        return;
    }
    let topics = missing.values().cloned().map(with_defaults).collect();
    let created = context.broker.create_topics(topics, context.config.auto_create_timeout_ms, false).await;
    for ((index, name), created) in missing.into_iter().zip(created) {
        found[index].1 = match created {
            // Another request was first, or the creation goes on: both are answered by what is there now.
            Ok(_) | Err(BrokerError::TopicExists(_) | BrokerError::RequestTimedOut(_)) => {
                context.broker.topic(&TopicRef::Name(name)).map_err(|_| BrokerError::LeaderNotAvailable)
            }
            Err(error) => Err(error),
        };
    }
}

fn with_defaults(name: String) -> NewTopic {
    NewTopic { name, partitions: None, replication_factor: None, assignments: Vec::new(), configs: Vec::new() }
}

fn cluster<B: BrokerApi>(context: &Context<B>) -> MetadataResponse {
    let cluster = context.broker.cluster();
    let brokers = cluster
        .nodes
        .into_iter()
        .map(|node| {
            MetadataResponseBroker::default()
                .with_node_id(broker_id(node.id))
                .with_host(string(node.host))
                .with_port(i32::from(node.kafka_port))
        })
        .collect();
    MetadataResponse::default()
        .with_brokers(brokers)
        .with_cluster_id(Some(string(cluster.cluster_id)))
        .with_controller_id(optional_broker_id(cluster.controller))
}

fn topic<B: BrokerApi>(
    context: &Context<B>,
    version: i16,
    operations: i32,
    (asked, found): Found,
) -> MetadataResponseTopic {
    match found {
        Ok(topic) => MetadataResponseTopic::default()
            .with_name(Some(topic_name(topic.name)))
            .with_topic_id(uuid(topic.id))
            .with_partitions(topic.partitions.iter().map(partition).collect())
            .with_topic_authorized_operations(operations),
        Err(error) => {
            let (name, id) = echoed(version, asked);
            MetadataResponseTopic::default()
                .with_name(name)
                .with_topic_id(id)
                .with_error_code(context.failure(&error).0)
        }
    }
}

/// What was asked for; before version 12 a name is never null.
fn echoed(version: i16, asked: TopicRef) -> (Option<TopicName>, Uuid) {
    match asked {
        TopicRef::Name(name) => (Some(topic_name(name)), Uuid::nil()),
        TopicRef::Id(id) => ((version < 12).then(TopicName::default), uuid(id)),
    }
}

fn partition(partition: &duolog_broker::api::PartitionView) -> MetadataResponsePartition {
    MetadataResponsePartition::default()
        .with_error_code(partition_error(partition))
        .with_partition_index(i32::try_from(partition.partition).unwrap_or(i32::MAX))
        .with_leader_id(optional_broker_id(partition.leader))
        .with_leader_epoch(partition.leader_epoch.0)
        .with_replica_nodes(broker_ids(&partition.replicas))
        .with_isr_nodes(broker_ids(&partition.in_sync_replicas))
        .with_offline_replicas(offline_replicas(partition))
}
