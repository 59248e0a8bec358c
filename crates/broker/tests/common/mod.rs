//! A real node on its own, called where front ends call.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use duolog_broker::api::{BrokerApi, NewTopic};
use duolog_broker::{Broker, Settings};
use duolog_commit_log::{LogOptions, RealDisk};
use duolog_replication::{ClusterOptions, NodeAddress, RaftTimes, ScrubOptions};
use duolog_types::NodeId;
use tokio::runtime::Runtime;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Node {
    pub broker: Broker,
    pub runtime: Runtime,
}

impl Node {
    /// Starts a node on its own and waits until it serves.
    pub fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, |_, _| {})
    }

    /// The same, with other settings.
    pub fn start_with(data_dir: &Path, change: impl FnOnce(&mut Settings, &mut ClusterOptions)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self::start_on(runtime, data_dir, change)
    }

    /// The same, with the tasks that serve clients on a given runtime.
    pub fn start_on(
        runtime: Runtime,
        data_dir: &Path,
        change: impl FnOnce(&mut Settings, &mut ClusterOptions),
    ) -> Self {
        let mut settings = Settings {
            num_partitions: 1,
            auto_create_topics: false,
            retention_check_interval_ms: 300_000,
            offsets_retention_ms: 604_800_000,
            offsets_retention_check_interval_ms: 600_000,
            producer_id_expiration_ms: 86_400_000,
            producer_id_expiration_check_interval_ms: 600_000,
            consumer_offset_interval_ms: 50,
            renew_max_ms: 10_800_000,
            write_buffer_bytes: 8 << 20,
            block_cache_bytes: 8 << 20,
            group_initial_rebalance_delay_ms: 0,
            broker_configs: Vec::new(),
            first_user: None,
        };
        let own = NodeAddress {
            id: NodeId(0),
            host: "127.0.0.1".to_owned(),
            grpc_port: 1,
            kafka_port: 1,
            rocketmq_port: 0,
            http_port: 0,
        };
        let mut options = ClusterOptions {
            cluster_name: "test".to_owned(),
            node_id: NodeId(0),
            data_dir: data_dir.to_owned(),
            broker_groups: 3,
            boot_id_path: "/proc/sys/kernel/random/boot_id".into(),
            grpc_listen: ([127, 0, 0, 1], 0).into(),
            nodes: vec![own],
            log: LogOptions { segment_size_bytes: 16 << 20, allocation_step_bytes: 1 << 20, ..LogOptions::default() },
            disk: Arc::new(RealDisk),
            disk_free_bytes_min: 0,
            scrub: ScrubOptions::default(),
            times: RaftTimes { heartbeat_interval_ms: 50, election_timeout_min_ms: 250, election_timeout_max_ms: 400 },
            drop_received_marks: false,
        };
        change(&mut settings, &mut options);
        let broker = Broker::start(settings, options, runtime.handle()).unwrap();
        let begun = Instant::now();
        while !broker.is_ready() {
            assert!(begun.elapsed() < PATIENCE, "the node is not ready");
            runtime.block_on(async { tokio::time::sleep(Duration::from_millis(5)).await });
        }
        Self { broker, runtime }
    }

    /// Stops cleanly.
    pub fn stop(self) {
        self.broker.stop().unwrap();
        self.runtime.shutdown_timeout(PATIENCE);
    }

    /// With two partitions.
    pub fn create_topic(&self, name: &str, configs: &[(&str, &str)]) {
        self.create_topic_of(name, 2, configs);
    }

    pub fn create_topic_of(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            replication_factor: None,
            assignments: Vec::new(),
            configs: configs.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned()))).collect(),
        };
        let created = self.runtime.block_on(self.broker.create_topics(vec![topic], 30_000, false));
        assert!(created[0].is_ok(), "{created:?}");
    }
}

/// A node that stopped keeps its tables open in its process, so the next one gets a copy of its directory.
pub fn copy_dir(from: &Path, to: &Path) {
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
