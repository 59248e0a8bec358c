//! What Kafka producers send: delayed records, and batches for many partitions at once.

use bytes::Bytes;
use duolog_broker::BrokerError;
use duolog_broker::api::{BrokerApi, ItemResult, ProducePartition, Produced};
use duolog_broker::message_api::DELIVER_AT_HEADER;
use duolog_record::{BatchBuilder, Compression, RecordHeader};
use duolog_types::{Offset, ProducerEpoch, ProducerId};
use futures_util::{pin_mut, poll};

use crate::node::{Node, TOPIC, after, batch, now, topic, value};

const TIMEOUT_MS: i32 = 30_000;

/// A batch of an idempotent producer: values, and when they are to be delivered.
fn records(base_sequence: i32, records: &[(&str, Option<i64>)]) -> Bytes {
    let mut builder = BatchBuilder::new().compression(Compression::Lz4).producer(
        ProducerId(1_000_001),
        ProducerEpoch(0),
        base_sequence,
    );
    for (value, time) in records {
        let headers: Vec<_> = time.iter().map(|time| RecordHeader::text(DELIVER_AT_HEADER, time.to_string())).collect();
        builder.push_with_headers(now(), Some(b"key"), Some(value.as_bytes()), &headers).unwrap();
    }
    builder.build().unwrap().into_bytes()
}

fn produce(node: &Node, records: &Bytes) -> ItemResult<Produced> {
    let wanted = ProducePartition { topic: topic(), partition: 0, records: records.clone() };
    node.runtime.block_on(node.broker.produce(vec![wanted], TIMEOUT_MS)).swap_remove(0)
}

fn values(node: &Node, count: usize) -> Vec<String> {
    node.wait_seen(count).into_iter().map(|(_, value)| value).collect()
}

#[test]
fn each_record_is_seen_at_its_own_time_and_once() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = Node::start_with_topic(dir.path(), &[("message.type", "DELAY")]);
    let (late, soon) = (after(1_200), after(600));
    let sent = records(0, &[("late", Some(late.0)), ("at once", None), ("soon", Some(soon.0)), ("past", Some(5))]);
    assert_eq!(produce(&node, &sent).unwrap().base_offset, Offset(-4), "no client counts up to an offset of a record");
    assert_eq!(values(&node, 2), ["at once", "past"]);
    // A client that got no answer.
    for _ in 0..3 {
        let again = produce(&node, &sent);
        assert!(matches!(again, Ok(Produced { base_offset: Offset(-4), .. }) | Err(BrokerError::DuplicateSequence)));
    }
    assert_eq!(values(&node, 3), ["at once", "past", "soon"]);
    assert!(now() >= soon);
    assert_eq!(values(&node, 4), ["at once", "past", "soon", "late"]);
    assert!(now() >= late);
    let node = node.restart(dir.path(), copy.path());
    assert!(matches!(produce(&node, &sent), Ok(_) | Err(BrokerError::DuplicateSequence)));
    // A producer goes on as after any batch.
    assert_eq!(produce(&node, &records(4, &[("next", None)])).unwrap().base_offset, Offset(4));
    let gap = produce(&node, &records(9, &[("gap", Some(after(100).0))]));
    assert!(gap.is_err(), "{gap:?}");
    assert_eq!(values(&node, 5), ["at once", "past", "soon", "late", "next"]);
    node.stop();
}

#[test]
fn a_part_of_a_batch_that_came_before_is_not_stored_twice() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with_topic(dir.path(), &[("message.type", "MIXED")]);
    let time = after(500).0;
    let all: Vec<String> = (0..40).map(|number| format!("value {number}")).collect();
    let all: Vec<(&str, Option<i64>)> = all.iter().map(|value| (value.as_str(), Some(time))).collect();
    produce(&node, &records(0, &all[..25])).unwrap();
    // As if the first attempt had ended in the middle, more records ago than are remembered one by one.
    produce(&node, &records(0, &all)).unwrap();
    let expected: Vec<&str> = all.iter().map(|(value, _)| *value).collect();
    assert_eq!(values(&node, 40), expected);
    node.stop();
}

#[test]
fn what_is_no_time_is_refused_and_other_topics_do_not_look() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with_topic(dir.path(), &[("message.type", "DELAY")]);
    let far = records(0, &[("far", Some(i64::MAX))]);
    let refused = produce(&node, &far);
    assert!(matches!(refused, Err(BrokerError::InvalidRecord(_))), "{refused:?}");
    node.stop();

    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with_topic(dir.path(), &[]);
    assert_eq!(produce(&node, &far).unwrap().base_offset, Offset(0));
    assert_eq!(values(&node, 1), ["far"]);
    node.stop();
}

/// A connection polls a request once before it reads the next one: more partitions than a task may wait for in one poll.
#[test]
fn pipelined_requests_for_many_partitions_keep_their_order() {
    const PARTITIONS: i32 = 400;
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_small(dir.path());
    node.create_topic_of(TOPIC, PARTITIONS, &[]);
    let broker = node.broker.clone();
    let request = |text: &'static str| {
        let of = move |partition| ProducePartition { topic: topic(), partition, records: batch(text.as_bytes()) };
        broker.produce((0..PARTITIONS).map(of).collect(), TIMEOUT_MS)
    };
    node.runtime.block_on(async {
        let first = request("first");
        pin_mut!(first);
        assert!(poll!(&mut first).is_pending());
        let (second, first) = (request("second").await, first.await);
        assert!(first.iter().chain(&second).all(Result::is_ok), "{first:?} {second:?}");
    });
    for partition in 0..PARTITIONS {
        let mut found: Vec<String> = node.fetch_of(partition, 0, 1_000).iter().map(value).collect();
        if found.len() < 2 {
            found.extend(node.fetch_of(partition, 1, 5_000).iter().map(value));
        }
        assert_eq!(found, ["first", "second"], "partition {partition}");
    }
    node.stop();
}
