//! OffsetForLeaderEpoch (23), versions 2–4: where a leader epoch ended, so that a consumer finds where logs part. KIP-320.

use duolog_broker::api::{BrokerApi, TopicRef};
use duolog_types::LeaderEpoch;
use futures_util::future::join_all;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};

use crate::context::Context;
use crate::shape::{INT32, Kind, Shape, field};
use crate::translate::epoch_check;

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 4,
    fields: &[
        field(INT32).from(3),
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::String),
            field(Kind::Array(&Kind::Struct(&[field(INT32), field(INT32), field(INT32)]))),
        ]))),
    ],
};

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    _version: i16,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let name = topic.topic;
        let partitions = topic.partitions.into_iter().map(|p| partition(&context, TopicRef::Name(name.to_string()), p));
        let partitions = join_all(partitions);
        async move { OffsetForLeaderTopicResult::default().with_topic(name).with_partitions(partitions.await) }
    });
    OffsetForLeaderEpochResponse::default().with_topics(join_all(topics).await)
}

async fn partition<B: BrokerApi>(
    context: &Context<B>,
    topic: TopicRef,
    asked: OffsetForLeaderPartition,
) -> EpochEndOffset {
    let epoch = epoch_check(asked.current_leader_epoch);
    let end = context.broker.leader_epoch_end(topic, asked.partition, LeaderEpoch(asked.leader_epoch), epoch).await;
    let answer = EpochEndOffset::default().with_partition(asked.partition).with_leader_epoch(-1).with_end_offset(-1);
    match end {
        Ok(Some(end)) => answer.with_leader_epoch(end.epoch.0).with_end_offset(end.end_offset.0),
        Ok(None) => answer,
        Err(error) => answer.with_error_code(context.failure(&error).0),
    }
}
