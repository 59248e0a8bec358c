//! AlterPartitionReassignments (45), versions 0 and 1. KIP-455, KIP-860.
//!
//! A partition has the replicas of its broker group, and a broker group moves as a whole: whoever asks for what a partition has already
//! is told that it is done, everybody else what moves replicas here.

use duolog_broker::api::{BrokerApi, PartitionView};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::bounds::each_partition_once;
use crate::context::Context;
use crate::shape::{BOOL, INT32, Kind, Shape, field};
use crate::translate::broker_ids;

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 0,
    fields: &[
        field(INT32),
        field(BOOL).from(1),
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::String),
            field(Kind::Array(&Kind::Struct(&[field(INT32), field(Kind::Array(&INT32))]))),
        ]))),
    ],
};

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    _version: i16,
    mut request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    each_partition_once(request.topics.iter_mut().map(|t| (&t.name, &mut t.partitions)), |p| p.partition_index);
    let known = context.broker.topics();
    let results = request.topics.into_iter().map(|topic| {
        let view = known.iter().find(|view| view.name == topic.name.as_str());
        let partitions = topic.partitions.into_iter().map(|wanted| {
            let present = view.and_then(|view| {
                view.partitions.iter().find(|present| i64::from(present.partition) == i64::from(wanted.partition_index))
            });
            let (code, sentence) = outcome(&context, &topic.name, present, &wanted);
            ReassignablePartitionResponse::default()
                .with_partition_index(wanted.partition_index)
                .with_error_code(code)
                .with_error_message(sentence)
        });
        let partitions = partitions.collect();
        ReassignableTopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    let results = results.collect();
    AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(request.allow_replication_factor_change)
        .with_error_message(None)
        .with_responses(results)
}

fn outcome<B: BrokerApi>(
    context: &Context<B>,
    topic: &TopicName,
    present: Option<&PartitionView>,
    wanted: &ReassignablePartition,
) -> (i16, Option<StrBytes>) {
    let index = wanted.partition_index;
    let Some(present) = present else {
        let sentence = format!("there is no partition {index} of a topic {}", topic.0);
        return context.refusal(ResponseError::UnknownTopicOrPartition, sentence);
    };
    match &wanted.replicas {
        // Null cancels a reassignment.
        None => context.refusal(ResponseError::NoReassignmentInProgress, "no reassignment is in progress, ever"),
        Some(replicas) if *replicas == broker_ids(&present.replicas) => (0, None),
        Some(replicas) => {
            let sentence = format!(
                "partition {index} has the replicas {} of its broker group and was asked to have {}; partitions are not moved one by \
                 one: `duolog cluster replace`, `add-node` and `remove-node` move the replicas of a node",
                listed(&broker_ids(&present.replicas)),
                listed(replicas)
            );
            context.refusal(ResponseError::InvalidReplicaAssignment, sentence)
        }
    }
}

fn listed(replicas: &[BrokerId]) -> String {
    format!("{:?}", replicas.iter().map(|replica| replica.0).collect::<Vec<_>>())
}
