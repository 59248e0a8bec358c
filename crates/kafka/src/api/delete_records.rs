//! DeleteRecords (21), versions 0–2: moves log start offsets; −1 means the high watermark. KIP-107.

use std::collections::BTreeMap;

use duolog_broker::api::{BrokerApi, TopicRef};
use duolog_types::Offset;
use futures_util::future::join_all;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse, TopicName};

use crate::context::Context;
use crate::shape::{INT32, INT64, Kind, Shape, field};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 2,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::String),
            field(Kind::Array(&Kind::Struct(&[field(INT32), field(INT64)]))),
        ]))),
        field(INT32),
    ],
};

const TO_HIGH_WATERMARK: i64 = -1;
const NO_LOW_WATERMARK: i64 = -1;

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    _version: i16,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let timeout_ms = request.timeout_ms;
    // Of a partition that is named twice the last offset counts, as in Kafka.
    let mut wanted: BTreeMap<TopicName, BTreeMap<i32, i64>> = BTreeMap::new();
    for topic in request.topics {
        let offsets = topic.partitions.iter().map(|p| (p.partition_index, p.offset));
        wanted.entry(topic.name).or_default().extend(offsets);
    }
    let topics = wanted.into_iter().map(|(name, offsets)| {
        let partitions =
            offsets.into_iter().map(|(p, offset)| delete(&context, name.to_string(), p, offset, timeout_ms));
        let partitions = join_all(partitions);
        async move { DeleteRecordsTopicResult::default().with_name(name).with_partitions(partitions.await) }
    });
    DeleteRecordsResponse::default().with_topics(join_all(topics).await)
}

async fn delete<B: BrokerApi>(
    context: &Context<B>,
    topic: String,
    partition: i32,
    offset: i64,
    timeout_ms: i32,
) -> DeleteRecordsPartitionResult {
    let answer = DeleteRecordsPartitionResult::default().with_partition_index(partition);
    let before = (offset != TO_HIGH_WATERMARK).then_some(Offset(offset));
    let topic = TopicRef::Name(topic);
    match context.broker.delete_records(topic, partition, before, timeout_ms).await {
        Ok(log_start) => answer.with_low_watermark(log_start.0),
        Err(error) => answer.with_low_watermark(NO_LOW_WATERMARK).with_error_code(context.failure(&error).0),
    }
}
