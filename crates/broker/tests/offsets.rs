//! ListOffsets by time on a real node, after records were deleted.

mod common;

use common::Node;
use duolog_broker::api::{BrokerApi, EpochCheck, OffsetQuery, ProducePartition, TopicRef};
use duolog_record::patch::set_max_timestamp;
use duolog_record::{BatchBuilder, RecordBatch};
use duolog_types::{Offset, TimestampMs};

const NOT_FOUND: (i64, i64) = (-1, -1);

fn topic() -> TopicRef {
    TopicRef::Name("t".to_owned())
}

fn batch(times: &[i64]) -> RecordBatch {
    let mut builder = BatchBuilder::new();
    for time in times {
        builder.push(TimestampMs(*time), None, Some(b"value")).unwrap();
    }
    builder.build().unwrap()
}

impl Node {
    fn send(&self, batch: RecordBatch) {
        let wanted = ProducePartition { topic: topic(), partition: 0, records: batch.into_bytes() };
        let produced = self.runtime.block_on(self.broker.produce(vec![wanted], 30_000));
        assert!(produced[0].is_ok(), "{produced:?}");
    }

    /// Gives the new log start.
    fn delete_before(&self, offset: Option<i64>) -> i64 {
        let deleted = self.broker.delete_records(topic(), 0, offset.map(Offset), 30_000);
        self.runtime.block_on(deleted).unwrap().0
    }

    /// Offset and timestamp.
    fn look_up(&self, query: OffsetQuery) -> (i64, i64) {
        let found = self.runtime.block_on(self.broker.list_offset(topic(), 0, query, EpochCheck::default())).unwrap();
        (found.offset.0, found.timestamp.0)
    }

    fn at_or_after(&self, time: i64) -> (i64, i64) {
        self.look_up(OffsetQuery::AtOrAfter(TimestampMs(time)))
    }
}

#[test]
fn a_look_up_by_time_finds_only_what_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic_of("t", 1, &[("retention.ms", "-1")]);
    node.send(batch(&[30, 10, 20]));
    assert_eq!((node.at_or_after(15), node.look_up(OffsetQuery::MaxTimestamp)), ((0, 30), (0, 30)));

    // The batch stays whole, its first record is gone.
    assert_eq!(node.delete_before(Some(1)), 1);
    assert_eq!((node.at_or_after(15), node.at_or_after(25)), ((2, 20), NOT_FOUND));
    assert_eq!(node.look_up(OffsetQuery::MaxTimestamp), (2, 20));

    // Neither what was deleted nor a header that says too much hides what lies behind it.
    node.send(set_max_timestamp(batch(&[5]), TimestampMs(50)));
    node.send(batch(&[25]));
    assert_eq!((node.at_or_after(25), node.at_or_after(40)), ((4, 25), NOT_FOUND));

    assert_eq!(node.delete_before(None), 5);
    assert_eq!((node.at_or_after(0), node.look_up(OffsetQuery::MaxTimestamp)), (NOT_FOUND, NOT_FOUND));
    node.send(batch(&[7]));
    assert_eq!((node.at_or_after(0), node.look_up(OffsetQuery::MaxTimestamp)), ((5, 7), (5, 7)));
    node.stop();
}
