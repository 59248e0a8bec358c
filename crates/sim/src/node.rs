//! A node of the simulated cluster: what of it survives, and the broker that runs while it lives.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use duolog_broker::{Broker, Settings};
use duolog_commit_log::{LogOptions, SimDisk};
use duolog_replication::testing::Hooks;
use duolog_replication::{ClusterOptions, NodeAddress, RaftTimes, ScrubOptions};
use duolog_types::{BrokerGroupId, NodeId};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::log_driver::Slowness;
use crate::machine::Machine;
use crate::net::{Links, SimNet};
use crate::plant::Plant;
use crate::random::Random;
use crate::store::SimStore;
use crate::{interpose, log_driver};

const GRPC_PORT: u16 = 7_070;
const KAFKA_PORT: u16 = 9_092;
/// With less room a node takes no more records. The logs of all broker groups keep space ahead out of it.
pub const DISK_FREE_BYTES_MIN: u64 = 16 << 20;
/// The system group and two data groups.
pub const BROKER_GROUPS: u32 = 3;
/// Nodes at the beginning.
pub const NODES: u32 = 3;
/// Nodes that may have taken part at the end.
pub const NODES_MAX: u32 = 6;

/// What a node is to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was never started.
    Absent,
    /// It takes part, or waits to be let in, whether it is up or not.
    Present,
    /// It was taken out, and must end by itself.
    Leaving,
    /// It never comes back.
    Gone,
}

/// A node, through all its lives.
pub struct SimNode {
    pub id: u32,
    standing: Mutex<Standing>,
    /// The nodes that its config lists.
    listed: Mutex<Vec<u32>>,
    own: Mutex<Storage>,
    storage: Mutex<Storage>,
    random: Mutex<Random>,
    boots: Mutex<u32>,
    life: Mutex<Option<Life>>,
    links: Links,
    machine: Mutex<Machine>,
    slowness: Slowness,
    end: Mutex<Option<End>>,
    expected: Mutex<Expected>,
    plant: Option<Plant>,
}

/// What of a node survives.
#[derive(Clone)]
struct Storage {
    /// Small files, which are always durable.
    dir: PathBuf,
    disk: SimDisk,
    store: SimStore,
}

/// How a node has ended by itself.
#[derive(Debug, Clone)]
pub enum End {
    /// As it was told to.
    Stopped,
    Failed {
        reason: String,
        is_expected: bool,
    },
}

/// A node that was taken out says this.
pub const REMOVED: &str = "was removed from the cluster";

/// Why a node may end by itself.
#[derive(Debug, Clone, Copy, Default)]
struct Expected {
    /// Its disk fails.
    disk: bool,
    /// Its disk is damaged: it must say so.
    corruption: bool,
    /// Its disk is not its own: it must say so.
    foreign: bool,
}

impl Expected {
    fn covers(self, reason: &str) -> bool {
        self.disk || self.corruption && reason.contains("corrupt") || self.foreign && reason.contains("incarnation")
    }
}

/// The time from a start to the next crash.
#[derive(Clone)]
struct Life {
    broker: Broker,
    runtime: Handle,
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

/// The node whose host has a name.
pub fn node_of_host(name: &str) -> Option<u32> {
    name.strip_prefix('n')?.parse().ok()
}

impl Storage {
    fn new(dir: PathBuf, random: &mut Random, plant: Option<Plant>) -> Self {
        fs::create_dir_all(&dir).expect("a directory of this simulation");
        Self { dir, disk: SimDisk::new(), store: SimStore::new(random.fork(), plant) }
    }
}

impl SimNode {
    pub fn new(id: u32, home: &Path, mut random: Random, links: Links, plant: Option<Plant>) -> Self {
        let own = Storage::new(home.join(host(id)), &mut random, plant);
        let node = Self {
            id,
            standing: Mutex::new(if id < NODES { Standing::Present } else { Standing::Absent }),
            listed: Mutex::new((0..NODES).collect()),
            storage: Mutex::new(own.clone()),
            own: Mutex::new(own),
            random: Mutex::new(random),
            boots: Mutex::new(0),
            life: Mutex::new(None),
            links,
            machine: Mutex::new(Machine::new()),
            slowness: Slowness::default(),
            end: Mutex::default(),
            expected: Mutex::default(),
            plant,
        };
        node.boot();
        node.spoil();
        node
    }

    fn boot(&self) {
        let mut boots = self.boots.lock();
        *boots += 1;
        fs::write(self.storage().dir.join("boot_id"), format!("boot-{}-{boots}", self.id))
            .expect("a file of this simulation");
    }

    /// A broker group's state is found damaged from now on, until another one is in its place.
    pub fn damage_state(&self, group: BrokerGroupId) {
        let own = self.own.lock();
        own.store.damage(&own.dir.join("data/groups").join(group.to_string()).join("state"));
    }

    /// Faults of the disk end with each crash, the planted ones do not.
    pub fn spoil(&self) {
        self.own.lock().disk.set_sync_does_nothing(self.plant == Some(Plant::LyingDisk));
    }

    fn hooks(&self) -> Hooks {
        let restores = self.plant == Some(Plant::LeaderRestore);
        Hooks {
            net: Some(Arc::new(SimNet {
                own: self.id,
                links: self.links.clone(),
                machine: self.machine.lock().clone(),
            })),
            configure: restores.then_some(|config| config.enable_leader_restore = Some(true)),
            skip_config_check: restores,
            early: Plant::early(self.plant),
            ..Hooks::default()
        }
    }

    fn storage(&self) -> Storage {
        self.storage.lock().clone()
    }

    /// The machine, of which there is a new one with each start.
    pub async fn run_machine(self: Arc<Self>) -> turmoil::Result {
        let machine = self.machine.lock().clone();
        machine.run().await
    }

    /// The next process gets a machine of its own.
    pub fn renew_machine(&self) {
        *self.machine.lock() = Machine::new();
    }

    /// The process: runs until it fails; a crash ends it from outside.
    pub async fn run(self: Arc<Self>) {
        interpose::enter(self.id);
        let (settings, store) = (settings(), self.storage().store);
        let reason = match Broker::join_here(settings, self.options(), store, self.hooks()).await {
            Ok(broker) => {
                let mut fatal = broker.fatal();
                *self.life.lock() = Some(Life { broker, runtime: Handle::current() });
                let reason = fatal.wait_for(Option::is_some).await;
                reason.expect("the broker lives as long as this process").clone().unwrap_or_default()
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                format!("{error}: {source}")
            }
        };
        let is_expected = self.expected.lock().covers(&reason);
        // The world takes it down.
        *self.end.lock() = Some(End::Failed { reason, is_expected });
    }

    /// How the node has ended by itself since the last question.
    pub fn take_end(&self) -> Option<End> {
        self.end.lock().take()
    }

    /// Its disk is about to fail.
    pub fn expect_end(&self) {
        self.expected.lock().disk = true;
    }

    pub fn expect_corruption(&self) {
        self.expected.lock().corruption = true;
    }

    pub fn expect_no_corruption(&self) {
        self.expected.lock().corruption = false;
    }

    pub fn own_disk(&self) -> SimDisk {
        self.own.lock().disk.clone()
    }

    /// From the next start on it finds nothing of its own.
    pub fn use_empty_disk(&self) {
        let mut random = self.random.lock();
        let number = random.next();
        *self.storage.lock() =
            Storage::new(self.own.lock().dir.with_extension(number.to_string()), &mut random, self.plant);
        drop(random);
        self.expected.lock().foreign = true;
        self.boot();
    }

    /// The disk that it has now is its own from now on.
    pub fn keep_disk(&self) {
        *self.own.lock() = self.storage();
        self.expected.lock().foreign = false;
    }

    /// Whether it has something of the cluster on the disk that it runs with; `None` when it does not run.
    pub fn has_taken_part(&self) -> Option<bool> {
        let Life { broker, .. } = self.life.lock().clone()?;
        let replicas = (0..BROKER_GROUPS).filter_map(|group| broker.replica(BrokerGroupId(group)));
        let mut logs = replicas.map(|replica| replica.log().clone());
        Some(logs.any(|log| log.vote().is_some() || log.last().is_some()))
    }

    /// From the next start on it finds what it had.
    pub fn use_own_disk(&self) {
        *self.storage.lock() = self.own.lock().clone();
        self.expected.lock().foreign = false;
    }

    /// Begins a planned stop; false when there is nothing to stop.
    pub fn stop(self: &Arc<Self>) -> bool {
        // Nobody is served any more.
        let Some(Life { broker, runtime }) = self.life.lock().take() else { return false };
        let node = self.clone();
        runtime.spawn(async move {
            let stopped = broker.stop_here().await;
            let end = match stopped {
                Ok(()) => End::Stopped,
                Err(error) => {
                    let (reason, is_expected) = (format!("cannot stop: {error}"), node.expected.lock().disk);
                    End::Failed { reason, is_expected }
                }
            };
            *node.end.lock() = Some(end);
        });
        true
    }

    pub fn standing(&self) -> Standing {
        *self.standing.lock()
    }

    pub fn set_standing(&self, standing: Standing) {
        *self.standing.lock() = standing;
    }

    /// Whether it may be asked: it is there, or may come back.
    pub fn is_present(&self) -> bool {
        matches!(self.standing(), Standing::Present | Standing::Leaving)
    }

    /// It is to be started for the first time, with a config that lists these nodes.
    pub fn wait_for(&self, listed: Vec<u32>) {
        *self.listed.lock() = listed;
        self.set_standing(Standing::Present);
    }

    /// Whether it is up and does not vote, after a loss of power.
    pub fn is_guarded(&self) -> bool {
        self.life.lock().as_ref().is_some_and(|life| life.broker.is_guarded())
    }

    /// Whether its disk was told to fail and has not yet.
    pub fn is_disk_failing(&self) -> bool {
        self.expected.lock().disk
    }

    /// Each flush of its disk takes so much longer from now on.
    pub fn slow_down(&self, added: Duration) {
        self.slowness.set(added);
    }

    /// Whether this node believes that it leads a broker group.
    pub fn leads(&self, group: BrokerGroupId) -> bool {
        let life = self.life.lock();
        let replica = life.as_ref().and_then(|life| life.broker.replica(group));
        replica.is_some_and(|replica| replica.leadership().borrow().is_self)
    }

    /// Hands a broker group's leadership to another node, if this one leads; whether it does.
    pub fn transfer(&self, group: BrokerGroupId, to: NodeId) -> bool {
        let Some(Life { broker, runtime }) = self.life.lock().clone() else { return false };
        let Some(replica) = broker.replica(group) else { return false };
        let leads = replica.leadership().borrow().is_self && replica.node_id() != to;
        if leads {
            // Without success the leader stays, or somebody else is elected.
            runtime.spawn(async move { replica.transfer_leadership(to).await });
        }
        leads
    }

    fn options(&self) -> ClusterOptions {
        let Storage { dir, disk, .. } = self.storage();
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
            data_dir: dir.join("data"),
            broker_groups: BROKER_GROUPS,
            boot_id_path: dir.join("boot_id"),
            grpc_listen: ([0, 0, 0, 0], GRPC_PORT).into(),
            nodes: self.listed.lock().iter().copied().map(address).collect(),
            log: LogOptions {
                segment_size_bytes: 256 << 10,
                allocation_step_bytes: 64 << 10,
                queue_bytes_max: 1 << 20,
                driver: log_driver::driver(self.random.lock().fork(), self.slowness.clone()),
                ..LogOptions::default()
            },
            disk: Arc::new(disk.process()),
            disk_free_bytes_min: DISK_FREE_BYTES_MIN,
            scrub: ScrubOptions::default(),
            times: RaftTimes { heartbeat_interval_ms: 50, election_timeout_min_ms: 250, election_timeout_max_ms: 400 },
            drop_received_marks: false,
        }
    }

    /// The node's end, before its tasks are taken away.
    pub fn crash(&self, how: Crash) {
        *self.life.lock() = None;
        *self.end.lock() = None;
        self.expected.lock().disk = false;
        let disk = self.storage().disk;
        match how {
            Crash::Kill => disk.kill(),
            Crash::PowerLoss => {
                disk.power_loss(self.random.lock().next());
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
