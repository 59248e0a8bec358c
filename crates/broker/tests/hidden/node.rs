//! A real node on its own, as front ends call it: log, Raft and state on disk.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use duolog_broker::api::{BrokerApi, EpochCheck, Fetch, FetchPartition, ItemResult, NewTopic, TopicRef};
use duolog_broker::message_api::{Delivery, HiddenHandle, MessageApi, Orphan, Resolution, SendMessage, Sent};
use duolog_broker::{Broker, Settings};
use duolog_commit_log::{LogOptions, RealDisk};
use duolog_record::{BatchBuilder, Record, RecordBatch};
use duolog_replication::{ClusterOptions, NodeAddress, RaftTimes};
use duolog_types::{NodeId, Offset, TimestampMs};
use tokio::runtime::Runtime;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const TOPIC: &str = "t";

pub struct Node {
    pub broker: Broker,
    pub runtime: Runtime,
}

pub fn now() -> TimestampMs {
    TimestampMs(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64)
}

pub fn after(ms: i64) -> TimestampMs {
    TimestampMs(now().0 + ms)
}

fn topic() -> TopicRef {
    TopicRef::Name(TOPIC.to_owned())
}

impl Node {
    /// Starts a node and waits until it serves. Its segments are small, and retention looks often.
    pub fn start(data_dir: &Path) -> Self {
        let settings = Settings {
            num_partitions: 1,
            auto_create_topics: false,
            nodes: 1,
            retention_check_interval_ms: 50,
            offsets_retention_ms: 604_800_000,
            offsets_retention_check_interval_ms: 600_000,
            producer_id_expiration_ms: 86_400_000,
            producer_id_expiration_check_interval_ms: 600_000,
            write_buffer_bytes: 8 << 20,
            block_cache_bytes: 8 << 20,
            group_initial_rebalance_delay_ms: 0,
            broker_configs: Vec::new(),
        };
        let own = NodeAddress { id: NodeId(0), host: "127.0.0.1".to_owned(), grpc_port: 1, kafka_port: 1 };
        let options = ClusterOptions {
            cluster_name: "test".to_owned(),
            node_id: NodeId(0),
            data_dir: data_dir.to_owned(),
            broker_groups: 2,
            boot_id_path: "/proc/sys/kernel/random/boot_id".into(),
            grpc_listen: ([127, 0, 0, 1], 0).into(),
            nodes: vec![own],
            log: LogOptions { segment_size_bytes: 1 << 20, allocation_step_bytes: 256 << 10, ..LogOptions::default() },
            disk: Arc::new(RealDisk),
            disk_free_bytes_min: 0,
            times: RaftTimes { heartbeat_interval_ms: 50, election_timeout_min_ms: 250, election_timeout_max_ms: 400 },
            drop_received_marks: false,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let broker = Broker::start(settings, options, runtime.handle()).unwrap();
        let begun = Instant::now();
        while !broker.is_ready() {
            assert!(begun.elapsed() < PATIENCE, "the node is not ready");
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { broker, runtime }
    }

    /// With the topic, of one partition.
    pub fn start_with_topic(data_dir: &Path, configs: &[(&str, &str)]) -> Self {
        let node = Self::start(data_dir);
        let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned()))).collect();
        let topic = NewTopic {
            name: TOPIC.to_owned(),
            partitions: Some(1),
            replication_factor: None,
            has_manual_assignment: false,
            configs,
        };
        let created = node.runtime.block_on(node.broker.create_topics(vec![topic], 30_000, false));
        assert!(created[0].is_ok(), "{created:?}");
        node
    }

    /// Stops the node and goes on in a copy of its directory: a process opens a state once in its life.
    pub fn restart(self, data_dir: &Path, copy: &Path) -> Self {
        self.stop();
        copy_dir(data_dir, copy);
        Self::start(copy)
    }

    pub fn stop(self) {
        self.broker.stop().unwrap();
        self.runtime.shutdown_timeout(PATIENCE);
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

    /// Records from an offset on; waits so long for the first one.
    pub fn fetch(&self, from: i64, wait_ms_max: i32) -> Vec<Record> {
        let partition = FetchPartition {
            topic: topic(),
            partition: 0,
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

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
