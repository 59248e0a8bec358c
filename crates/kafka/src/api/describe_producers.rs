//! DescribeProducers (61), version 0: the idempotent producers that a partition remembers. KIP-664.

use duolog_broker::api::{BrokerApi, ProducerView, TopicRef};
use futures_util::future::join_all;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};

use crate::bounds::each_partition_once;
use crate::context::Context;
use crate::shape::{INT32, Kind, Shape, field};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 0,
    fields: &[field(Kind::Array(&Kind::Struct(&[field(Kind::String), field(Kind::Array(&INT32))])))],
};

/// Of transactions, which there are none of.
const NONE: i32 = -1;

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    _version: i16,
    mut request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    each_partition_once(request.topics.iter_mut().map(|t| (&t.name, &mut t.partition_indexes)), |index| *index);
    let topics = request.topics.into_iter().map(|topic| {
        let name = topic.name;
        let partitions = join_all(topic.partition_indexes.into_iter().map(|p| describe(&context, name.to_string(), p)));
        async move { TopicResponse::default().with_name(name).with_partitions(partitions.await) }
    });
    DescribeProducersResponse::default().with_topics(join_all(topics).await)
}

async fn describe<B: BrokerApi>(context: &Context<B>, topic: String, partition: i32) -> PartitionResponse {
    let answer = PartitionResponse::default().with_partition_index(partition);
    match context.broker.producers(TopicRef::Name(topic), partition).await {
        Ok(producers) => {
            answer.with_error_message(None).with_active_producers(producers.into_iter().map(state).collect())
        }
        Err(error) => {
            let (code, sentence) = context.failure(&error);
            answer.with_error_code(code).with_error_message(sentence)
        }
    }
}

fn state(producer: ProducerView) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(producer.id.0))
        .with_producer_epoch(i32::from(producer.epoch.0))
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp.0)
        .with_coordinator_epoch(NONE)
        .with_current_txn_start_offset(i64::from(NONE))
}
