//! A node's part in the cluster: its broker groups, the calls between nodes, start and stop.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use duolog_commit_log::{Disk, LogOptions};
use duolog_types::{BrokerGroupId, FlushWish, LogIndex, NodeId, Term};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::disk_space::{self, DiskSpace, DiskState};
use crate::drain::Drain;
use crate::group::{BrokerGroup, GroupOptions, ProposeError};
use crate::guard::Guard;
use crate::guarding::Heard;
use crate::identity::{Identity, IdentityError};
use crate::log_store::EntryTap;
use crate::questions::Questions;
use crate::scrub::ScrubOptions;
use crate::state_machine::StateFactory;
use crate::testing::Hooks;
use crate::type_config::{CommandResponse, Member, RaftLogId};
use crate::wire::{self, proto};
use crate::{balance, bootstrap, files, guarding, retired, service};

/// Raft's times, in milliseconds. Fixed when a node starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaftTimes {
    /// Between two heartbeats.
    pub heartbeat_interval_ms: u64,
    /// Shortest election time-out.
    pub election_timeout_min_ms: u64,
    /// Longest election time-out; also the leader's lease.
    pub election_timeout_max_ms: u64,
}

/// A configured node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// Its id.
    pub id: NodeId,
    /// Host for calls between nodes and for clients.
    pub host: String,
    /// Port for calls between nodes.
    pub grpc_port: u16,
    /// Port of the Kafka front end.
    pub kafka_port: u16,
    /// Port of the RocketMQ front end; 0 when it has none.
    pub rocketmq_port: u16,
    /// Port of HTTP; 0 when it is not known to others.
    pub http_port: u16,
}

impl NodeAddress {
    /// The node as a member, with the incarnation of its data directory.
    pub(crate) fn member(&self, incarnation: String) -> Member {
        Member {
            host: self.host.clone(),
            grpc_port: self.grpc_port,
            kafka_port: self.kafka_port,
            rocketmq_port: self.rocketmq_port,
            http_port: self.http_port,
            incarnation,
        }
    }
}

/// What a node's part in the cluster is started with.
pub struct ClusterOptions {
    /// Name of the cluster.
    pub cluster_name: String,
    /// This node.
    pub node_id: NodeId,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Number of broker groups, the system group included.
    pub broker_groups: u32,
    /// Where the boot id is read.
    pub boot_id_path: PathBuf,
    /// Where calls between nodes are accepted.
    pub grpc_listen: SocketAddr,
    /// All configured nodes, this one included.
    pub nodes: Vec<NodeAddress>,
    /// The commit logs' options.
    pub log: LogOptions,
    /// The file layer.
    pub disk: Arc<dyn Disk>,
    /// With fewer free bytes on the disk of the data directory the node is read-only.
    pub disk_free_bytes_min: u64,
    /// How the log is verified.
    pub scrub: ScrubOptions,
    /// Raft's times.
    pub times: RaftTimes,
    /// Test only: do not send *received* marks.
    pub drop_received_marks: bool,
}

/// Why a node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process uses the data directory.
    #[error("{0} is in use by another process; stop it first, or choose another data_dir")]
    InUse(PathBuf),
    /// The data directory belongs elsewhere.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// This node is not in its own list of nodes.
    #[error("node {0} is not in the list of [[nodes]]")]
    NotListed(NodeId),
    /// The address for calls between nodes.
    #[error(
        "cannot listen on {address} (listen.grpc in node.toml): is another process using it, or is it no address of this machine?"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The disk, the log or the state.
    #[error("{context}")]
    Io {
        /// What was tried.
        context: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// What the tasks and the service of a node share.
pub(crate) struct Shared {
    pub(crate) identity: Arc<Identity>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) options: ClusterOptions,
    pub(crate) drop_received_marks: bool,
    pub(crate) hooks: Hooks,
    pub(crate) questions: Questions,
    pub(crate) drain: Drain,
    groups: BTreeMap<BrokerGroupId, Arc<BrokerGroup>>,
    started: Instant,
    had_data: bool,
    heard: Mutex<Heard>,
    announced: Mutex<BTreeMap<u64, proto::Member>>,
    disk_space: watch::Receiver<DiskSpace>,
    fatal: watch::Sender<Option<String>>,
}

/// A node's part in the cluster.
pub struct Cluster {
    shared: Arc<Shared>,
    runtime: Mutex<Option<Runtime>>,
    _lock: File,
}

fn context(what: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Io { context: what.into(), source }
}

/// Takes a data directory for this process alone, until the file is dropped.
///
/// # Errors
/// Another process has it, or it cannot be made or opened.
pub fn lock_data_dir(data_dir: &Path) -> Result<File, StartError> {
    files::create_dir_all(data_dir)
        .map_err(context(format!("cannot create {} (data_dir in node.toml)", data_dir.display())))?;
    let path = data_dir.join("LOCK");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(context(format!("opening {}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StartError::InUse(data_dir.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => Err(context(format!("locking {}", path.display()))(source)),
    }
}

impl Cluster {
    /// Recovers every broker group and starts to take part. Blocks while logs are recovered.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        options: ClusterOptions,
        factory: Arc<dyn StateFactory>,
        tap: impl Fn(BrokerGroupId) -> Arc<dyn EntryTap>,
    ) -> Result<Self, StartError> {
        Self::start_with(options, factory, tap, Hooks::default())
    }

    /// As [`Cluster::start`], for the tests.
    ///
    /// # Errors
    /// See [`StartError`].
    #[doc(hidden)]
    pub fn start_with(
        options: ClusterOptions,
        factory: Arc<dyn StateFactory>,
        tap: impl Fn(BrokerGroupId) -> Arc<dyn EntryTap>,
        hooks: Hooks,
    ) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("raft")
            .enable_all()
            .build()
            .map_err(context("starting the Raft runtime"))?;
        let cluster = runtime.block_on(Self::join_here(options, factory, tap, hooks))?;
        *cluster.runtime.lock() = Some(runtime);
        Ok(cluster)
    }

    /// As [`Cluster::start`], on the runtime of the caller: for a simulation, in which nothing may run beside.
    ///
    /// # Errors
    /// See [`StartError`].
    #[doc(hidden)]
    pub async fn join_here(
        options: ClusterOptions,
        factory: Arc<dyn StateFactory>,
        tap: impl Fn(BrokerGroupId) -> Arc<dyn EntryTap>,
        hooks: Hooks,
    ) -> Result<Self, StartError> {
        if !options.nodes.iter().any(|node| node.id == options.node_id) {
            return Err(StartError::NotListed(options.node_id));
        }
        let lock = lock_data_dir(&options.data_dir)?;
        let identity = Arc::new(Identity::open(&options.data_dir, &options.cluster_name, options.node_id)?);
        let ids: Vec<BrokerGroupId> = (0..options.broker_groups).map(BrokerGroupId).collect();
        let guard =
            Guard::open(&options.data_dir, &options.boot_id_path, &ids).map_err(context("the power-loss guard"))?;
        let guard = Arc::new(guard);
        let drain = Drain::open(&options.data_dir).map_err(context("the marker of a drained node"))?;
        let groups = recover(&options, &ids, (identity.clone(), guard.clone()), factory, tap, &hooks).await?;
        let watcher = disk_space::Watcher {
            disk: options.disk.clone(),
            data_dir: options.data_dir.clone(),
            free_bytes_min: options.disk_free_bytes_min,
        };
        let space = watcher.look(DiskState::Writable).map_err(context("looking at the disk's free space"))?;
        let (space_tx, disk_space) = watch::channel(space);
        tokio::spawn(watcher.run(space_tx));
        let had_data = groups.values().any(|group| group.log().vote().is_some() || group.log().last().is_some());
        let shared = Arc::new(Shared {
            identity,
            guard,
            drop_received_marks: options.drop_received_marks,
            hooks,
            questions: Questions::default(),
            drain,
            groups,
            started: Instant::now(),
            had_data,
            heard: Mutex::new(Heard::default()),
            announced: Mutex::new(BTreeMap::new()),
            disk_space,
            fatal: watch::channel(None).0,
            options,
        });
        // The cores run before anybody can call them.
        for group in shared.groups.values() {
            group.raft.run();
            tokio::spawn(watch_failure(shared.clone(), group.clone()));
            tokio::spawn(watch_core(shared.clone(), group.clone()));
        }
        service::listen(shared.clone()).await?;
        tokio::spawn(bootstrap::run(shared.clone()));
        tokio::spawn(retired::watch(shared.clone()));
        tokio::spawn(guarding::run(shared.clone()));
        tokio::spawn(balance::run(shared.clone()));
        Ok(Self { shared, runtime: Mutex::new(None), _lock: lock })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn take_runtime(&self) -> Option<Runtime> {
        self.runtime.lock().take()
    }

    /// The node's identity.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// The disk of the data directory, as it was seen last.
    #[must_use]
    pub fn disk_space(&self) -> DiskSpace {
        self.shared.disk_space()
    }

    /// The power-loss guard.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.shared.guard
    }

    /// Whether the node gives its leaderships away.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.shared.drain.is_on()
    }

    /// Every broker group of this node, by id.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<BrokerGroup>> {
        self.shared.groups.values()
    }

    /// A broker group.
    #[must_use]
    pub fn group(&self, id: BrokerGroupId) -> Option<&Arc<BrokerGroup>> {
        self.shared.groups.get(&id)
    }

    /// The node cannot go on; the first reason counts.
    pub fn fail(&self, reason: String) {
        self.shared.fail(reason);
    }

    /// Set when the node must stop: a failed disk, or an identity that the cluster refuses.
    #[must_use]
    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.shared.fatal.subscribe()
    }

    /// Proposes a command to the leader of a broker group, wherever it is, until it is applied there or `deadline` passes.
    ///
    /// # Errors
    /// [`ProposeError::Unknown`] when the outcome is not known by the deadline.
    pub async fn propose(
        &self,
        group: BrokerGroupId,
        command: Bytes,
        flush: FlushWish,
        deadline: Instant,
    ) -> Result<(LogIndex, CommandResponse), ProposeError> {
        self.shared.propose(group, command, flush, deadline).await
    }

    /// The last log id of a broker group's leader, with the leader's term: asked wherever it is, under a valid lease. `None`
    /// when no leader answers.
    pub async fn leader_last(&self, group: BrokerGroupId) -> Option<(Term, LogIndex)> {
        let replica = self.group(group)?;
        let leader = replica.leadership().borrow().leader?;
        let member = replica.members().into_iter().find(|view| view.node_id == leader)?.member;
        let status = self.shared.ask_status(group, leader, &member).await.filter(|status| status.is_leader)?;
        Some((Term(status.vote?.term), LogIndex(status.last?.index)))
    }

    /// Members of the system group that answer now.
    pub async fn reachable(&self) -> BTreeSet<NodeId> {
        let Some(group) = self.shared.group(BrokerGroupId::SYSTEM) else { return BTreeSet::new() };
        let shared = &self.shared;
        let asked = group.members().into_iter().map(|view| async move {
            let answer = shared.ask_status(BrokerGroupId::SYSTEM, view.node_id, &view.member).await;
            answer.map(|_| view.node_id)
        });
        futures_util::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// Hands over leadership, flushes everything, and marks the stop as clean. Blocks; a second call does nothing.
    ///
    /// # Errors
    /// Something could not be flushed: the next start counts as one after a crash.
    pub fn stop(&self) -> io::Result<()> {
        let Some(runtime) = self.take_runtime() else { return Ok(()) };
        let result = runtime.block_on(self.stop_here());
        runtime.shutdown_timeout(Duration::from_secs(2));
        result
    }

    /// As [`Cluster::stop`], on the runtime of the caller, whose tasks then go with it: for a simulation.
    ///
    /// # Errors
    /// Something could not be flushed.
    #[doc(hidden)]
    pub async fn stop_here(&self) -> io::Result<()> {
        balance::hand_over_everything(&self.shared).await;
        for group in self.shared.groups.values() {
            group.close().await?;
        }
        self.shared.guard.mark_clean()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(runtime) = self.take_runtime() {
            runtime.shutdown_background();
        }
    }
}

/// Opens every broker group. Recovery waits for disks, so they recover side by side.
async fn recover(
    options: &ClusterOptions,
    ids: &[BrokerGroupId],
    (identity, guard): (Arc<Identity>, Arc<Guard>),
    factory: Arc<dyn StateFactory>,
    tap: impl Fn(BrokerGroupId) -> Arc<dyn EntryTap>,
    hooks: &Hooks,
) -> Result<BTreeMap<BrokerGroupId, Arc<BrokerGroup>>, StartError> {
    let mut opening = Vec::new();
    for id in ids.iter().copied() {
        let dir = options.data_dir.join("groups").join(id.to_string());
        files::create_dir_all(&dir).map_err(context(format!("creating {}", dir.display())))?;
        let group_options = GroupOptions {
            id,
            node_id: options.node_id,
            disk: options.disk.clone(),
            log: options.log.clone(),
            times: options.times,
            cluster_name: options.cluster_name.clone(),
            tap: tap(id),
            factory: factory.clone(),
            identity: identity.clone(),
            guard: guard.clone(),
            hooks: hooks.clone(),
            nodes: options.nodes.iter().map(|node| (node.id, node.member(String::new()))).collect(),
            scrub: ScrubOptions {
                bytes_per_second: options.scrub.bytes_per_second / u64::from(options.broker_groups.max(1)),
                ..options.scrub
            },
        };
        let opened = tokio::spawn(async move {
            let group = BrokerGroup::open(&dir, group_options).await;
            group.map_err(context(format!("broker group {id} in {}", dir.display())))
        });
        opening.push((id, opened));
    }
    let mut groups = BTreeMap::new();
    for (id, opened) in opening {
        let group = opened.await.map_err(|panic| context("recovery")(io::Error::other(panic)))??;
        guarding::let_stand(&group, false);
        groups.insert(id, group);
    }
    Ok(groups)
}

/// The first failed write or flush ends the node; it counts as a power loss.
async fn watch_failure(shared: Arc<Shared>, group: Arc<BrokerGroup>) {
    let mut failed = group.progress.failed.clone();
    if let Ok(reason) = failed.wait_for(Option::is_some).await {
        let reason = reason.clone().unwrap_or_default();
        shared.guard.mark_io_error();
        shared.fail(format!("the commit log of broker group {} failed: {reason}", group.id()));
    }
}

/// A Raft core that has stopped by itself (a full disk, damaged state) leaves a replica that does nothing: the node ends.
async fn watch_core(shared: Arc<Shared>, group: Arc<BrokerGroup>) {
    if let Some(reason) = group.core_failure().await {
        // It may hear of a failed write or flush first, and the process ends with the first reason.
        if group.log().failure().is_some() {
            shared.guard.mark_io_error();
        }
        shared.fail(format!("the Raft core of broker group {} has stopped: {reason}", group.id()));
    }
}

impl Shared {
    pub(crate) fn group(&self, id: BrokerGroupId) -> Option<Arc<BrokerGroup>> {
        self.groups.get(&id).cloned()
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &Arc<BrokerGroup>> {
        self.groups.values()
    }

    pub(crate) fn group_dir(&self, id: BrokerGroupId) -> PathBuf {
        self.options.data_dir.join("groups").join(id.to_string())
    }

    pub(crate) fn node_id(&self) -> NodeId {
        self.options.node_id
    }

    /// The node cannot go on.
    pub(crate) fn fail(&self, reason: String) {
        self.fatal.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason);
            }
            first
        });
    }

    /// Whether a lease that this node granted before its restart may still hold.
    pub(crate) fn lease_of_earlier_life_may_hold(&self) -> bool {
        self.had_data && self.started.elapsed() < Duration::from_millis(self.options.times.election_timeout_max_ms)
    }

    /// A member of any group, if this node knows it.
    pub(crate) fn known_member(&self, node: NodeId) -> Option<Member> {
        self.groups
            .values()
            .find_map(|group| group.members().into_iter().find(|member| member.node_id == node))
            .map(|view| view.member)
    }

    pub(crate) fn known_incarnation(&self, node: NodeId) -> Option<String> {
        self.known_member(node).map(|member| member.incarnation)
    }

    /// This node as a member.
    pub(crate) fn own_member(&self) -> Member {
        let own = self.options.nodes.iter().find(|node| node.id == self.node_id()).expect("checked at the start");
        own.member(self.identity.get().incarnation.0)
    }

    pub(crate) fn announced(&self, member: proto::Member) {
        self.announced.lock().insert(member.node_id, member);
    }

    pub(crate) fn announced_member(&self, node: NodeId) -> Option<Member> {
        let announced = self.announced.lock();
        announced.get(&node.0).map(wire::member_from_wire)
    }

    pub(crate) fn is_initialized(&self) -> bool {
        self.groups.values().any(|group| group.log().vote().is_some() || group.log().last().is_some())
    }

    pub(crate) fn probe_reply(&self) -> proto::ProbeReply {
        let file = self.identity.get();
        let members = self.groups.get(&BrokerGroupId::SYSTEM).map(|group| group.members()).unwrap_or_default();
        proto::ProbeReply {
            cluster_name: file.cluster_name,
            cluster_id: file.cluster_id.unwrap_or_default(),
            node_id: file.node_id.0,
            incarnation: file.incarnation.0,
            initialized: self.is_initialized(),
            members: members.into_iter().map(|view| wire::member_to_wire(view.node_id, view.member)).collect(),
            broker_groups: self.options.broker_groups,
            retired: self.retired_nodes().into_iter().map(|node| node.0).collect(),
        }
    }

    pub(crate) fn replica_status(&self, group: &BrokerGroup) -> proto::ReplicaStatusReply {
        let leadership = *group.leadership().borrow();
        let applied_next = group.applied().borrow().map_or(0, |mark| mark.index + 1);
        let wire = |mark: crate::Mark| proto::LogId { term: mark.term, index: mark.index };
        let last = group.log().last().or(group.log().purged());
        proto::ReplicaStatusReply {
            vote: Some(wire::vote_to_wire(&crate::service::current_vote(group))),
            last: last.map(|(term, index)| proto::LogId { term: term.0, index: index.0 }),
            flushed: group.progress.flushed.borrow().map(wire),
            applied_next,
            is_leader: leadership.is_self && group.lease_is_valid(leadership.term),
            guarded: self.guard.is_guarded(group.id()),
            readable_next: applied_next,
            boot: self.guard.boot(),
            drained: self.drain.is_on(),
            disk: wire::disk_to_wire(self.disk_space().state).into(),
        }
    }

    pub(crate) fn disk_space(&self) -> DiskSpace {
        *self.disk_space.borrow()
    }

    pub(crate) fn heard(&self) -> &Mutex<Heard> {
        &self.heard
    }

    /// Whether a guarded node may help this candidate: its log is at least that of every member, each heard lately.
    pub(crate) fn guarded_may_grant(&self, group: BrokerGroupId, candidate_last: Option<&RaftLogId>) -> bool {
        let members = self.groups.get(&group).map(|group| group.members()).unwrap_or_default();
        self.heard.lock().candidate_has_everything(group, &members, candidate_last)
    }
}
