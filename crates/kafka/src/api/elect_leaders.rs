//! ElectLeaders (43), versions 0–2: gives partitions back to their preferred leader. KIP-183, KIP-460.
//!
//! A broker group has one leader, so the other partitions of the group move too.

use std::collections::BTreeMap;

use duolog_broker::api::{BrokerApi, Elected, Election, ItemResult, TopicRef};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};

use crate::bounds::each_once;
use crate::context::Context;
use crate::shape::{INT8, INT32, Kind, Shape, field};
use crate::translate::topic_name;

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 2,
    fields: &[
        field(INT8).from(1),
        field(Kind::Array(&Kind::Struct(&[field(Kind::String), field(Kind::Array(&INT32))]))),
        field(INT32),
    ],
};

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    version: i16,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let election = match request.election_type {
        0 => Election::Preferred,
        1 => Election::Unclean,
        other => {
            let sentence = format!("election type {other} is unknown: 0 (preferred) and 1 (unclean) are known");
            let (code, _) = context.refusal(ResponseError::InvalidRequest, sentence);
            let answer = ElectLeadersResponse::default();
            return if version >= 1 { answer.with_error_code(code) } else { answer };
        }
    };
    // For all partitions only those are told of where something was to be done.
    let tells_all = request.topic_partitions.is_some();
    let partitions = match request.topic_partitions {
        Some(topics) => named(topics),
        None => every_partition(&context),
    };
    let topics = partitions.iter().map(|(topic, partition)| (TopicRef::Name(topic.clone()), *partition)).collect();
    let results = context.broker.elect_leaders(topics, election, request.timeout_ms).await;
    let mut by_topic: BTreeMap<String, Vec<PartitionResult>> = BTreeMap::new();
    for ((topic, partition), result) in partitions.into_iter().zip(results) {
        if tells_all || result != Ok(Elected::NotNeeded) {
            by_topic.entry(topic).or_default().push(outcome(&context, partition, result));
        }
    }
    let results = by_topic.into_iter().map(|(topic, partitions)| {
        ReplicaElectionResult::default().with_topic(topic_name(topic)).with_partition_result(partitions)
    });
    ElectLeadersResponse::default().with_replica_election_results(results.collect())
}

fn named(topics: Vec<TopicPartitions>) -> Vec<(String, i32)> {
    let all = topics.iter().flat_map(|topic| topic.partitions.iter().map(|p| (topic.topic.to_string(), *p)));
    let mut named: Vec<_> = all.collect();
    each_once(&mut named, Clone::clone);
    named
}

fn every_partition<B: BrokerApi>(context: &Context<B>) -> Vec<(String, i32)> {
    let topics = context.broker.topics();
    let all = topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|p| (topic.name.clone(), i32::try_from(p.partition).unwrap_or(i32::MAX)))
    });
    all.collect()
}

fn outcome<B: BrokerApi>(context: &Context<B>, partition: i32, result: ItemResult<Elected>) -> PartitionResult {
    let (code, sentence) = match result {
        Ok(Elected::Done) => (0, None),
        Ok(Elected::NotNeeded) => {
            context.refusal(ResponseError::ElectionNotNeeded, "the partition has the leader that was asked for")
        }
        Err(error) => context.failure(&error),
    };
    PartitionResult::default().with_partition_id(partition).with_error_code(code).with_error_message(sentence)
}
