//! OffsetDelete (47), version 0: committed offsets of topics that nobody in the group subscribes to. KIP-496.

use duolog_broker::api::{BrokerApi, TopicRef};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use crate::context::Context;
use crate::shape::{INT32, Kind, Shape, field};
use crate::translate::group_id;

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: i16::MAX,
    fields: &[
        field(Kind::String),
        field(Kind::Array(&Kind::Struct(&[field(Kind::String), field(Kind::Array(&Kind::Struct(&[field(INT32)])))]))),
    ],
};

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    _version: i16,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let partitions = request
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|p| (TopicRef::Name(topic.name.to_string()), p.partition_index)));
    let deleted = context.broker.delete_offsets(group_id(&request.group_id), partitions.collect()).await;
    let results = match deleted {
        Ok(results) => results,
        Err(error) => return OffsetDeleteResponse::default().with_error_code(context.failure(&error).0),
    };
    let mut codes = results.into_iter().map(|result| result.map_or_else(|error| context.failure(&error).0, |()| 0));
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(codes.next().unwrap_or(ResponseError::UnknownServerError.code()))
        });
        OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    });
    let topics = topics.collect();
    OffsetDeleteResponse::default().with_topics(topics)
}
