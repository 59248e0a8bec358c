//! DescribeTopicPartitions (75), version 0: partitions in pages, by name of topic. KIP-966.

use std::collections::BTreeSet;

use duolog_broker::BrokerError;
use duolog_broker::api::{BrokerApi, ItemResult, PartitionView, TopicRef, TopicView};
use kafka_protocol::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};

use crate::context::Context;
use crate::shape::{INT32, Kind, Shape, field};
use crate::translate::{
    OPERATIONS_NOT_ASKED, TOPIC_OPERATIONS, broker_ids, is_topic_name, offline_replicas, optional_broker_id,
    partition_error, topic_name, uuid,
};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 0,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[field(Kind::String)]))),
        field(INT32),
        field(Kind::NullableStruct(&[field(Kind::String), field(INT32)])),
    ],
};

/// Most partitions of one answer (Kafka's `max.request.partition.size.limit`).
const PARTITIONS_MAX: usize = 2_000;

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    _version: i16,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let (first_topic, first_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.to_string(), usize::try_from(cursor.partition_index).unwrap_or(0)),
        None => (String::new(), 0),
    };
    let mut left = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, PARTITIONS_MAX);
    let asked: BTreeSet<String> = request.topics.into_iter().map(|topic| topic.name.to_string()).collect();
    let mut topics = Vec::new();
    for (name, found) in find(&context, asked).into_iter().filter(|(name, _)| *name >= first_topic) {
        let skipped = if name == first_topic { first_partition } else { 0 };
        let total = found.as_ref().map_or(0, |topic| topic.partitions.len());
        if left == 0 && total > skipped {
            return page(topics, Some((name, skipped)));
        }
        let shown = total.saturating_sub(skipped).min(left);
        topics.push(topic(&context, &name, found, skipped, shown));
        left -= shown;
        if skipped + shown < total {
            return page(topics, Some((name, skipped + shown)));
        }
    }
    page(topics, None)
}

/// Sorted by name, since the cursor is a name; no name means all.
fn find<B: BrokerApi>(context: &Context<B>, asked: BTreeSet<String>) -> Vec<(String, ItemResult<TopicView>)> {
    if asked.is_empty() {
        let mut all: Vec<_> =
            context.broker.topics().into_iter().map(|topic| (topic.name.clone(), Ok(topic))).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        return all;
    }
    asked
        .into_iter()
        .map(|name| {
            let found = if is_topic_name(&name) {
                context.broker.topic(&TopicRef::Name(name.clone()))
            } else {
                Err(BrokerError::InvalidTopicName(format!("{name:?} is not a valid topic name")))
            };
            (name, found)
        })
        .collect()
}

fn page(
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    next: Option<(String, usize)>,
) -> DescribeTopicPartitionsResponse {
    let cursor = next.map(|(name, partition)| {
        Cursor::default()
            .with_topic_name(topic_name(name))
            .with_partition_index(i32::try_from(partition).unwrap_or(i32::MAX))
    });
    DescribeTopicPartitionsResponse::default().with_topics(topics).with_next_cursor(cursor)
}

fn topic<B: BrokerApi>(
    context: &Context<B>,
    name: &str,
    found: ItemResult<TopicView>,
    skipped: usize,
    shown: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let answer = DescribeTopicPartitionsResponseTopic::default().with_name(Some(topic_name(name)));
    match found {
        Ok(topic) => answer
            .with_topic_id(uuid(topic.id))
            .with_partitions(topic.partitions.iter().skip(skipped).take(shown).map(partition).collect())
            .with_topic_authorized_operations(TOPIC_OPERATIONS),
        Err(error) => {
            answer.with_error_code(context.failure(&error).0).with_topic_authorized_operations(OPERATIONS_NOT_ASKED)
        }
    }
}

fn partition(partition: &PartitionView) -> DescribeTopicPartitionsResponsePartition {
    DescribeTopicPartitionsResponsePartition::default()
        .with_error_code(partition_error(partition))
        .with_partition_index(i32::try_from(partition.partition).unwrap_or(i32::MAX))
        .with_leader_id(optional_broker_id(partition.leader))
        .with_leader_epoch(partition.leader_epoch.0)
        .with_replica_nodes(broker_ids(&partition.replicas))
        .with_isr_nodes(broker_ids(&partition.in_sync_replicas))
        .with_eligible_leader_replicas(Some(Vec::new()))
        .with_last_known_elr(Some(Vec::new()))
        .with_offline_replicas(offline_replicas(partition))
}
