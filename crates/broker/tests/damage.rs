//! What the disk cannot read is refused, and the scrubber is told, as with other damage.

mod common;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Node, PATIENCE};
use duolog_broker::BrokerError;
use duolog_broker::api::{BrokerApi, EpochCheck, Fetch, FetchPartition, ProducePartition, TopicRef};
use duolog_commit_log::SimDisk;
use duolog_record::BatchBuilder;
use duolog_types::{BrokerGroupId, Offset, TimestampMs};

fn topic() -> TopicRef {
    TopicRef::Name("t".to_owned())
}

fn until(what: &str, look: impl Fn() -> bool) {
    let begun = Instant::now();
    while !look() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_batch_that_the_disk_cannot_read_is_refused_and_suspected() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::new();
    let node = Node::start_with(dir.path(), |_, options| {
        options.disk = Arc::new(disk.process());
        options.broker_groups = 1;
        options.log.tail_cache_bytes = 1;
    });
    node.create_topic_of("t", 1, &[]);
    let value = "a record ".repeat(4_000);
    let mut builder = BatchBuilder::new();
    builder.push(TimestampMs(1), None, Some(value.as_bytes())).unwrap();
    let records = builder.build().unwrap().into_bytes();
    let wanted = ProducePartition { topic: topic(), partition: 0, records };
    let produced = node.runtime.block_on(node.broker.produce(vec![wanted], 30_000));
    assert!(produced[0].is_ok(), "{produced:?}");
    // Raft reads it to apply it, and would end.
    let group = node.broker.replica(BrokerGroupId::SYSTEM).unwrap();
    until("applied", || {
        group.applied().borrow().map(|mark| mark.index) == group.log().last().map(|(_, index)| index.0)
    });

    let find = |path: &PathBuf| {
        let bytes = disk.file(path);
        bytes.windows(value.len()).position(|bytes| bytes == value.as_bytes())
    };
    let paths = disk.paths();
    let (path, position) = paths.iter().find_map(|path| Some((path, find(path)?))).expect("it is in the log");
    // In the middle of the value.
    disk.break_page(path, position as u64 + 10_000);
    let partition = FetchPartition {
        topic: topic(),
        partition: 0,
        fetch_offset: Offset(0),
        bytes_max: 1 << 20,
        epoch: EpochCheck::default(),
        last_fetched_epoch: None,
    };
    let fetch = Fetch { partitions: vec![partition], bytes_min: 1, bytes_max: 1 << 20, wait_ms_max: 1_000 };
    let refused = node.runtime.block_on(node.broker.fetch(fetch)).remove(0).unwrap_err();
    assert!(
        matches!(&refused, BrokerError::Storage(cause) if cause.contains("the disk cannot read it")),
        "{refused:?}"
    );

    until("looked for", || group.scrub_counts().damaged() == 1);
    node.stop();
}
