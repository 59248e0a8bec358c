//! What front ends do with half and delayed messages, on a real node.

use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use duolog_broker::TransactionState;
use duolog_broker::api::{BrokerApi, EpochCheck, Fetch, FetchPartition, ItemResult, TopicRef};
use duolog_broker::message_api::{Delivery, HiddenHandle, MessageApi, Orphan, Resolution, SendMessage, Sent};
use duolog_record::{BatchBuilder, Record, RecordBatch};
use duolog_types::{Offset, TimestampMs};

use crate::common::copy_dir;
pub use crate::common::{Node, PATIENCE};

pub const TOPIC: &str = "t";

pub fn now() -> TimestampMs {
    TimestampMs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64)
}

pub fn after(ms: i64) -> TimestampMs {
    TimestampMs(now().0 + ms)
}

pub fn topic() -> TopicRef {
    TopicRef::Name(TOPIC.to_owned())
}

impl Node {
    /// Its segments are small, and retention looks often.
    pub fn start_small(data_dir: &Path) -> Self {
        Self::start_with(data_dir, |settings, options| {
            settings.retention_check_interval_ms = 50;
            options.broker_groups = 2;
            options.log.segment_size_bytes = 1 << 20;
            options.log.allocation_step_bytes = 256 << 10;
        })
    }

    /// With the topic, of one partition.
    pub fn start_with_topic(data_dir: &Path, configs: &[(&str, &str)]) -> Self {
        let node = Self::start_small(data_dir);
        node.create_topic_of(TOPIC, 1, configs);
        node
    }

    /// Stops the node and goes on in a copy of its directory: a process opens a state once in its life.
    pub fn restart(self, data_dir: &Path, copy: &Path) -> Self {
        self.stop();
        copy_dir(data_dir, copy);
        Self::start_small(copy)
    }

    pub fn send(&self, value: &str, delivery: Delivery) -> Sent {
        self.send_all(vec![(value.to_owned(), delivery)]).swap_remove(0)
    }

    pub fn send_all(&self, messages: Vec<(String, Delivery)>) -> Vec<Sent> {
        let message = |(value, delivery): (String, Delivery)| SendMessage {
            topic: topic(),
            partition: 0,
            batch: batch(value.as_bytes()),
            delivery,
        };
        let sent = self.broker.send_messages(messages.into_iter().map(message).collect(), 30_000);
        self.runtime.block_on(sent).into_iter().map(Result::unwrap).collect()
    }

    /// A message that is hidden.
    pub fn hide(&self, value: &str, delivery: Delivery) -> HiddenHandle {
        let sent = self.send(value, delivery);
        assert_eq!(sent.offset, None, "{sent:?}");
        sent.handle.expect("it is hidden")
    }

    pub fn half(&self, value: &str) -> HiddenHandle {
        self.hide(value, Delivery::OnCommit { check_at: after(600_000) })
    }

    pub fn end(&self, handle: HiddenHandle, resolution: Resolution) -> ItemResult<()> {
        self.runtime.block_on(self.broker.end_transaction(handle, resolution))
    }

    pub fn recall(&self, handle: HiddenHandle) -> ItemResult<()> {
        self.runtime.block_on(self.broker.recall(handle))
    }

    pub fn orphans(&self) -> Vec<Orphan> {
        self.runtime.block_on(self.broker.orphans())
    }

    pub fn asked(&self, orphan: &Orphan) {
        self.runtime.block_on(self.broker.asked(vec![(orphan.handle, orphan.checks)]));
    }

    /// How often the producer of an open half message was asked.
    pub fn checks(&self, handle: HiddenHandle) -> u32 {
        match self.broker.transaction(handle).unwrap().expect("it is remembered").state {
            TransactionState::Open { checks, .. } => checks,
            other => panic!("{other:?}"),
        }
    }

    /// Records from an offset on; waits so long for the first one.
    pub fn fetch(&self, from: i64, wait_ms_max: i32) -> Vec<Record> {
        self.fetch_of(0, from, wait_ms_max)
    }

    pub fn fetch_of(&self, partition: i32, from: i64, wait_ms_max: i32) -> Vec<Record> {
        let partition = FetchPartition {
            topic: topic(),
            partition,
            fetch_offset: Offset(from),
            bytes_max: 64 << 20,
            epoch: EpochCheck::default(),
            last_fetched_epoch: None,
        };
        let fetch = Fetch { partitions: vec![partition], bytes_min: 1, bytes_max: 64 << 20, wait_ms_max };
        let fetched = self.runtime.block_on(self.broker.fetch(fetch)).swap_remove(0).unwrap();
        let parsed = fetched.records.into_iter().flat_map(|batch| {
            let batch = RecordBatch::parse(batch).unwrap();
            batch.check_crc().unwrap();
            batch.records(1 << 20).unwrap().map(Result::unwrap).collect::<Vec<_>>()
        });
        parsed.filter(|record| record.offset.0 >= from).collect()
    }

    /// All that is visible: offset and value. An answer may end where the applied part of the log ends.
    pub fn seen(&self) -> Vec<(i64, String)> {
        let mut seen: Vec<(i64, String)> = Vec::new();
        loop {
            let from = seen.last().map_or(0, |(offset, _)| offset + 1);
            let more = self.fetch(from, 0);
            if more.is_empty() {
                return seen;
            }
            seen.extend(more.iter().map(|record| (record.offset.0, value(record))));
        }
    }

    /// Waits for so many records in all.
    pub fn wait_seen(&self, count: usize) -> Vec<(i64, String)> {
        let begun = Instant::now();
        loop {
            let seen = self.seen();
            if seen.len() >= count {
                return seen;
            }
            assert!(begun.elapsed() < PATIENCE, "{seen:?}");
            self.fetch(seen.len() as i64, 1_000);
        }
    }
}

pub fn value(record: &Record) -> String {
    String::from_utf8(record.value.clone().expect("it has a value").to_vec()).unwrap()
}

pub fn batch(value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(now(), None, Some(value)).unwrap();
    builder.build().unwrap().into_bytes()
}
