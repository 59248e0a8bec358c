//! A node of the simulated cluster: what of it survives, and the broker that runs while it lives.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use duolog_broker::{Broker, Settings};
use duolog_chaos::history::Event;
use duolog_chaos::recorder::Recorder;
use duolog_commit_log::{LogOptions, SimDisk};
use duolog_replication::testing::Hooks;
use duolog_replication::{ClusterOptions, NodeAddress, RaftTimes, ScrubOptions};
use duolog_types::NodeId;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::log_driver;
use crate::net::SimNet;
use crate::random::Random;
use crate::store::SimStore;

const GRPC_PORT: u16 = 7_070;
const KAFKA_PORT: u16 = 9_092;
/// The system group and two data groups.
const BROKER_GROUPS: u32 = 3;

/// A node, through all its lives.
pub struct SimNode {
    pub id: u32,
    node_count: u32,
    dir: PathBuf,
    disk: SimDisk,
    store: SimStore,
    random: Mutex<Random>,
    boots: Mutex<u32>,
    life: Mutex<Option<Life>>,
    recorder: Arc<Recorder>,
    plant: Option<Plant>,
}

/// The time from a start to the next crash.
#[derive(Clone)]
struct Life {
    broker: Broker,
    runtime: Handle,
}

/// A bug that the checkers must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Plant {
    /// fdatasync answers and does nothing.
    LyingDisk,
    /// A node that lost power votes as if nothing had happened: the guard is told the same boot id.
    NoGuard,
    /// A leader that restarts goes on as leader of its term: openraft's default.
    LeaderRestore,
}

/// How a node goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: what was written stays.
    Kill,
    /// The machine loses power: what was not flushed may be gone.
    PowerLoss,
}

/// The name of a node's host.
pub fn host(id: u32) -> String {
    format!("n{id}")
}

impl SimNode {
    pub fn new(
        (id, node_count): (u32, u32),
        home: &Path,
        mut random: Random,
        recorder: Arc<Recorder>,
        plant: Option<Plant>,
    ) -> Self {
        let dir = home.join(host(id));
        fs::create_dir_all(&dir).expect("a directory of this simulation");
        let store = SimStore::new(random.fork());
        let node = Self {
            id,
            node_count,
            dir,
            disk: SimDisk::new(),
            store,
            random: Mutex::new(random),
            boots: Mutex::new(0),
            life: Mutex::new(None),
            recorder,
            plant,
        };
        node.boot();
        node.spoil();
        node
    }

    fn boot(&self) {
        let mut boots = self.boots.lock();
        *boots += 1;
        fs::write(self.dir.join("boot_id"), format!("boot-{}-{boots}", self.id)).expect("a file of this simulation");
    }

    /// Faults of the disk end with each crash, the planted ones do not.
    fn spoil(&self) {
        self.disk.set_sync_does_nothing(self.plant == Some(Plant::LyingDisk));
    }

    fn hooks(&self) -> Hooks {
        let restores = self.plant == Some(Plant::LeaderRestore);
        Hooks {
            net: Some(Arc::new(SimNet)),
            configure: restores.then_some(|config| config.enable_leader_restore = Some(true)),
            skip_config_check: restores,
            ..Hooks::default()
        }
    }

    /// Runs until it fails; a crash ends it from outside.
    pub async fn run(self: Arc<Self>) -> turmoil::Result {
        let (settings, store) = (settings(), self.store.clone());
        let ended = match Broker::join_here(settings, self.options(), store, self.hooks()).await {
            Ok(broker) => {
                let mut fatal = broker.fatal();
                *self.life.lock() = Some(Life { broker, runtime: Handle::current() });
                let reason = fatal.wait_for(Option::is_some).await?.clone();
                *self.life.lock() = None;
                reason.unwrap_or_default()
            }
            Err(error) => error.to_string(),
        };
        let time_ms = self.recorder.now_ms();
        self.recorder.record(Event::NodeExited { time_ms, node: self.id, status: ended });
        // A node that has ended by itself stays down until the world starts it again.
        std::future::pending().await
    }

    fn options(&self) -> ClusterOptions {
        let address = |id: u32| NodeAddress {
            id: NodeId(u64::from(id)),
            host: host(id),
            grpc_port: GRPC_PORT,
            kafka_port: KAFKA_PORT,
            rocketmq_port: 0,
            http_port: 0,
        };
        ClusterOptions {
            cluster_name: "sim".to_owned(),
            node_id: NodeId(u64::from(self.id)),
            data_dir: self.dir.join("data"),
            broker_groups: BROKER_GROUPS,
            boot_id_path: self.dir.join("boot_id"),
            grpc_listen: ([0, 0, 0, 0], GRPC_PORT).into(),
            nodes: (0..self.node_count).map(address).collect(),
            log: LogOptions {
                segment_size_bytes: 256 << 10,
                allocation_step_bytes: 64 << 10,
                queue_bytes_max: 1 << 20,
                driver: log_driver::driver(self.random.lock().fork()),
                ..LogOptions::default()
            },
            disk: Arc::new(self.disk.process()),
            disk_free_bytes_min: 0,
            scrub: ScrubOptions::default(),
            times: RaftTimes { heartbeat_interval_ms: 50, election_timeout_min_ms: 250, election_timeout_max_ms: 400 },
            drop_received_marks: false,
        }
    }

    /// The node's end, before its tasks are taken away.
    pub fn crash(&self, how: Crash) {
        *self.life.lock() = None;
        match how {
            Crash::Kill => self.disk.kill(),
            Crash::PowerLoss => {
                self.disk.power_loss(self.random.lock().next());
                if self.plant != Some(Plant::NoGuard) {
                    self.boot();
                }
            }
        }
        self.spoil();
    }

    pub fn is_ready(&self) -> bool {
        self.life.lock().as_ref().is_some_and(|life| life.broker.is_ready())
    }

    /// Calls the node's broker, on the node; `None` when the node is down, or goes down before it has answered. A caller that does not
    /// wait is a client that vanishes: its request is dropped.
    pub async fn call<T, F>(&self, call: impl FnOnce(Broker) -> F) -> Option<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let Life { broker, runtime } = self.life.lock().clone()?;
        AbortOnDropHandle::new(runtime.spawn(call(broker))).await.ok()
    }
}

fn settings() -> Settings {
    Settings {
        num_partitions: 1,
        auto_create_topics: false,
        retention_check_interval_ms: 1_000,
        offsets_retention_ms: 604_800_000,
        offsets_retention_check_interval_ms: 600_000,
        producer_id_expiration_ms: 86_400_000,
        producer_id_expiration_check_interval_ms: 600_000,
        consumer_offset_interval_ms: 2_000,
        renew_max_ms: 10_800_000,
        write_buffer_bytes: 1 << 20,
        block_cache_bytes: 1 << 20,
        group_initial_rebalance_delay_ms: 0,
        broker_configs: Vec::new(),
        first_user: None,
    }
}
