//! OffsetCommit (8), versions 2–9. Retention times (up to version 4) are not used, as in Kafka since KIP-211.

use duolog_broker::api::{BrokerApi, OffsetCommits, PartitionOffset, TopicRef};
use duolog_types::Offset;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use crate::context::Context;
use crate::head::Caller;
use crate::shape::{INT32, INT64, Kind, Shape, field};
use crate::translate::{instance_id, leader_epoch, member_id};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 8,
    fields: &[
        field(Kind::String),
        field(INT32),
        field(Kind::String),
        field(Kind::String).from(7),
        field(INT64).until(4),
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::String),
            field(Kind::Array(&Kind::Struct(&[field(INT32), field(INT64), field(INT32).from(6), field(Kind::String)]))),
        ]))),
    ],
};

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    _version: i16,
    caller: Caller,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let partitions = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| PartitionOffset {
            topic: TopicRef::Name(topic.name.to_string()),
            partition: partition.partition_index,
            offset: Offset(partition.committed_offset),
            leader_epoch: leader_epoch(partition.committed_leader_epoch),
            metadata: partition.committed_metadata.as_ref().map_or_else(String::new, ToString::to_string),
        })
    });
    let commits = OffsetCommits {
        group: context.member_group(&request.group_id, &caller),
        member_id: member_id(&request.member_id),
        instance_id: instance_id(request.group_instance_id.as_ref()),
        generation: request.generation_id_or_member_epoch,
        partitions: partitions.collect(),
    };
    let mut results = context.broker.commit_offsets(commits).await.into_iter();
    let topics = request.topics.into_iter().map(|topic| {
        // One result per partition, in the order of the request.
        let partitions = topic.partitions.iter().zip(results.by_ref()).map(|(partition, result)| {
            let code = result.map_or_else(|error| context.failure(&error).0, |()| 0);
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}
