//! A batch whose checksum is right and whose records cannot be unpacked: its producer is to blame, and no consumer waits for it.

use bytes::Bytes;
use duolog_broker::api::{BrokerApi, ProducePartition};
use duolog_broker::message_api::{Filter, MessageApi, Pull};
use duolog_record::patch::set_max_timestamp;
use duolog_record::{BatchBuilder, RecordBatch};
use duolog_types::{Offset, TimestampMs};

use crate::common::Node;
use crate::node::{HOUR_MS, topic, values};

/// Where the lower byte of a batch's attributes lies, and what it says of gzip.
const ATTRIBUTES_AT: usize = 22;
const GZIP: u8 = 1;

/// Two records that are not what their batch says: compressed.
fn unreadable() -> Bytes {
    let mut builder = BatchBuilder::new();
    for value in [b"x", b"y"] {
        builder.push(TimestampMs(1), None, Some(value)).unwrap();
    }
    let mut bytes = builder.build().unwrap().into_bytes().to_vec();
    bytes[ATTRIBUTES_AT] |= GZIP;
    // This makes the checksum right again.
    set_max_timestamp(RecordBatch::parse(bytes.into()).unwrap(), TimestampMs(1)).into_bytes()
}

fn produce_unreadable(node: &Node) {
    let produce = ProducePartition { topic: topic(), partition: 0, records: unreadable() };
    let produced = node.runtime.block_on(node.broker.produce(vec![produce], 30_000));
    assert!(produced[0].is_ok(), "{produced:?}");
}

#[test]
fn a_group_passes_over_what_cannot_be_unpacked() {
    for message_type in ["NORMAL", "FIFO"] {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(dir.path());
        node.create_topic("t", &[("message.type", message_type)]);
        produce_unreadable(&node);
        assert!(node.receive(16, HOUR_MS).is_empty(), "{message_type}");
        node.send("a", Some("key"), &[]);
        produce_unreadable(&node);
        node.send("b", Some("other"), &[]);
        assert_eq!(values(&node.receive(16, HOUR_MS)), ["a", "b"], "{message_type}");
        // More than are read at a time.
        for _ in 0..20 {
            produce_unreadable(&node);
        }
        node.send("c", Some("another"), &[]);
        assert_eq!(values(&node.receive(1, HOUR_MS)), ["c"], "{message_type}");
        let metrics = node.broker.render_metrics();
        let is_counted =
            |line: &str| line.starts_with("duolog_broker_group_unreadable_batches_total{") && !line.ends_with(" 0");
        assert!(metrics.lines().any(is_counted), "{metrics}");
        node.stop();
    }
}

#[test]
fn who_pulls_passes_over_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    produce_unreadable(&node);
    node.send("a", None, &[]);
    produce_unreadable(&node);
    let pull = |offset| {
        let pull = Pull { topic: topic(), partition: 0, offset, count_max: 16, filter: Filter::All, wait_ms_max: 0 };
        node.runtime.block_on(node.broker.pull(pull)).unwrap()
    };
    let first = pull(Offset(0));
    assert_eq!(first.records.iter().map(|record| record.offset).collect::<Vec<_>>(), [Offset(2)]);
    let rest = pull(Offset(3));
    assert_eq!((rest.records.len(), rest.next_offset), (0, Offset(5)));
    node.stop();
}
