//! Many messages in flight: `DUOLOG_IN_FLIGHT=10000000 cargo xtask test --test pop -- in_flight --nocapture` tries ten million.

use std::fs;
use std::time::Instant;

use duolog_broker::api::{BrokerApi, ProducePartition, TopicRef};
use duolog_broker::message_api::{DeliveredMessage, MessageApi};
use duolog_record::BatchBuilder;
use duolog_types::TimestampMs;
use futures_util::future::join_all;

use crate::common::{Node, copy_dir};
use crate::node::{consumer, request, topic};

const PARTITIONS: i32 = 8;
const BATCH_RECORDS: usize = 1_000;
/// As RocketMQ's clients ask for.
const RECEIVED_AT_ONCE: u32 = 32;
const CONSUMERS: usize = 64;
/// What a message in flight may take in the leader's memory, with everything else that grows: measured when there are enough of
/// them for the rest not to count.
const BYTES_EACH_MAX: u64 = 160;
const MEASURED_FROM: usize = 1_000_000;

fn wanted() -> usize {
    let asked = std::env::var("DUOLOG_IN_FLIGHT").map(|count| count.parse().expect("a number of messages"));
    asked.unwrap_or(16_000_usize).next_multiple_of(BATCH_RECORDS * PARTITIONS as usize)
}

/// What is out stays out over a restart, is compact in memory, and can be acknowledged.
#[test]
fn messages_in_flight_are_compact_and_stay_over_a_restart() {
    let count = wanted();
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic_of("t", PARTITIONS, &[]);
    produce(&node, count);
    let before = resident_bytes();
    let begun = Instant::now();
    let last = receive_all(&node, count);
    let grown = resident_bytes().saturating_sub(before);
    println!("{count} received in {:?}; memory grew by {grown} bytes, {} each", begun.elapsed(), grown / count as u64);
    assert!(count < MEASURED_FROM || grown / (count as u64) < BYTES_EACH_MAX, "{grown} bytes for {count} messages");
    assert!(node.receive(1, 1_000).is_empty(), "everything is out");
    node.stop();

    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    let begun = Instant::now();
    let node = Node::start(copy.path());
    assert!(node.receive(1, 1_000).is_empty(), "everything is still out");
    println!("looked at again {:?} after the start", begun.elapsed());
    node.acknowledge(last.receipt).unwrap();
    node.stop();
}

fn produce(node: &Node, count: usize) {
    let mut builder = BatchBuilder::new();
    for _ in 0..BATCH_RECORDS {
        builder.push(TimestampMs(1), None, Some(b"0123456789")).unwrap();
    }
    let records = builder.build().unwrap().into_bytes();
    for _ in 0..count / BATCH_RECORDS / PARTITIONS as usize {
        let partitions = (0..PARTITIONS).map(|partition| ProducePartition {
            topic: TopicRef::Name("t".to_owned()),
            partition,
            records: records.clone(),
        });
        let produced = node.runtime.block_on(node.broker.produce(partitions.collect(), 30_000));
        assert!(produced.iter().all(Result::is_ok), "{produced:?}");
    }
}

/// Receives everything and acknowledges nothing; gives one of the messages.
fn receive_all(node: &Node, count: usize) -> DeliveredMessage {
    let consume = |partition: i32| async move {
        let mut request = request();
        (request.partition, request.count_max, request.topic) = (Some(partition), RECEIVED_AT_ONCE, topic());
        request.consumer = consumer();
        let (mut received, mut last) = (0, None);
        loop {
            let mut messages = node.broker.receive(request.clone()).await.unwrap();
            received += messages.len();
            match messages.pop() {
                Some(message) => last = Some(message),
                None => return (received, last),
            }
        }
    };
    let consumers = (0..CONSUMERS).map(|at| consume(at as i32 % PARTITIONS));
    let ended = node.runtime.block_on(join_all(consumers));
    assert_eq!(ended.iter().map(|(received, _)| received).sum::<usize>(), count, "each once");
    ended.into_iter().find_map(|(_, last)| last).expect("some were received")
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line of /proc/self/status");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}
