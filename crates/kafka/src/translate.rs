//! Small translations that several APIs share: ids, names, leaders, permissions.

use std::collections::BTreeSet;
use std::time::SystemTime;

use duolog_broker::BrokerError;
use duolog_broker::api::{
    BrokerApi, EpochCheck, GroupId, InstanceId, MemberId, NodeView, PartitionView, Phase, TopicRef,
};
use duolog_types::{LeaderEpoch, NodeId, TopicId, limits};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// Authorized operations were not asked for.
pub(crate) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;
/// Everything that Kafka allows on a topic, as bits of AclOperation: read, write, create, delete, alter, describe,
/// describe configs, alter configs. There is no authorization yet, so everyone may do everything.
pub(crate) const TOPIC_OPERATIONS: i32 = bits(&[3, 4, 5, 6, 7, 8, 10, 11]);
/// The same for the cluster: create, alter, describe, cluster action, describe configs, alter configs, idempotent write.
pub(crate) const CLUSTER_OPERATIONS: i32 = bits(&[5, 7, 8, 9, 10, 11, 12]);

/// The same for a group: read, delete, describe, describe configs, alter configs.
pub(crate) const GROUP_OPERATIONS: i32 = bits(&[3, 6, 8, 10, 11]);

const fn bits(operations: &[u32]) -> i32 {
    let mut bits = 0;
    let mut i = 0;
    while i < operations.len() {
        bits |= 1 << operations[i];
        i += 1;
    }
    bits
}

/// A node id as Kafka has it; −1 where it does not fit, which means "none".
pub(crate) fn broker_id(id: NodeId) -> BrokerId {
    BrokerId(i32::try_from(id.0).unwrap_or(-1))
}

/// −1 means none.
pub(crate) fn optional_broker_id(id: Option<NodeId>) -> BrokerId {
    id.map_or(BrokerId(-1), broker_id)
}

pub(crate) fn broker_ids(ids: &[NodeId]) -> Vec<BrokerId> {
    ids.iter().copied().map(broker_id).collect()
}

pub(crate) fn topic_name(name: impl Into<String>) -> TopicName {
    TopicName(StrBytes::from_string(name.into()))
}

pub(crate) fn node_ids(brokers: Vec<BrokerId>) -> Vec<i32> {
    brokers.into_iter().map(|broker| broker.0).collect()
}

pub(crate) fn string(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

pub(crate) fn uuid(id: TopicId) -> Uuid {
    Uuid::from_bytes(id.0)
}

pub(crate) fn topic_id(id: Uuid) -> TopicId {
    TopicId(id.into_bytes())
}

/// A topic by id when the version has ids, else by name.
pub(crate) fn topic_ref(by_id: bool, name: &TopicName, id: Uuid) -> TopicRef {
    if by_id { TopicRef::Id(topic_id(id)) } else { TopicRef::Name(name.to_string()) }
}

/// A negative epoch means that the client does not know one.
pub(crate) fn leader_epoch(epoch: i32) -> Option<LeaderEpoch> {
    (epoch >= 0).then_some(LeaderEpoch(epoch))
}

pub(crate) fn epoch_check(current_leader_epoch: i32) -> EpochCheck {
    EpochCheck { current_leader_epoch: leader_epoch(current_leader_epoch) }
}

pub(crate) fn group_id(id: &StrBytes) -> GroupId {
    GroupId(id.to_string())
}

/// Kafka's name of a group's state.
pub(crate) fn group_state(phase: Phase) -> &'static str {
    match phase {
        Phase::Empty => "Empty",
        Phase::PreparingRebalance => "PreparingRebalance",
        Phase::CompletingRebalance => "CompletingRebalance",
        Phase::Stable => "Stable",
        Phase::Dead => "Dead",
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// An empty member id means none.
pub(crate) fn member_id(id: &StrBytes) -> Option<MemberId> {
    (!id.is_empty()).then(|| MemberId(id.to_string()))
}

pub(crate) fn instance_id(id: Option<&StrBytes>) -> Option<InstanceId> {
    id.map(|id| InstanceId(id.to_string()))
}

/// Kafka's rule for topic names: 1 to 249 of letters, digits, dot, underscore and hyphen, but neither `.` nor `..`. The topics of
/// dead letters have RocketMQ's prefix before that.
pub(crate) fn is_topic_name(name: &str) -> bool {
    let name = name.strip_prefix(limits::DEAD_LETTER_TOPIC_PREFIX).unwrap_or(name);
    (1..=limits::TOPIC_NAME_BYTES_MAX).contains(&name.len())
        && !matches!(name, "." | "..")
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The state of a partition in metadata: no leader is an error that clients ask again for.
pub(crate) fn partition_error(partition: &PartitionView) -> i16 {
    if partition.leader.is_some() { 0 } else { ResponseError::LeaderNotAvailable.code() }
}

/// Replicas that cannot be reached.
pub(crate) fn offline_replicas(partition: &PartitionView) -> Vec<BrokerId> {
    partition.replicas.iter().copied().filter(|id| !partition.in_sync_replicas.contains(id)).map(broker_id).collect()
}

/// Leader id and epoch that an error tells (KIP-951); `None` when it tells neither.
pub(crate) fn current_leader(node_id: NodeId, error: &BrokerError) -> Option<(Option<NodeId>, i32)> {
    match error {
        BrokerError::NotLeader { leader, epoch } if leader.is_some() || epoch.is_some() => {
            Some((*leader, epoch.map_or(-1, |epoch| epoch.0)))
        }
        BrokerError::FencedLeaderEpoch { current, .. } => Some((Some(node_id), current.0)),
        _ => None,
    }
}

/// The nodes that were named as leaders, with their addresses (KIP-951).
pub(crate) fn endpoints<B: BrokerApi>(broker: &B, leaders: &BTreeSet<NodeId>) -> Vec<NodeView> {
    if leaders.is_empty() {
        return Vec::new();
    }
    broker.cluster().nodes.into_iter().filter(|node| leaders.contains(&node.id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rule() {
        for (name, expected) in [
            ("a", true),
            ("A.b_c-9", true),
            ("%DLQ%g", true),
            ("%DLQ%", false),
            ("a%b", false),
            ("", false),
            (".", false),
            ("..", false),
            ("a b", false),
            ("ä", false),
        ] {
            assert_eq!(is_topic_name(name), expected, "{name:?}");
        }
        assert!(is_topic_name(&"x".repeat(249)) && !is_topic_name(&"x".repeat(250)));
    }

    #[test]
    fn operations_are_kafkas() {
        assert_eq!((TOPIC_OPERATIONS, CLUSTER_OPERATIONS, GROUP_OPERATIONS), (3576, 8096, 3400));
    }
}
