//! Produce (0), versions 3–13. Records that are most of the request's frame are handed on as a slice of it.
//!
//! `acks` decides only whether an answer is wanted: when it is given follows from the topic's durability alone. With
//! acks = 0 there is none, and an error closes the connection, as Kafka does, so that the client asks for metadata again.

use std::collections::BTreeSet;

use bytes::Bytes;
use duolog_broker::BrokerError;
use duolog_broker::api::{BrokerApi, ItemResult, ProducePartition, Produced};
use duolog_types::NodeId;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::produce_request::ProduceRequest;
use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::context::Context;
use crate::errors::{TRANSACTIONS_REFUSED, TRANSACTIONS_REFUSED_SENTENCE};
use crate::head::Head;
use crate::response::{self, Answer, CloseReason};
use crate::shape::{INT16, INT32, Kind, Shape, UUID, field};
use crate::translate::{broker_id, current_leader, endpoints, optional_broker_id, string, topic_ref};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 9,
    fields: &[
        field(Kind::String).from(3),
        field(INT16),
        field(INT32),
        field(Kind::Array(&Kind::Struct(&[
            field(Kind::String).until(12),
            field(UUID).from(13),
            field(Kind::Array(&Kind::Struct(&[field(INT32), field(Kind::Bytes)]))),
        ]))),
    ],
};

const ACKS_NONE: i16 = 0;

/// How a partition of the request fared.
enum Outcome {
    Produced(Produced),
    Failed(BrokerError),
    Refused(ResponseError, &'static str),
}

/// Enqueues within the first poll, up to the broker's first await. `frame_bytes` is about the size of the request's frame.
pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    head: Head,
    request: ProduceRequest,
    frame_bytes: usize,
) -> Result<Answer, CloseReason> {
    let acks = request.acks;
    let refused = refusal(&request);
    let mut topics = Vec::with_capacity(request.topic_data.len());
    let mut partitions = Vec::new();
    for topic in request.topic_data {
        let mut indexes = Vec::with_capacity(topic.partition_data.len());
        for partition in topic.partition_data {
            let outcome = match (refused, partition.records) {
                (Some((code, sentence)), _) => Some(Outcome::Refused(code, sentence)),
                (None, None) => Some(Outcome::Refused(ResponseError::InvalidRecord, "records are null")),
                (None, Some(records)) => {
                    let topic = topic_ref(head.version >= 13, &topic.name, topic.topic_id);
                    let records = apart(records, frame_bytes);
                    partitions.push(ProducePartition { topic, partition: partition.index, records });
                    None
                }
            };
            indexes.push((partition.index, outcome));
        }
        topics.push((topic.name, topic.topic_id, indexes));
    }
    let results =
        if partitions.is_empty() { Vec::new() } else { context.broker.produce(partitions, request.timeout_ms).await };
    let rests_on_a_lease = results.iter().flatten().any(|produced| produced.lease.is_some());
    let answer = move || answer(&context, head, acks, topics, results);
    // Such an answer may have to wait behind others: whether it is still true is asked when it is written.
    if rests_on_a_lease && acks != ACKS_NONE { Ok(Answer::Late(Box::new(answer))) } else { answer() }
}

/// Copies records that are the smaller part of their frame. While the request waits, its share of the budget counts the frame; when it
/// is given up, the records may wait on, for a broker group without a quorum: they count there by their own bytes, and a slice would keep
/// the whole frame. So what is kept is at most twice what counts.
fn apart(records: Bytes, frame_bytes: usize) -> Bytes {
    if records.len() < frame_bytes / 2 { Bytes::copy_from_slice(&records) } else { records }
}

/// The partitions of a topic, with what is known of each without the broker.
type AskedTopic = (TopicName, Uuid, Vec<(i32, Option<Outcome>)>);

fn answer<B: BrokerApi>(
    context: &Context<B>,
    head: Head,
    acks: i16,
    topics: Vec<AskedTopic>,
    results: Vec<ItemResult<Produced>>,
) -> Result<Answer, CloseReason> {
    let confirm = |produced| context.broker.confirm(produced);
    let mut results = results.into_iter().map(|result| outcome(result.and_then(confirm)));
    let mut answer = Answering { context, version: head.version, leaders: BTreeSet::new(), first_failure: None };
    let mut responses = Vec::with_capacity(topics.len());
    for (name, topic_id, indexes) in topics {
        let partitions = indexes
            .into_iter()
            .map(|(index, decided)| {
                let outcome = decided.or_else(|| results.next()).unwrap_or_else(missing_result);
                answer.partition(index, outcome)
            })
            .collect();
        responses.push(
            TopicProduceResponse::default()
                .with_name(name)
                .with_topic_id(topic_id)
                .with_partition_responses(partitions),
        );
    }
    match (acks, answer.first_failure.take()) {
        (ACKS_NONE, None) => Ok(Answer::Silence),
        (ACKS_NONE, Some(failure)) => Err(CloseReason(format!("Produce with acks = 0 failed: {failure}"))),
        _ => {
            let endpoints = answer.endpoints();
            let response = ProduceResponse::default().with_responses(responses).with_node_endpoints(endpoints);
            response::encode(head, head.version, &response)
        }
    }
}

/// What is wrong with the request as a whole.
fn refusal(request: &ProduceRequest) -> Option<(ResponseError, &'static str)> {
    if request.transactional_id.is_some() {
        return Some((TRANSACTIONS_REFUSED, TRANSACTIONS_REFUSED_SENTENCE));
    }
    match request.acks {
        -1..=1 => None,
        _ => Some((ResponseError::InvalidRequiredAcks, "acks must be 0, 1 or -1 (all)")),
    }
}

fn outcome(result: ItemResult<Produced>) -> Outcome {
    match result {
        Ok(produced) => Outcome::Produced(produced),
        Err(error) => Outcome::Failed(error),
    }
}

fn missing_result() -> Outcome {
    Outcome::Refused(ResponseError::UnknownServerError, "the broker gave fewer results than there were partitions")
}

/// Collects what the answer needs beside the partitions.
struct Answering<'a, B> {
    context: &'a Context<B>,
    version: i16,
    leaders: BTreeSet<NodeId>,
    first_failure: Option<String>,
}

impl<B: BrokerApi> Answering<'_, B> {
    fn partition(&mut self, index: i32, outcome: Outcome) -> PartitionProduceResponse {
        let answer = PartitionProduceResponse::default().with_index(index);
        match outcome {
            Outcome::Produced(produced) => answer
                .with_base_offset(produced.base_offset.0)
                .with_log_append_time_ms(produced.log_append_time.map_or(-1, |time| time.0))
                .with_log_start_offset(if self.version >= 5 { produced.log_start_offset.0 } else { -1 }),
            Outcome::Failed(error) => {
                let failure = self.context.failure(&error);
                let leader = self.leader(&error);
                self.failed(answer, failure).with_current_leader(leader)
            }
            Outcome::Refused(code, sentence) => {
                let failure = self.context.refusal(code, sentence);
                self.failed(answer, failure)
            }
        }
    }

    fn failed(
        &mut self,
        answer: PartitionProduceResponse,
        (code, sentence): (i16, Option<StrBytes>),
    ) -> PartitionProduceResponse {
        self.first_failure.get_or_insert_with(|| sentence.as_ref().map(ToString::to_string).unwrap_or_default());
        answer
            .with_error_code(code)
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1)
            .with_error_message(sentence.filter(|_| self.version >= 8))
    }

    /// From version 10 on the answer names the leader (KIP-951).
    fn leader(&mut self, error: &BrokerError) -> LeaderIdAndEpoch {
        let Some((leader, epoch)) = current_leader(self.context.broker.node_id(), error).filter(|_| self.version >= 10)
        else {
            return LeaderIdAndEpoch::default();
        };
        self.leaders.extend(leader);
        LeaderIdAndEpoch::default().with_leader_id(optional_broker_id(leader)).with_leader_epoch(epoch)
    }

    fn endpoints(&self) -> Vec<NodeEndpoint> {
        endpoints(&self.context.broker, &self.leaders)
            .into_iter()
            .map(|node| {
                NodeEndpoint::default()
                    .with_node_id(broker_id(node.id))
                    .with_host(string(node.host))
                    .with_port(i32::from(node.kafka_port))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_part_of_a_frame_keeps_none_of_it() {
        let frame = Bytes::from(vec![7_u8; 100]);
        let small = apart(frame.slice(10..59), frame.len());
        assert_eq!(small, frame.slice(10..59));
        assert!(frame.is_unique(), "the records keep the frame");
        let large = apart(frame.slice(10..60), frame.len());
        assert_eq!(large.as_ptr(), frame[10..].as_ptr(), "the records were copied");
    }
}
