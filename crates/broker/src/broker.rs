//! The broker of a node: wires broker groups, catalog and tasks, and answers front ends.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use duolog_coordinator::groups::{HeartbeatRequest, JoinReply, JoinRequest, LeaveRequest, SyncReply, SyncRequest};
use duolog_record::group::GroupId;
use duolog_replication::admin::{AdminReply, AdminRequest};
use duolog_replication::{Cluster, ProposeError};
use duolog_state::Response;
use duolog_state::command::Command;
use duolog_types::GroupConfig as ConsumerGroupConfig;
use duolog_types::{BrokerGroupId, Durability, FlushWish, LeaderEpoch, NodeId, Offset, TopicId};
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::access::FirstUser;
use crate::api::{
    BrokerApi, BrokerConfigValue, ClusterView, ConfigEdit, CreatedTopic, Elected, Election, EpochCheck, EpochEnd,
    Fetch, Fetched, FoundOffset, GroupDescription, GroupListing, GroupOffset, ItemResult, JoinRefusal, LogDirView,
    NewPartitions, NewTopic, NodeView, OffsetCommits, OffsetQuery, ProducePartition, Produced, ProducerIdentity,
    ProducerView, QuorumView, TopicRef, TopicView,
};
use crate::catalog::{Catalog, Located};
use crate::error::BrokerError;
use crate::groups::{self, Coordinator};
use crate::message_api::Consumer;
use crate::producer_ids::ProducerIds;
use crate::request_budget::Admission;
use crate::runtime::GroupRuntime;
use crate::trace::Traces;
use crate::{
    consumers, fetch, group_configs, inspect, leaders, new_partitions, offsets, produce, producer_ids, records, topics,
    views,
};

/// Between two looks at which nodes answer.
const LIVENESS_INTERVAL: Duration = Duration::from_millis(500);

/// Settings of a node's broker.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Partitions of a topic that does not say (`num.partitions`).
    pub num_partitions: u32,
    /// Whether topics are created on first use (`auto.create.topics.enable`).
    pub auto_create_topics: bool,
    /// Between two looks at retention, in milliseconds.
    pub retention_check_interval_ms: u64,
    /// How long committed offsets of empty groups are kept, in milliseconds (`offsets.retention.minutes`).
    pub offsets_retention_ms: u64,
    /// Between two looks at committed offsets, in milliseconds (`offsets.retention.check.interval.ms`).
    pub offsets_retention_check_interval_ms: u64,
    /// How long an idle idempotent producer is remembered, in milliseconds (`producer.id.expiration.ms`).
    pub producer_id_expiration_ms: u64,
    /// Between two looks at producers, in milliseconds (`producer.id.expiration.check.interval.ms`).
    pub producer_id_expiration_check_interval_ms: u64,
    /// Between two looks at how far groups of single messages have come, in milliseconds.
    pub consumer_offset_interval_ms: u64,
    /// How long a delivery stays out because its consumer lives, in milliseconds.
    pub renew_max_ms: u64,
    /// Bytes of all RocksDB write buffers.
    pub write_buffer_bytes: usize,
    /// Bytes of all RocksDB block caches.
    pub block_cache_bytes: usize,
    /// How long an empty consumer group waits for more members after the first (`group.initial.rebalance.delay.ms`).
    pub group_initial_rebalance_delay_ms: u32,
    /// The node's configs by Kafka's names.
    pub broker_configs: Vec<BrokerConfigValue>,
    /// The super user that is made when there are no users.
    pub first_user: Option<FirstUser>,
}

/// The broker of a node; a clone is a handle.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

struct Inner {
    settings: Settings,
    own_id: NodeId,
    data_dir: PathBuf,
    cluster: Cluster,
    runtimes: BTreeMap<BrokerGroupId, Arc<GroupRuntime>>,
    coordinators: BTreeMap<BrokerGroupId, Arc<Coordinator>>,
    catalog: RwLock<Arc<Catalog>>,
    catalog_version: watch::Sender<u64>,
    producer_ids: ProducerIds,
    /// Nodes that did not answer when they were asked last; a node that was not asked yet counts as alive.
    silent: RwLock<BTreeSet<NodeId>>,
    traces: Traces,
}

impl Broker {
    pub(crate) fn of(
        settings: Settings,
        (own_id, data_dir): (NodeId, PathBuf),
        cluster: Cluster,
        runtimes: BTreeMap<BrokerGroupId, Arc<GroupRuntime>>,
        coordinators: BTreeMap<BrokerGroupId, Arc<Coordinator>>,
        traces: Traces,
    ) -> Self {
        Self(Arc::new(Inner {
            settings,
            own_id,
            data_dir,
            cluster,
            runtimes,
            coordinators,
            catalog: RwLock::new(Arc::new(Catalog::default())),
            catalog_version: watch::channel(0).0,
            producer_ids: ProducerIds::default(),
            silent: RwLock::new(BTreeSet::new()),
            traces,
        }))
    }

    pub(crate) fn traces(&self) -> &Traces {
        &self.0.traces
    }

    /// Set when the node must stop.
    #[must_use]
    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.cluster_handle().fatal()
    }

    /// Stops cleanly: hands leadership over, flushes, and marks the stop as clean. Blocks.
    ///
    /// # Errors
    /// Something could not be flushed.
    pub fn stop(&self) -> std::io::Result<()> {
        self.0.cluster.stop()
    }

    /// As [`Broker::stop`], on the runtime of the caller: for a simulation.
    ///
    /// # Errors
    /// Something could not be flushed.
    #[doc(hidden)]
    pub async fn stop_here(&self) -> std::io::Result<()> {
        self.0.cluster.stop_here().await
    }

    /// A replica of this node: for a simulation, which moves leaders about.
    #[doc(hidden)]
    #[must_use]
    pub fn replica(&self, group: BrokerGroupId) -> Option<Arc<duolog_replication::BrokerGroup>> {
        self.0.cluster.group(group).cloned()
    }

    /// Answers an admin call: for a simulation, which has no connection of an operator.
    ///
    /// # Errors
    /// The answer is not understood.
    #[doc(hidden)]
    pub async fn admin(&self, request: AdminRequest) -> Result<AdminReply, String> {
        duolog_replication::testing::admin(&self.0.cluster, &request).await
    }

    /// Whether the power-loss guard keeps a replica of this node from voting: for a simulation.
    #[doc(hidden)]
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        !self.0.cluster.guard().guarded().is_empty()
    }

    /// What this node still waits for before it serves clients: to take part in a cluster, a leader of every broker group, and to have
    /// what was committed when it started. Empty: it is ready.
    #[must_use]
    pub fn unready(&self) -> Vec<String> {
        if !self.catalog().initialized {
            return vec!["this node waits until its cluster is made, or until it is let in".to_owned()];
        }
        let reason = |runtime: &GroupRuntime| match runtime.leadership().leader {
            None => Some(format!("broker group {} has no leader that this node knows of", runtime.id())),
            Some(_) if !runtime.group().has_caught_up() => {
                Some(format!("this node has not caught up in broker group {}", runtime.id()))
            }
            Some(_) => None,
        };
        self.0.runtimes.values().filter_map(|runtime| reason(runtime)).collect()
    }

    /// Whether this node serves clients, see [`Broker::unready`].
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.unready().is_empty()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn own_id(&self) -> NodeId {
        self.0.own_id
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.0.data_dir
    }

    pub(crate) fn cluster_handle(&self) -> &Cluster {
        &self.0.cluster
    }

    pub(crate) fn producer_ids(&self) -> &ProducerIds {
        &self.0.producer_ids
    }

    pub(crate) fn runtimes(&self) -> impl Iterator<Item = &Arc<GroupRuntime>> {
        self.0.runtimes.values()
    }

    pub(crate) fn runtime(&self, id: BrokerGroupId) -> ItemResult<Arc<GroupRuntime>> {
        self.0.runtimes.get(&id).cloned().ok_or(BrokerError::LeaderNotAvailable)
    }

    pub(crate) fn coordinators(&self) -> impl Iterator<Item = (&BrokerGroupId, &Arc<Coordinator>)> {
        self.0.coordinators.iter()
    }

    pub(crate) fn coordinator(&self, id: BrokerGroupId) -> ItemResult<Arc<Coordinator>> {
        self.0.coordinators.get(&id).cloned().ok_or(BrokerError::CoordinatorNotAvailable)
    }

    /// The group whose state counts for a consumer.
    pub(crate) fn group_of(&self, consumer: &Consumer) -> GroupId {
        consumers::member(&self.catalog(), &consumer.group, &consumer.client_id)
    }

    /// The broker group that coordinates a consumer group, once the catalog says which.
    pub(crate) fn coordinating_group(&self, group_id: &str) -> ItemResult<BrokerGroupId> {
        let catalog = self.catalog();
        let broadcasting = consumers::broadcasting(&catalog, &GroupId(group_id.to_owned()));
        let name = broadcasting.as_ref().map_or(group_id, |group| &group.0);
        let slot = coordinator_slot(name, catalog.coordinator_slots.len());
        let group = slot.and_then(|slot| catalog.coordinator_slots.get(slot));
        group.copied().ok_or(BrokerError::CoordinatorNotAvailable)
    }

    pub(crate) fn system(&self) -> Arc<GroupRuntime> {
        self.0.runtimes[&BrokerGroupId::SYSTEM].clone()
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.0.catalog.read().clone()
    }

    /// Finds a partition. A node that has just started may not know a topic that it knew before: then it says "not now".
    pub(crate) fn locate(&self, topic: &TopicRef, partition: i32) -> ItemResult<Located> {
        self.known_yet(self.catalog().partition(topic, partition))
    }

    pub(crate) fn known_yet<T>(&self, found: ItemResult<T>) -> ItemResult<T> {
        match found {
            Err(
                BrokerError::UnknownTopic(_) | BrokerError::UnknownTopicId(_) | BrokerError::UnknownPartition { .. },
            ) if !self.system().group().has_caught_up() => Err(BrokerError::LeaderNotAvailable),
            found => found,
        }
    }

    pub(crate) fn publish_catalog(&self, catalog: Catalog) {
        let version = catalog.version;
        *self.0.catalog.write() = Arc::new(catalog);
        self.0.catalog_version.send_replace(version);
    }

    pub(crate) fn subscribe_catalog(&self) -> watch::Receiver<u64> {
        self.0.catalog_version.subscribe()
    }

    pub(crate) fn is_alive(&self, node: NodeId) -> bool {
        !self.0.silent.read().contains(&node)
    }

    /// Proposes a command to a group's leader, wherever it is.
    pub(crate) async fn propose(
        &self,
        group: BrokerGroupId,
        command: &Command,
        flush: FlushWish,
        deadline: Instant,
    ) -> ItemResult<Response> {
        match self.cluster_handle().propose(group, command.encode(), flush, deadline.into_std()).await {
            Ok((_, response)) => Ok(response.0),
            Err(ProposeError::NotLeader { .. }) => Err(BrokerError::LeaderNotAvailable),
            Err(ProposeError::Unknown(reason)) => Err(BrokerError::RequestTimedOut(reason)),
        }
    }

    /// The data groups, once the catalog says which.
    pub(crate) async fn data_groups(&self, deadline: Instant) -> ItemResult<Vec<BrokerGroupId>> {
        let mut changed = self.subscribe_catalog();
        loop {
            changed.mark_unchanged();
            let catalog = self.catalog();
            if catalog.initialized {
                return Ok(catalog.data_groups.clone());
            }
            tokio::time::timeout_at(deadline, changed.changed())
                .await
                .map_err(|_| BrokerError::RequestTimedOut("the cluster is not ready yet".to_owned()))?
                .map_err(|_| BrokerError::LeaderNotAvailable)?;
        }
    }

    /// Waits until this node's catalog has a version.
    pub(crate) async fn wait_catalog(&self, version: u64, deadline: Instant) -> ItemResult<()> {
        let mut changed = self.subscribe_catalog();
        let reached = changed.wait_for(|known| *known >= version);
        tokio::time::timeout_at(deadline, reached)
            .await
            .map_err(|_| BrokerError::RequestTimedOut("this node's catalog is behind".to_owned()))?
            .map(|_| ())
            .map_err(|_| BrokerError::LeaderNotAvailable)
    }

    /// Waits until this node's catalog has a topic at a version.
    pub(crate) async fn wait_topic_version(&self, id: TopicId, version: u64, deadline: Instant) -> ItemResult<()> {
        let mut changed = self.subscribe_catalog();
        loop {
            changed.mark_unchanged();
            if self.catalog().by_id(id).is_none_or(|topic| topic.row.version >= version) {
                return Ok(());
            }
            tokio::time::timeout_at(deadline, changed.changed())
                .await
                .map_err(|_| BrokerError::RequestTimedOut("this node's catalog is behind".to_owned()))?
                .map_err(|_| BrokerError::LeaderNotAvailable)?;
        }
    }
}

/// A replica that cannot go on ends the node.
pub(crate) async fn watch_failure(broker: Broker, runtime: Arc<GroupRuntime>) {
    let mut failed = runtime.subscribe_failed();
    if let Ok(reason) = failed.wait_for(Option::is_some).await {
        broker.cluster_handle().fail(reason.clone().unwrap_or_default());
    }
}

/// Asks the other nodes, so that metadata does not send clients to one that is gone.
pub(crate) async fn watch_liveness(broker: Broker) {
    let mut tick = tokio::time::interval(LIVENESS_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let alive = broker.cluster_handle().reachable().await;
        let members = broker.system().group().members();
        let silent = members.into_iter().map(|view| view.node_id).filter(|id| !alive.contains(id)).collect();
        *broker.0.silent.write() = silent;
    }
}

impl BrokerApi for Broker {
    fn node_id(&self) -> NodeId {
        self.own_id()
    }

    fn cluster(&self) -> ClusterView {
        views::cluster(self)
    }

    fn topics(&self) -> Vec<TopicView> {
        let catalog = self.catalog();
        catalog.topics().map(|topic| views::topic(self, topic)).collect()
    }

    fn topic(&self, topic: &TopicRef) -> ItemResult<TopicView> {
        let catalog = self.catalog();
        Ok(views::topic(self, self.known_yet(catalog.find(topic))?))
    }

    fn auto_create_topics(&self) -> bool {
        self.settings().auto_create_topics
    }

    fn broker_configs(&self) -> Vec<BrokerConfigValue> {
        self.settings().broker_configs.clone()
    }

    async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        timeout_ms: i32,
        validate_only: bool,
    ) -> Vec<ItemResult<CreatedTopic>> {
        topics::create(self, topics, timeout_ms, validate_only).await
    }

    async fn delete_topics(&self, topics: Vec<TopicRef>, timeout_ms: i32) -> Vec<ItemResult<TopicView>> {
        topics::delete(self, topics, timeout_ms).await
    }

    async fn alter_topic_config(&self, topic: String, edit: ConfigEdit, validate_only: bool) -> ItemResult<()> {
        topics::alter(self, topic, edit, validate_only).await
    }

    fn group_config(&self, group: &GroupId) -> ConsumerGroupConfig {
        self.catalog().group(group).map(|row| row.config.clone()).unwrap_or_default()
    }

    fn member_group(&self, group: &GroupId, client_id: &str) -> GroupId {
        consumers::member(&self.catalog(), group, client_id)
    }

    fn configured_groups(&self) -> Vec<GroupId> {
        self.catalog().groups().map(|(group, _)| group.clone()).collect()
    }

    async fn alter_group_config(&self, group: GroupId, edit: ConfigEdit, validate_only: bool) -> ItemResult<()> {
        group_configs::alter(self, group, edit, validate_only).await
    }

    async fn create_partitions(
        &self,
        topics: Vec<NewPartitions>,
        timeout_ms: i32,
        validate_only: bool,
    ) -> Vec<ItemResult<()>> {
        new_partitions::create(self, topics, timeout_ms, validate_only).await
    }

    async fn delete_records(
        &self,
        topic: TopicRef,
        partition: i32,
        before: Option<Offset>,
        timeout_ms: i32,
    ) -> ItemResult<Offset> {
        records::delete_before(self, &topic, partition, before, timeout_ms).await
    }

    fn log_dir(&self) -> ItemResult<LogDirView> {
        inspect::log_dir(self)
    }

    async fn producers(&self, topic: TopicRef, partition: i32) -> ItemResult<Vec<ProducerView>> {
        inspect::producers(self, &topic, partition).await
    }

    async fn elect_leaders(
        &self,
        partitions: Vec<(TopicRef, i32)>,
        election: Election,
        timeout_ms: i32,
    ) -> Vec<ItemResult<Elected>> {
        leaders::elect(self, partitions, election, timeout_ms).await
    }

    async fn system_quorum(&self) -> ItemResult<QuorumView> {
        leaders::system_quorum(self).await
    }

    async fn produce(&self, partitions: Vec<ProducePartition>, timeout_ms: i32) -> Vec<ItemResult<Produced>> {
        produce::produce(self, partitions, timeout_ms).await
    }

    fn confirm(&self, produced: Produced) -> ItemResult<Produced> {
        produce::confirm(self, produced)
    }

    async fn fetch(&self, fetch: Fetch) -> Vec<ItemResult<Fetched>> {
        fetch::fetch(self, fetch).await
    }

    async fn list_offset(
        &self,
        topic: TopicRef,
        partition: i32,
        query: OffsetQuery,
        epoch: EpochCheck,
    ) -> ItemResult<FoundOffset> {
        offsets::list_offset(self, topic, partition, query, epoch).await
    }

    async fn leader_epoch_end(
        &self,
        topic: TopicRef,
        partition: i32,
        leader_epoch: LeaderEpoch,
        epoch: EpochCheck,
    ) -> ItemResult<Option<EpochEnd>> {
        offsets::leader_epoch_end(self, topic, partition, leader_epoch, epoch).await
    }

    async fn init_producer_id(&self, known: Option<ProducerIdentity>) -> ItemResult<ProducerIdentity> {
        producer_ids::init(self, known).await
    }

    fn find_group_coordinator(&self, group_id: &str) -> ItemResult<NodeView> {
        let group = self.coordinating_group(group_id)?;
        let leader = self.runtime(group)?.leadership().leader.ok_or(BrokerError::CoordinatorNotAvailable)?;
        let nodes = views::cluster(self).nodes;
        nodes.into_iter().find(|node| node.id == leader).ok_or(BrokerError::CoordinatorNotAvailable)
    }

    async fn join_group(&self, request: JoinRequest, share: Option<Admission>) -> Result<JoinReply, JoinRefusal> {
        groups::join(self, request, share).await
    }

    async fn sync_group(&self, request: SyncRequest, share: Option<Admission>) -> ItemResult<SyncReply> {
        groups::sync(self, request, share).await
    }

    async fn heartbeat(&self, request: HeartbeatRequest) -> ItemResult<()> {
        groups::heartbeat(self, request).await
    }

    async fn leave_group(&self, request: LeaveRequest) -> ItemResult<Vec<ItemResult<()>>> {
        groups::leave(self, request).await
    }

    async fn commit_offsets(&self, request: OffsetCommits) -> Vec<ItemResult<()>> {
        groups::commit(self, request).await
    }

    async fn fetch_offsets(
        &self,
        group: GroupId,
        wanted: Option<Vec<(TopicRef, i32)>>,
    ) -> ItemResult<Vec<GroupOffset>> {
        groups::fetch(self, group, wanted).await
    }

    async fn list_groups(&self) -> ItemResult<Vec<GroupListing>> {
        groups::list(self).await
    }

    async fn describe_group(&self, group: GroupId) -> ItemResult<Option<GroupDescription>> {
        groups::describe(self, group).await
    }

    async fn delete_group(&self, group: GroupId) -> ItemResult<()> {
        groups::delete(self, group).await
    }

    async fn delete_offsets(
        &self,
        group: GroupId,
        partitions: Vec<(TopicRef, i32)>,
    ) -> ItemResult<Vec<ItemResult<()>>> {
        groups::delete_offsets(self, group, partitions).await
    }

    fn durability(&self, topic: &TopicRef) -> ItemResult<Durability> {
        Ok(self.catalog().find(topic)?.row.config.durability())
    }
}

/// The slot that a consumer group's id hashes to (FNV-1a); `None` when there are no slots yet.
pub(crate) fn coordinator_slot(group_id: &str, slots: usize) -> Option<usize> {
    let hash = group_id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let slots = u64::try_from(slots).ok().filter(|slots| *slots > 0)?;
    usize::try_from(hash % slots).ok()
}
