//! Keys of the tables. Big endian, so that they sort as their numbers do.
//!
//! ```text
//! meta            "applied" | "membership" | "run"
//! catalog         'c'                       cluster
//!                 'v'                       catalog version
//!                 'p'                       next producer id
//!                 't' topic id[16]          topic
//!                 'n' name                  topic id
//!                 'd' topic id[16]          deleted topic
//!                 'g' group id              configs of a consumer group
//!                 'u' user name             user
//!                 'a' lengths, ACL          ACL; see `access.rs`
//!                 'x' node id u64           node that left for good
//! topics          't' topic id[16]          topic here
//!                 'p' tp[20]                partition here
//! consume_queue   tp[20] base offset u64    batch
//! time_index      tp[20] timestamp u64*     first batch whose running maximum is that
//! leader_epochs   tp[20] term u64           first offset
//! producers       tp[20] producer id u64    producer
//! groups          group id                  group
//! offsets         length u16, group id, tp[20]   committed offset
//! pop             tp[20] length u16, group id, 'c'                 cursor
//!                 tp[20] length u16, group id, 'd' delivery u128   delivery
//! hidden_messages tp[20] index u64 slot u32 hidden batch
//! references      tp[20] offset u64         the hidden batch that became visible there
//! timers          'd' | 'h' | 'x' time u64* index u64 slot u32   partition of the hidden batch
//!
//! tp = topic id[16] partition u32;   * = sign bit flipped, so that negative timestamps sort first
//! ```
//!
//! Offsets and producer ids of rows are never negative.

use duolog_record::group::GroupId;
use duolog_types::{DeliveryId, NodeId, Offset, ProducerId, Term, TimestampMs, TopicId, TopicPartition};

use crate::StateError;

mod access;
mod hidden;

pub use access::{acl, user, user_acls};
pub use hidden::{TimerKind, hidden, reference, split_hidden, split_timer, timer, timers_end, timers_from};

/// Meta: the applied position.
pub const APPLIED: &[u8] = b"applied";
/// Meta: the Raft membership.
pub const MEMBERSHIP: &[u8] = b"membership";
/// Meta: the run of the sequencer.
pub const RUN: &[u8] = b"run";
/// Catalog: the cluster.
pub const CLUSTER: &[u8] = b"c";
/// Catalog: the catalog version.
pub const CATALOG_VERSION: &[u8] = b"v";
/// Catalog: the next producer id.
pub const NEXT_PRODUCER_ID: &[u8] = b"p";

/// Length of a partition's key, the prefix of all its rows.
pub const PARTITION_BYTES: usize = 20;

/// Catalog: a topic by id.
#[must_use]
pub fn catalog_topic(id: TopicId) -> Vec<u8> {
    tagged(b't', &id.0)
}

/// Catalog: a node that left for good.
#[must_use]
pub fn retired_node(node: NodeId) -> Vec<u8> {
    tagged(b'x', &node.0.to_be_bytes())
}

/// Catalog: a topic id by name.
#[must_use]
pub fn catalog_name(name: &str) -> Vec<u8> {
    tagged(b'n', name.as_bytes())
}

/// Catalog: a deleted topic by id.
#[must_use]
pub fn catalog_deleted(id: TopicId) -> Vec<u8> {
    tagged(b'd', &id.0)
}

/// Catalog: the configs of a consumer group.
#[must_use]
pub fn catalog_group(group: &GroupId) -> Vec<u8> {
    tagged(b'g', group.0.as_bytes())
}

/// Topics: a topic that has partitions here.
#[must_use]
pub fn topic(id: TopicId) -> Vec<u8> {
    tagged(b't', &id.0)
}

/// Topics: a partition here.
#[must_use]
pub fn topic_partition(tp: TopicPartition) -> Vec<u8> {
    tagged(b'p', &partition(tp))
}

/// The prefix of all rows of a partition.
#[must_use]
pub fn partition(tp: TopicPartition) -> Vec<u8> {
    let mut key = Vec::with_capacity(PARTITION_BYTES + 8);
    key.extend_from_slice(&tp.topic.0);
    key.extend_from_slice(&tp.partition.to_be_bytes());
    key
}

/// A key above all rows of a partition.
#[must_use]
pub fn partition_end(tp: TopicPartition) -> Vec<u8> {
    let mut key = partition(tp);
    key.extend_from_slice(&[u8::MAX; 9]);
    key
}

/// A key above all rows of all partitions of a topic, in tables whose keys begin with the topic's id.
#[must_use]
pub fn topic_end(id: TopicId) -> Vec<u8> {
    let mut key = id.0.to_vec();
    key.extend_from_slice(&[u8::MAX; 13]);
    key
}

/// Consume queue: a batch.
///
/// # Panics
/// When the offset is negative.
#[must_use]
pub fn batch(tp: TopicPartition, base_offset: Offset) -> Vec<u8> {
    let offset = u64::try_from(base_offset.0).expect("offsets of rows are not negative");
    with_number(tp, offset)
}

/// Time index: a running maximum.
#[must_use]
pub fn time(tp: TopicPartition, timestamp: TimestampMs) -> Vec<u8> {
    with_number(tp, timestamp.0.cast_unsigned() ^ SIGN_BIT)
}

/// Leader epochs: a term.
#[must_use]
pub fn epoch(tp: TopicPartition, term: Term) -> Vec<u8> {
    with_number(tp, term.0)
}

/// Producers: a producer.
#[must_use]
pub fn producer(tp: TopicPartition, id: ProducerId) -> Vec<u8> {
    with_number(tp, id.0.cast_unsigned())
}

/// Groups: a group.
#[must_use]
pub fn group(id: &GroupId) -> Vec<u8> {
    id.0.as_bytes().to_vec()
}

/// Offsets: the prefix of all offsets of a group.
///
/// # Panics
/// When the id is longer than 65,535 bytes: a Kafka string cannot be.
#[must_use]
pub fn group_offsets(id: &GroupId) -> Vec<u8> {
    let length = u16::try_from(id.0.len()).expect("a Kafka string has at most 32,767 bytes");
    let mut key = Vec::with_capacity(2 + id.0.len() + PARTITION_BYTES);
    key.extend_from_slice(&length.to_be_bytes());
    key.extend_from_slice(id.0.as_bytes());
    key
}

/// Offsets: a committed offset.
#[must_use]
pub fn committed_offset(id: &GroupId, tp: TopicPartition) -> Vec<u8> {
    let mut key = group_offsets(id);
    key.extend_from_slice(&partition(tp));
    key
}

/// Pop: the prefix of all rows of a group in a partition.
///
/// # Panics
/// When the id is longer than 65,535 bytes: a group's name cannot be.
#[must_use]
pub fn pop_group(tp: TopicPartition, id: &GroupId) -> Vec<u8> {
    let length = u16::try_from(id.0.len()).expect("a group's name has at most 32,767 bytes");
    let mut key = partition(tp);
    key.extend_from_slice(&length.to_be_bytes());
    key.extend_from_slice(id.0.as_bytes());
    key
}

/// Pop: a group's cursor in a partition.
#[must_use]
pub fn pop_cursor(tp: TopicPartition, id: &GroupId) -> Vec<u8> {
    let mut key = pop_group(tp, id);
    key.push(b'c');
    key
}

/// Pop: the prefix of a group's deliveries in a partition.
#[must_use]
pub fn pop_deliveries(tp: TopicPartition, id: &GroupId) -> Vec<u8> {
    let mut key = pop_group(tp, id);
    key.push(b'd');
    key
}

/// Pop: a delivery.
#[must_use]
pub fn pop_delivery(tp: TopicPartition, id: &GroupId, delivery: DeliveryId) -> Vec<u8> {
    let mut key = pop_deliveries(tp, id);
    key.extend_from_slice(&delivery.0.to_be_bytes());
    key
}

/// The group and, of a delivery's row, the delivery of a key of the pop table.
#[must_use]
pub fn split_pop(key: &[u8]) -> Option<(TopicPartition, GroupId, Option<DeliveryId>)> {
    let (tp, rest) = key.split_at_checked(PARTITION_BYTES)?;
    let (length, rest) = rest.split_at_checked(2)?;
    let (id, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(length.try_into().ok()?)))?;
    let delivery = match rest.split_first()? {
        (b'c', []) => None,
        (b'd', delivery) => Some(DeliveryId(u128::from_be_bytes(delivery.try_into().ok()?))),
        _ => return None,
    };
    Some((parse_partition(tp)?, GroupId(String::from_utf8(id.to_vec()).ok()?), delivery))
}

/// The group of a key that [`committed_offset`] made.
#[must_use]
pub fn group_of_offset(key: &[u8]) -> Option<GroupId> {
    let (length, rest) = key.split_at_checked(2)?;
    let (id, partition) = rest.split_at_checked(usize::from(u16::from_be_bytes(length.try_into().ok()?)))?;
    let id = String::from_utf8(id.to_vec()).ok()?;
    (partition.len() == PARTITION_BYTES).then_some(GroupId(id))
}

/// The smallest key above all keys with this prefix; `None` when there is none.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// The partition and the number of a key that [`batch`], [`time`], [`epoch`], [`producer`] or [`reference`] made.
///
/// # Errors
/// `BadKey`.
pub fn split(table: crate::TableId, key: &[u8]) -> Result<(TopicPartition, u64), StateError> {
    let bad = || StateError::BadKey { table: table.name(), found: key.len(), expected: "28 bytes" };
    let (prefix, number) = key.split_at_checked(PARTITION_BYTES).ok_or_else(bad)?;
    let number = u64::from_be_bytes(number.try_into().map_err(|_| bad())?);
    Ok((parse_partition(prefix).ok_or_else(bad)?, number))
}

/// The timestamp of a key that [`time`] made, from the number that [`split`] gave.
#[must_use]
pub fn timestamp_of(number: u64) -> TimestampMs {
    TimestampMs((number ^ SIGN_BIT).cast_signed())
}

/// The partition of exactly 20 bytes.
#[must_use]
pub fn parse_partition(bytes: &[u8]) -> Option<TopicPartition> {
    let (topic, partition) = bytes.split_at_checked(16)?;
    Some(TopicPartition {
        topic: TopicId(topic.try_into().ok()?),
        partition: u32::from_be_bytes(partition.try_into().ok()?),
    })
}

const SIGN_BIT: u64 = 1 << 63;

fn tagged(tag: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + rest.len());
    key.push(tag);
    key.extend_from_slice(rest);
    key
}

fn with_number(tp: TopicPartition, number: u64) -> Vec<u8> {
    let mut key = partition(tp);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TableId;

    const TP: TopicPartition = TopicPartition { topic: TopicId([3; 16]), partition: 258 };

    #[test]
    fn keys_sort_as_their_numbers() {
        assert!(batch(TP, Offset(255)) < batch(TP, Offset(256)));
        assert!(time(TP, TimestampMs(-1)) < time(TP, TimestampMs(0)));
        assert!(time(TP, TimestampMs(i64::MAX)) > time(TP, TimestampMs(5)));
        let next = TopicPartition { partition: 259, ..TP };
        assert!(batch(TP, Offset(i64::MAX)) < batch(next, Offset(0)));
    }

    #[test]
    fn keys_split_into_what_they_were_made_of() {
        assert_eq!(split(TableId::ConsumeQueue, &batch(TP, Offset(77))), Ok((TP, 77)));
        let (_, number) = split(TableId::TimeIndex, &time(TP, TimestampMs(-9))).unwrap();
        assert_eq!(timestamp_of(number), TimestampMs(-9));
        split(TableId::Producers, b"short").unwrap_err();
    }

    #[test]
    fn one_groups_offsets_never_mix_with_anothers() {
        let (a, ab) = (GroupId("a".into()), GroupId("ab".into()));
        let end = prefix_end(&group_offsets(&a)).unwrap();
        let key = committed_offset(&ab, TP);
        assert!(key < group_offsets(&a) || key >= end);
        assert_eq!(group_of_offset(&key), Some(ab));
        assert_eq!(group_of_offset(&key[..key.len() - 1]), None);
    }

    #[test]
    fn keys_of_the_pop_table_split_into_what_they_were_made_of() {
        let (a, ab) = (GroupId("a".into()), GroupId("ab".into()));
        assert_eq!(split_pop(&pop_cursor(TP, &ab)), Some((TP, ab, None)));
        let key = pop_delivery(TP, &a, DeliveryId(7 << 100));
        assert_eq!(split_pop(&key), Some((TP, a, Some(DeliveryId(7 << 100)))));
        assert_eq!(split_pop(&key[..key.len() - 1]), None);
        assert!(key < topic_end(TP.topic));
    }

    #[test]
    fn the_end_of_a_prefix_carries_over() {
        assert_eq!(prefix_end(&[1, 255]), Some(vec![2]));
        assert_eq!(prefix_end(&[255, 255]), None);
    }
}
