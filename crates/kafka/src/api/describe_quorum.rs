//! DescribeQuorum (55), versions 0–2: the system group, shown as partition 0 of Kafka's `__cluster_metadata`. KIP-595,
//! KIP-836, KIP-853.

use duolog_broker::api::{BrokerApi, QuorumReplica, QuorumView};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_quorum_request::{self, DescribeQuorumRequest};
use kafka_protocol::messages::describe_quorum_response::{
    DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState, TopicData,
};
use kafka_protocol::protocol::StrBytes;

use crate::bounds::each_partition_once;
use crate::context::Context;
use crate::shape::{INT32, Kind, Shape, field};
use crate::translate::{broker_id, now_ms, string};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 0,
    fields: &[field(Kind::Array(&Kind::Struct(&[
        field(Kind::String),
        field(Kind::Array(&Kind::Struct(&[field(INT32)]))),
    ])))],
};

const TOPIC: &str = "__cluster_metadata";
const LISTENER: StrBytes = StrBytes::from_static_str("PLAINTEXT");
const UNKNOWN: i64 = -1;

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    version: i16,
    mut request: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let quorum = match context.broker.system_quorum().await {
        Ok(quorum) => quorum,
        Err(error) => {
            let (code, sentence) = context.failure(&error);
            let answer = DescribeQuorumResponse::default().with_error_code(code);
            return answer.with_error_message(sentence.filter(|_| version >= 2));
        }
    };
    each_partition_once(request.topics.iter_mut().map(|t| (&t.topic_name, &mut t.partitions)), |p| p.partition_index);
    let topics = request.topics.into_iter().map(|topic| describe_topic(&context, version, &quorum, topic)).collect();
    let answer = DescribeQuorumResponse::default().with_error_message(None).with_topics(topics);
    if version >= 2 { answer.with_nodes(nodes(&context, &quorum)) } else { answer }
}

fn describe_topic<B: BrokerApi>(
    context: &Context<B>,
    version: i16,
    quorum: &QuorumView,
    topic: describe_quorum_request::TopicData,
) -> TopicData {
    let is_metadata = topic.topic_name.as_str() == TOPIC;
    let partitions = topic.partitions.into_iter().map(|partition| {
        let answer = PartitionData::default().with_partition_index(partition.partition_index).with_error_message(None);
        if is_metadata && partition.partition_index == 0 {
            return described(answer, version, quorum);
        }
        let sentence = format!("only partition 0 of {TOPIC} has a quorum that can be described");
        let (code, sentence) = context.refusal(ResponseError::UnknownTopicOrPartition, sentence);
        answer.with_error_code(code).with_error_message(sentence.filter(|_| version >= 2))
    });
    let partitions = partitions.collect();
    TopicData::default().with_topic_name(topic.topic_name).with_partitions(partitions)
}

fn described(answer: PartitionData, version: i16, quorum: &QuorumView) -> PartitionData {
    let of_leader = quorum.replicas.iter().find(|replica| replica.node == quorum.leader);
    let leader_end = of_leader.and_then(|replica| replica.log_end_next).unwrap_or(quorum.committed_next);
    let state = |replica: &QuorumReplica| replica_state(version, quorum, leader_end, replica);
    let states = |voters: bool| quorum.replicas.iter().filter(|r| r.is_voter == voters).map(state).collect();
    answer
        .with_leader_id(broker_id(quorum.leader))
        .with_leader_epoch(quorum.leader_epoch.0)
        .with_high_watermark(signed(quorum.committed_next))
        .with_current_voters(states(true))
        .with_observers(states(false))
}

/// Every replica was asked just now: who answered was heard now, and is in step now if it has all that the leader has.
fn replica_state(version: i16, quorum: &QuorumView, leader_end: u64, replica: &QuorumReplica) -> ReplicaState {
    let now = now_ms();
    let heard = match replica.log_end_next {
        Some(_) if replica.node != quorum.leader => now,
        _ => UNKNOWN,
    };
    let caught_up = match replica.log_end_next {
        Some(end) if replica.node == quorum.leader || end >= leader_end => now,
        _ => UNKNOWN,
    };
    let answer = ReplicaState::default()
        .with_replica_id(broker_id(replica.node))
        .with_log_end_offset(replica.log_end_next.map_or(UNKNOWN, signed));
    match version {
        1.. => answer.with_last_fetch_timestamp(heard).with_last_caught_up_timestamp(caught_up),
        _ => answer,
    }
}

fn nodes<B: BrokerApi>(context: &Context<B>, quorum: &QuorumView) -> Vec<Node> {
    let known = context.broker.cluster().nodes;
    let members = known.into_iter().filter(|node| quorum.replicas.iter().any(|replica| replica.node == node.id));
    members
        .map(|node| {
            let listener =
                Listener::default().with_name(LISTENER).with_host(string(node.host)).with_port(node.kafka_port);
            Node::default().with_node_id(broker_id(node.id)).with_listeners(vec![listener])
        })
        .collect()
}

fn signed(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}
