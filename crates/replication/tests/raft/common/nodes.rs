//! The nodes: started, stopped, killed, robbed of power.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use duolog_commit_log::{LogOptions, SimDisk};
use duolog_replication::admin::{AdminReply, AdminRequest, call};
use duolog_replication::testing::{self, Hooks};
use duolog_replication::{
    BrokerGroup, Cluster, ClusterOptions, CommandResponse, Leadership, NodeAddress, Proposal, ProposeError, RaftTimes,
    ScrubOptions, StartError, TypeConfig, outcome,
};
use duolog_state::EntryKind;
use duolog_types::{BrokerGroupId, FlushWish, LogIndex, NodeId};
use openraft::raft::ClientWriteResult;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::disk::{Door, Gate, gated};
use super::links::Links;
use super::state::{NoTap, Recorder};

/// The broker group that most tests use.
pub const GROUP: BrokerGroupId = BrokerGroupId::SYSTEM;
/// How long a condition may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// Nodes that may be started; the first three are members from the beginning.
const NODES: [u64; 4] = [1, 2, 3, 4];
const MEMBERS: [u64; 3] = [1, 2, 3];

/// What the nodes are started with.
#[derive(Clone)]
pub struct Settings {
    pub broker_groups: u32,
    pub times: RaftTimes,
    pub log: LogOptions,
    pub scrub: ScrubOptions,
    pub disk_free_bytes_min: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            broker_groups: 1,
            times: RaftTimes { heartbeat_interval_ms: 50, election_timeout_min_ms: 250, election_timeout_max_ms: 400 },
            log: LogOptions {
                segment_size_bytes: 1 << 20,
                allocation_step_bytes: 1 << 20,
                flush_delay_ms_max: 62,
                ..LogOptions::default()
            },
            scrub: ScrubOptions::default(),
            disk_free_bytes_min: 0,
        }
    }
}

impl Settings {
    /// Slow to elect: for what must happen before anybody else stands.
    pub fn patient() -> Self {
        let times =
            RaftTimes { heartbeat_interval_ms: 50, election_timeout_min_ms: 1_200, election_timeout_max_ms: 1_600 };
        Self { times, ..Self::default() }
    }
}

struct Node {
    running: Option<Cluster>,
    dir: PathBuf,
    port: u16,
    disk: SimDisk,
    gate: Gate,
    recorder: Recorder,
    boot: u32,
}

/// Who led, as the nodes saw it.
pub type Elections = Arc<Mutex<Vec<(u64, Leadership)>>>;
/// What a proposal comes to.
pub type Answer = oneshot::Receiver<ClientWriteResult<TypeConfig>>;

/// The nodes of a test, by id from 1.
pub struct Nodes {
    pub links: Links,
    pub runtime: Runtime,
    /// For the nodes that are started from now on.
    pub hooks: Hooks,
    settings: Settings,
    nodes: BTreeMap<u64, Node>,
    _root: tempfile::TempDir,
}

/// A port below those that the kernel gives to outgoing connections, so that it stays free while its node is down.
fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).expect("below the count");
    loop {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A body that begins with a text.
pub fn body(text: &str, bytes: usize) -> Bytes {
    let mut body = text.as_bytes().to_vec();
    if body.len() < bytes {
        body.push(0);
    }
    // No zeros: what a power loss takes back reads as zeros.
    body.resize(bytes.max(body.len()), 0xee);
    body.into()
}

/// An operator's call.
pub fn ask(nodes: &Nodes, id: u64, request: &AdminRequest) -> AdminReply {
    nodes.runtime.block_on(call(&nodes.address(id), request)).unwrap()
}

impl Nodes {
    /// Three nodes, one of which leads.
    pub fn start() -> Self {
        Self::start_with(Settings::default())
    }

    pub fn start_with(settings: Settings) -> Self {
        let mut nodes = Self::not_started(settings);
        MEMBERS.iter().for_each(|id| nodes.start_node(*id));
        nodes.leader();
        nodes
    }

    /// Three nodes with empty directories, to be started one by one.
    pub fn not_started(settings: Settings) -> Self {
        let root = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let nodes: BTreeMap<u64, Node> = NODES
            .iter()
            .map(|id| {
                let dir = root.path().join(format!("node-{id}"));
                std::fs::create_dir(&dir).unwrap();
                let node = Node {
                    running: None,
                    dir,
                    port: free_port(),
                    disk: SimDisk::new(),
                    gate: Gate::default(),
                    recorder: Recorder::default(),
                    boot: 1,
                };
                (*id, node)
            })
            .collect();
        let links = Links::open(&runtime, &nodes.iter().map(|(id, node)| (*id, node.port)).collect());
        Self { links, runtime, hooks: Hooks::default(), settings, nodes, _root: root }
    }

    fn options(&self, id: u64) -> ClusterOptions {
        let node = &self.nodes[&id];
        let boot_id_path = node.dir.join("boot_id");
        std::fs::write(&boot_id_path, format!("boot-{}", node.boot)).unwrap();
        let listed = self.nodes.iter().filter(|(other, _)| MEMBERS.contains(other) || **other == id);
        ClusterOptions {
            cluster_name: "test".to_owned(),
            node_id: NodeId(id),
            data_dir: node.dir.join("data"),
            broker_groups: self.settings.broker_groups,
            boot_id_path,
            grpc_listen: ([127, 0, 0, 1], node.port).into(),
            nodes: listed
                .map(|(id, node)| NodeAddress {
                    id: NodeId(*id),
                    host: "127.0.0.1".to_owned(),
                    grpc_port: node.port,
                    kafka_port: 1,
                    rocketmq_port: 0,
                    http_port: 0,
                })
                .collect(),
            log: self.settings.log.clone(),
            disk: Arc::new(gated(node.disk.process(), node.gate.clone())),
            disk_free_bytes_min: self.settings.disk_free_bytes_min,
            scrub: self.settings.scrub,
            times: self.settings.times,
            drop_received_marks: false,
        }
    }

    /// Starts a node, or says why it refuses to.
    pub fn try_start(&mut self, id: u64) -> Result<(), StartError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let links = self.links.clone();
            let hooks = Hooks {
                address_of: Some(Arc::new(move |to| ("127.0.0.1".to_owned(), links.port(id, to.0)))),
                ..self.hooks.clone()
            };
            let factory = Arc::new(self.nodes[&id].recorder.clone());
            match Cluster::start_with(self.options(id), factory, |_| Arc::new(NoTap), hooks) {
                // The process before it has not let go yet.
                Err(StartError::Listen { .. } | StartError::InUse(_)) if Instant::now() < deadline => {
                    std::thread::sleep(LOOK_INTERVAL);
                }
                Err(error) => return Err(error),
                Ok(running) => {
                    self.node_mut(id).running = Some(running);
                    return Ok(());
                }
            }
        }
    }

    pub fn start_node(&mut self, id: u64) {
        self.try_start(id).unwrap();
    }

    fn node_mut(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("one of the test's nodes")
    }

    /// As kill -9: what was written stays.
    pub fn kill(&mut self, id: u64) {
        self.end(id, SimDisk::kill);
    }

    /// What was not flushed is lost or not, page by page; the machine boots anew.
    pub fn lose_power(&mut self, id: u64, seed: u64) {
        self.end(id, |disk| disk.power_loss(seed));
        self.node_mut(id).boot += 1;
    }

    fn end(&mut self, id: u64, end: impl FnOnce(&SimDisk)) {
        let node = self.node_mut(id);
        let Some(running) = node.running.take() else { return };
        testing::kill(&running);
        end(&node.disk);
        // What stood before a gate finds the disk gone.
        node.gate.release(Door::Write);
        node.gate.release(Door::Flush);
    }

    /// A planned stop.
    pub fn stop(&mut self, id: u64) {
        let node = self.node_mut(id);
        node.running.take().expect("it runs").stop().unwrap();
        node.disk.kill();
    }

    /// The node's data is gone, as after a new disk.
    pub fn empty(&mut self, id: u64) {
        let node = self.node_mut(id);
        assert!(node.running.is_none());
        std::fs::remove_dir_all(node.dir.join("data")).unwrap();
        node.disk = SimDisk::new();
    }

    /// The machine was started again.
    pub fn reboot(&mut self, id: u64) {
        self.node_mut(id).boot += 1;
    }

    pub fn node(&self, id: u64) -> &Cluster {
        self.nodes[&id].running.as_ref().expect("it runs")
    }

    pub fn group(&self, id: u64) -> Arc<BrokerGroup> {
        self.node(id).group(GROUP).unwrap().clone()
    }

    pub fn gate(&self, id: u64) -> &Gate {
        &self.nodes[&id].gate
    }

    pub fn disk(&self, id: u64) -> &SimDisk {
        &self.nodes[&id].disk
    }

    pub fn data_dir(&self, id: u64) -> PathBuf {
        self.nodes[&id].dir.join("data")
    }

    pub fn recorder(&self, id: u64) -> &Recorder {
        &self.nodes[&id].recorder
    }

    pub fn address(&self, id: u64) -> String {
        format!("127.0.0.1:{}", self.nodes[&id].port)
    }

    /// Ids of the nodes that run.
    pub fn running(&self) -> Vec<u64> {
        self.nodes.iter().filter(|(_, node)| node.running.is_some()).map(|(id, _)| *id).collect()
    }

    /// The nodes that run, without one.
    pub fn others(&self, id: u64) -> Vec<u64> {
        self.running().into_iter().filter(|other| *other != id).collect()
    }

    /// Waits until there is something.
    pub fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < deadline, "waited in vain: {what}\n{}", self.describe());
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    pub fn until_true(&self, what: &str, mut look: impl FnMut() -> bool) {
        self.until(what, || look().then_some(()));
    }

    fn describe(&self) -> String {
        let line = |id: &u64| {
            let group = self.group(*id);
            let (leadership, watermarks) = (*group.leadership().borrow(), *group.watermarks().borrow());
            let log = group.log();
            format!("node {id}: {leadership:?} {watermarks:?} log {:?} flushed {:?}", log.last(), log.flushed())
        };
        self.running().iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// The node that leads a group and has applied the first entry of its term.
    fn leader_of(&self, group: BrokerGroupId) -> Option<u64> {
        self.running().into_iter().find(|id| {
            let group = self.node(*id).group(group).unwrap();
            let leadership = *group.leadership().borrow();
            leadership.is_self
                && group.lease_is_valid(leadership.term)
                && group.applied().borrow().is_some_and(|mark| mark.term == leadership.term.0)
        })
    }

    /// Waits for a leader.
    pub fn leader(&self) -> u64 {
        self.until("a leader", || self.leader_of(GROUP))
    }

    /// Waits for leaders of these groups: group `i` led by the `i`-th.
    pub fn until_led_by(&self, leaders: &[u64]) {
        self.until_true("leaders in their places", || {
            (0..).zip(leaders).all(|(group, leader)| self.leader_of(BrokerGroupId(group)) == Some(*leader))
        });
    }

    /// Makes a node the leader.
    pub fn make_leader(&self, id: u64) {
        loop {
            let leader = self.leader();
            if leader == id {
                return;
            }
            self.runtime.block_on(self.group(leader).transfer_leadership(NodeId(id))).unwrap();
            let deadline = Instant::now() + Duration::from_secs(1);
            self.until_true("the transfer", || self.leader_of(GROUP) == Some(id) || Instant::now() > deadline);
        }
    }

    /// The term in which a node leads.
    pub fn term(&self, id: u64) -> u64 {
        self.group(id).leadership().borrow().term.0
    }

    /// Follows who leads from now on.
    pub fn elections(&self) -> Elections {
        let elections = Elections::default();
        for id in self.running() {
            let (elections, mut leadership) = (elections.clone(), self.group(id).leadership());
            leadership.mark_unchanged();
            self.runtime.spawn(async move {
                while leadership.changed().await.is_ok() {
                    let now = *leadership.borrow_and_update();
                    elections.lock().push((id, now));
                }
            });
        }
        elections
    }

    /// Proposes at a leader without waiting for the answer.
    pub fn propose(&self, leader: u64, body: Bytes, flush: FlushWish) -> Answer {
        let group = self.group(leader);
        let term = group.leadership().borrow().term;
        let proposal = Proposal { kind: EntryKind::Command, flush, body };
        self.runtime.block_on(group.propose_as(term, proposal)).unwrap()
    }

    /// As [`Nodes::propose`], and waits until it has a place in the leader's log. Nobody else may propose.
    pub fn append(&self, leader: u64, body: Bytes, flush: FlushWish) -> (LogIndex, Answer) {
        let log = self.group(leader).log().clone();
        let before = log.last();
        let answer = self.propose(leader, body, flush);
        let (_, index) = self.until("an appended proposal", || log.last().filter(|last| before < Some(*last)));
        (index, answer)
    }

    pub fn answer(&self, answer: Answer) -> Result<(LogIndex, CommandResponse), ProposeError> {
        let answer = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await });
        outcome(answer.expect("an answer in time").expect("the core answers"))
    }

    /// Proposes where the leader is, and waits until it is applied there.
    pub fn write(&self, text: &str) -> LogIndex {
        let id = *self.running().first().expect("a node runs");
        let write = self.node(id).propose(GROUP, body(text, 0), FlushWish::Now, Instant::now() + PATIENCE);
        self.runtime.block_on(write).unwrap().0
    }

    /// Waits until every running node has applied a text.
    pub fn until_everywhere(&self, text: &str) {
        for id in self.running() {
            self.until_true(&format!("{text:?} on node {id}"), || {
                self.recorder(id).texts(GROUP).iter().any(|t| t == text)
            });
        }
    }

    /// Waits until a quorum has written everything below `next`.
    pub fn until_received(&self, leader: u64, next: LogIndex) {
        let watermarks = self.group(leader).watermarks();
        self.until_true("a quorum's page cache", || watermarks.borrow().received_next >= next.0);
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.running().into_iter().for_each(|id| self.kill(id));
    }
}
