//! DeleteTopics (20), versions 1–6: by name, from version 6 on also by id (KIP-516).

use duolog_broker::api::{BrokerApi, TopicRef};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use kafka_protocol::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::context::Context;
use crate::shape::{INT32, Kind, Shape, UUID, field};
use crate::translate::{topic_id, topic_name, uuid};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 4,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[field(Kind::String), field(UUID)]))).from(6),
        field(Kind::Array(&Kind::String)).until(5),
        field(INT32),
    ],
};

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    version: i16,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let states = if version >= 6 {
        request.topics
    } else {
        request.topic_names.into_iter().map(|name| DeleteTopicState::default().with_name(Some(name))).collect()
    };
    let named: Vec<(DeleteTopicState, Option<TopicRef>)> = states
        .into_iter()
        .map(|state| {
            let topic = wanted(&state);
            (state, topic)
        })
        .collect();
    let topics: Vec<TopicRef> = named.iter().filter_map(|(_, topic)| topic.clone()).collect();
    let deleted =
        if topics.is_empty() { Vec::new() } else { context.broker.delete_topics(topics, request.timeout_ms).await };
    let mut deleted = deleted.into_iter();

    let results = named.into_iter().map(|(state, topic)| {
        let answer = DeletableTopicResult::default().with_name(state.name).with_topic_id(state.topic_id);
        match topic.map(|_| deleted.next()) {
            Some(Some(Ok(topic))) if version >= 6 => {
                answer.with_name(Some(topic_name(topic.name))).with_topic_id(uuid(topic.id))
            }
            Some(Some(Ok(_))) => answer,
            Some(Some(Err(error))) => failed(answer, version, context.failure(&error)),
            Some(None) => {
                let failure =
                    context.refusal(ResponseError::UnknownServerError, "the broker gave no result for the topic");
                failed(answer, version, failure)
            }
            None => {
                let failure =
                    context.refusal(ResponseError::InvalidRequest, "a topic is named either by name or by id");
                failed(answer, version, failure)
            }
        }
    });
    DeleteTopicsResponse::default().with_responses(results.collect())
}

/// Either a name or an id, not both.
fn wanted(state: &DeleteTopicState) -> Option<TopicRef> {
    match (&state.name, state.topic_id.is_nil()) {
        (Some(name), true) => Some(TopicRef::Name(name.to_string())),
        (None, false) => Some(TopicRef::Id(topic_id(state.topic_id))),
        _ => None,
    }
}

fn failed(
    answer: DeletableTopicResult,
    version: i16,
    (code, sentence): (i16, Option<StrBytes>),
) -> DeletableTopicResult {
    answer.with_error_code(code).with_error_message(sentence.filter(|_| version >= 5))
}
