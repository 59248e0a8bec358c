//! CreateTopics (19), versions 2–7. Answered once the catalog and every hosting broker group have the topic.

use std::collections::BTreeMap;

use duolog_broker::api::{BrokerApi, CreatedTopic, NewTopic};
use duolog_types::ConfigValue;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::describe_configs::topic_config_source;
use crate::context::Context;
use crate::shape::{BOOL, INT16, INT32, Kind, Shape, field};
use crate::translate::{node_ids, string, uuid};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 5,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::String),
            field(INT32),
            field(INT16),
            field(Kind::Array(&Kind::Struct(&[field(INT32), field(Kind::Array(&INT32))]))),
            field(Kind::Array(&Kind::Struct(&[field(Kind::String), field(Kind::String)]))),
        ]))),
        field(INT32),
        field(BOOL),
    ],
};

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    version: i16,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut times_named: BTreeMap<StrBytes, usize> = BTreeMap::new();
    for topic in &request.topics {
        *times_named.entry(topic.name.0.clone()).or_default() += 1;
    }
    let names: Vec<_> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let wanted =
        request.topics.into_iter().filter(|topic| times_named[&topic.name.0] == 1).map(new_topic).collect::<Vec<_>>();
    let created = match wanted.is_empty() {
        true => Vec::new(),
        false => context.broker.create_topics(wanted, request.timeout_ms, request.validate_only).await,
    };
    let mut created = created.into_iter();

    let results = names.into_iter().map(|name| {
        let answer = CreatableTopicResult::default()
            .with_name(name.clone())
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_error_message(None);
        if times_named[&name.0] > 1 {
            let sentence = format!("topic {} is named more than once in the request", name.0);
            return failed(answer, context.refusal(ResponseError::InvalidRequest, sentence));
        }
        match created.next() {
            Some(Ok(topic)) => described(answer, version, topic),
            Some(Err(error)) => failed(answer, context.failure(&error)),
            None => failed(
                answer,
                context.refusal(ResponseError::UnknownServerError, "the broker gave no result for the topic"),
            ),
        }
    });
    CreateTopicsResponse::default().with_topics(results.collect())
}

fn new_topic(topic: CreatableTopic) -> NewTopic {
    let assignments = topic.assignments.into_iter();
    NewTopic {
        name: topic.name.to_string(),
        partitions: (topic.num_partitions != -1).then_some(topic.num_partitions),
        replication_factor: (topic.replication_factor != -1).then_some(topic.replication_factor),
        assignments: assignments.map(|one| (one.partition_index, node_ids(one.broker_ids))).collect(),
        configs: topic
            .configs
            .into_iter()
            .map(|c| (c.name.to_string(), c.value.map(|value| value.to_string())))
            .collect(),
    }
}

fn failed(answer: CreatableTopicResult, (code, sentence): (i16, Option<StrBytes>)) -> CreatableTopicResult {
    answer.with_error_code(code).with_error_message(sentence)
}

/// Partitions, replication and configs are told from version 5 on (KIP-525), the id from 7 on.
fn described(answer: CreatableTopicResult, version: i16, topic: CreatedTopic) -> CreatableTopicResult {
    let answer = if version >= 7 { answer.with_topic_id(uuid(topic.id)) } else { answer };
    if version < 5 {
        return answer;
    }
    answer
        .with_num_partitions(topic.partitions)
        .with_replication_factor(topic.replication_factor)
        .with_configs(Some(topic.configs.iter().map(config).collect()))
}

fn config(config: &ConfigValue) -> CreatableTopicConfigs {
    CreatableTopicConfigs::default()
        .with_name(StrBytes::from_static_str(config.key.name))
        .with_value(Some(string(config.value.clone())))
        .with_config_source(topic_config_source(config.source))
}
