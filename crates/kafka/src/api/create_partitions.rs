//! CreatePartitions (37), versions 0–3: topics grow. Answered once the catalog and every hosting broker group have the new
//! partitions. KIP-195.

use std::collections::BTreeMap;

use duolog_broker::api::{BrokerApi, NewPartitions};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::bounds::each_once;
use crate::context::Context;
use crate::shape::{BOOL, INT32, Kind, Shape, field};
use crate::translate::node_ids;

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 2,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::String),
            field(INT32),
            field(Kind::Array(&Kind::Struct(&[field(Kind::Array(&INT32))]))),
        ]))),
        field(INT32),
        field(BOOL),
    ],
};

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    _version: i16,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut times_named: BTreeMap<StrBytes, usize> = BTreeMap::new();
    for topic in &request.topics {
        *times_named.entry(topic.name.0.clone()).or_default() += 1;
    }
    // A topic that is named twice is answered once, as in Kafka.
    let mut names: Vec<_> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    each_once(&mut names, Clone::clone);
    let wanted: Vec<NewPartitions> =
        request.topics.into_iter().filter(|topic| times_named[&topic.name.0] == 1).map(new_partitions).collect();
    let created = match wanted.is_empty() {
        true => Vec::new(),
        false => context.broker.create_partitions(wanted, request.timeout_ms, request.validate_only).await,
    };
    let mut created = created.into_iter();
    let results = names.into_iter().map(|name| {
        let refused = if times_named[&name.0] > 1 {
            let sentence = format!("topic {} is named more than once in the request", name.0);
            Some(context.refusal(ResponseError::InvalidRequest, sentence))
        } else {
            match created.next() {
                Some(result) => result.err().map(|error| context.failure(&error)),
                None => {
                    Some(context.refusal(ResponseError::UnknownServerError, "the broker gave no result for the topic"))
                }
            }
        };
        let (code, sentence) = refused.unwrap_or((0, None));
        CreatePartitionsTopicResult::default().with_name(name).with_error_code(code).with_error_message(sentence)
    });
    let results = results.collect();
    CreatePartitionsResponse::default().with_results(results)
}

fn new_partitions(topic: CreatePartitionsTopic) -> NewPartitions {
    NewPartitions {
        topic: topic.name.to_string(),
        count: topic.count,
        assignments: topic.assignments.unwrap_or_default().into_iter().map(|list| node_ids(list.broker_ids)).collect(),
    }
}
