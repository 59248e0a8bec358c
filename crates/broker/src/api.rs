//! What a front end asks of the broker: the one boundary between protocols and the core.
//!
//! Nothing here names a protocol's wire types. A front end translates a request into these types, calls the trait, and
//! maps [`BrokerError`] to its own codes in one exhaustive `match`. The simulation drives the same trait.

mod configs;
mod groups;

use std::future::Future;

use bytes::Bytes;
use duolog_types::{
    BrokerGroupId, ConfigValue, Durability, GroupConfig, LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId, Term,
    TimestampMs, TopicConfig, TopicId,
};

use crate::error::BrokerError;
use crate::request_budget::Admission;

pub use crate::access::AccessApi;
pub use configs::{BrokerConfigValue, ConfigChange, ConfigEdit};
pub use duolog_coordinator::groups::{
    GroupDescription, GroupError, GroupListing, HeartbeatRequest, JoinReply, JoinRequest, JoinedMember, LeaveRequest,
    LeavingMember, MemberDescription, Phase, SyncReply, SyncRequest,
};
pub use duolog_record::group::{CommittedOffset, GroupId, InstanceId, MemberId, MemberProtocol};
pub use duolog_record::{NameFilter, NameSearch};
pub use groups::{GroupOffset, JoinRefusal, OffsetCommits, PartitionOffset};

/// How an operation on one item ended.
pub type ItemResult<T> = Result<T, BrokerError>;

/// A node that clients may connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its id.
    pub id: NodeId,
    /// Host name or address for clients.
    pub host: String,
    /// Port of the Kafka front end.
    pub kafka_port: u16,
    /// Port of the RocketMQ front end; 0 when it is not known.
    pub rocketmq_port: u16,
    /// Port of HTTP; 0 when it is not known.
    pub http_port: u16,
}

/// The cluster as this node sees it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterView {
    /// Id of the cluster, once it was initialized.
    pub cluster_id: String,
    /// Members of the cluster, by id; some may not answer at the moment.
    pub nodes: Vec<NodeView>,
    /// The leader of the system group, if known: Kafka's controller.
    pub controller: Option<NodeId>,
}

/// A partition as metadata shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionView {
    /// Its number within the topic.
    pub partition: u32,
    /// The broker group that holds it.
    pub broker_group: BrokerGroupId,
    /// The leader, if known and reachable.
    pub leader: Option<NodeId>,
    /// The leader's term.
    pub leader_epoch: LeaderEpoch,
    /// Voters of the broker group.
    pub replicas: Vec<NodeId>,
    /// Voters that are reachable.
    pub in_sync_replicas: Vec<NodeId>,
}

/// A topic as metadata shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionView>,
    /// Its explicit configs.
    pub config: TopicConfig,
}

/// A topic by name or by id, as requests name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicRef {
    /// By name.
    Name(String),
    /// By id.
    Id(TopicId),
}

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name; checked by the broker.
    pub name: String,
    /// Number of partitions; `None` means the default (`num.partitions`).
    pub partitions: Option<i32>,
    /// Replication factor; `None` means the default. Any from 1 to the number of nodes is accepted.
    pub replication_factor: Option<i16>,
    /// The replicas of each partition, by its number, where the request chose them; node ids, the preferred leader first.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// Explicit configs, not checked yet.
    pub configs: Vec<(String, Option<String>)>,
}

/// A topic that was created (or would be, when only validated).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id.
    pub id: TopicId,
    /// Its number of partitions.
    pub partitions: i32,
    /// Voters per partition.
    pub replication_factor: i16,
    /// Its configs with their effective values.
    pub configs: Vec<ConfigValue>,
}

/// One partition's record batches of a produce request.
#[derive(Debug, Clone)]
pub struct ProducePartition {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: i32,
    /// One or more record batches as they came: a slice of the request's buffer, of which they MUST be half at least. What waits for
    /// the log is bounded by its own bytes, and keeps the buffer in memory, also when nobody waits for it any more.
    pub records: Bytes,
}

/// A partition's answer to a produce request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// Offset of the first record; negative, with all that a client counts up from it, when the records have none yet.
    pub base_offset: Offset,
    /// The time that the leader stamped, with `message.timestamp.type=LogAppendTime`.
    pub log_append_time: Option<TimestampMs>,
    /// First offset that is still kept.
    pub log_start_offset: Offset,
    /// What the answer rests on while a quorum need not have the records; see [`BrokerApi::confirm`].
    pub lease: Option<AckLease>,
}

/// An acknowledgement of `async` replication is true only as long as the node that gives it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckLease {
    /// The partition's broker group.
    pub broker_group: BrokerGroupId,
    /// The term in which the records were appended.
    pub term: Term,
}

/// What a client knows of the leader epoch, for fencing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EpochCheck {
    /// The leader epoch that the client believes to be current; `None` means no check.
    pub current_leader_epoch: Option<LeaderEpoch>,
}

/// One partition of a fetch request.
#[derive(Debug, Clone)]
pub struct FetchPartition {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: i32,
    /// First offset that is wanted.
    pub fetch_offset: Offset,
    /// Most bytes of this partition; the first batch is always given.
    pub bytes_max: i32,
    /// Fencing.
    pub epoch: EpochCheck,
    /// Leader epoch of the last record that the client has, to detect divergence (KIP-595).
    pub last_fetched_epoch: Option<LeaderEpoch>,
}

/// A fetch request.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// The partitions, in the order in which they are filled.
    pub partitions: Vec<FetchPartition>,
    /// Answer as soon as this many bytes are there.
    pub bytes_min: i32,
    /// Most bytes of the answer; the first batch is always given.
    pub bytes_max: i32,
    /// Longest wait in milliseconds.
    pub wait_ms_max: i32,
}

/// Where a client's log and the leader's part (KIP-320).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch that is not above the asked one.
    pub epoch: LeaderEpoch,
    /// First offset after that epoch.
    pub end_offset: Offset,
}

/// A partition's answer to a fetch request.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// First offset that consumers may not see yet.
    pub high_watermark: Offset,
    /// First offset of an undecided transaction, or the high watermark.
    pub last_stable_offset: Offset,
    /// First offset that is still kept.
    pub log_start_offset: Offset,
    /// Set when the client's log diverged; then there are no records.
    pub diverging: Option<EpochEnd>,
    /// Whole record batches in order, as pieces to be written one after the other (a patched header, a body, …).
    pub records: Vec<Bytes>,
}

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetQuery {
    /// The log start offset.
    Earliest,
    /// The high watermark.
    Latest,
    /// The record with the greatest timestamp.
    MaxTimestamp,
    /// The first record whose timestamp is at or after this.
    AtOrAfter(TimestampMs),
    /// The first offset from one on at which something of a name may lie, or how far was looked.
    MayHold(NameSearch),
}

/// An offset that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset, or −1 when no record matches a time.
    pub offset: Offset,
    /// Timestamp of the record, or −1.
    pub timestamp: TimestampMs,
    /// Leader epoch of the record, if known.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// A producer's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

/// Partitions to add to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPartitions {
    /// The topic's name.
    pub topic: String,
    /// How many it shall have in all.
    pub count: i32,
    /// The replicas of each new partition, where the request chose them; node ids, the preferred leader first.
    pub assignments: Vec<Vec<i32>>,
}

/// The data directory of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDirView {
    /// Where it is.
    pub path: String,
    /// Size of its file system.
    pub total_bytes: u64,
    /// What is free there for this process.
    pub usable_bytes: u64,
    /// Every partition that this node has a replica of, by topic and number.
    pub partitions: Vec<PartitionSize>,
}

/// What a partition takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionSize {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Bytes of its record batches.
    pub size_bytes: u64,
}

/// An idempotent producer that a partition remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerView {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// Greatest timestamp of its last batch.
    pub last_timestamp: TimestampMs,
}

/// Which leader is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Election {
    /// The first replica, which leads when all is well.
    Preferred,
    /// Any replica, even one that may lack records.
    Unclean,
}

/// How an election ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elected {
    /// The wanted leader led already.
    NotNeeded,
    /// It leads now.
    Done,
}

/// The Raft group of the catalog. Positions are log indexes, the next one in each case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuorumView {
    /// Its leader.
    pub leader: NodeId,
    /// The leader's term.
    pub leader_epoch: LeaderEpoch,
    /// The end of what the leader knows to be committed.
    pub committed_next: u64,
    /// Its members, by id.
    pub replicas: Vec<QuorumReplica>,
}

/// A member of [`QuorumView`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuorumReplica {
    /// The node.
    pub node: NodeId,
    /// Whether it votes.
    pub is_voter: bool,
    /// The end of its log; `None` when it did not answer.
    pub log_end_next: Option<u64>,
}

/// The broker as front ends see it. One implementation serves a node; a fake serves the front ends' tests.
///
/// Every call may be made on every node; a call that needs another node's leadership gives [`BrokerError::NotLeader`] or
/// [`BrokerError::NotCoordinator`], catalog changes are forwarded.
pub trait BrokerApi: AccessApi + Clone + Send + Sync + 'static {
    /// This node's id.
    fn node_id(&self) -> NodeId;

    /// The cluster as this node sees it.
    fn cluster(&self) -> ClusterView;

    /// All topics, by name.
    fn topics(&self) -> Vec<TopicView>;

    /// One topic.
    ///
    /// # Errors
    /// `UnknownTopic` or `UnknownTopicId`.
    fn topic(&self, topic: &TopicRef) -> ItemResult<TopicView>;

    /// Whether topics are created on first use.
    fn auto_create_topics(&self) -> bool;

    /// The node's own configs.
    fn broker_configs(&self) -> Vec<BrokerConfigValue>;

    /// Creates topics; answered once the catalog and every hosting group have applied them. Results in order.
    fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        timeout_ms: i32,
        validate_only: bool,
    ) -> impl Future<Output = Vec<ItemResult<CreatedTopic>>> + Send;

    /// Deletes topics. Results in order.
    fn delete_topics(
        &self,
        topics: Vec<TopicRef>,
        timeout_ms: i32,
    ) -> impl Future<Output = Vec<ItemResult<TopicView>>> + Send;

    /// Changes a topic's configs; answered once every hosting group has committed them.
    fn alter_topic_config(
        &self,
        topic: String,
        edit: ConfigEdit,
        validate_only: bool,
    ) -> impl Future<Output = ItemResult<()>> + Send;

    /// The configs of a consumer group; a group that nobody has configured has the defaults.
    fn group_config(&self, group: &GroupId) -> GroupConfig;

    /// The group whose state counts for a client of a group: in broadcasting (`consumption.mode`) each has one of its own, `group@client
    /// id`, with the same coordinator.
    fn member_group(&self, group: &GroupId, client_id: &str) -> GroupId;

    /// The consumer groups that have configs of their own, by name.
    fn configured_groups(&self) -> Vec<GroupId>;

    /// Changes a consumer group's configs, whether the group exists or not; answered once this node has them.
    fn alter_group_config(
        &self,
        group: GroupId,
        edit: ConfigEdit,
        validate_only: bool,
    ) -> impl Future<Output = ItemResult<()>> + Send;

    /// Adds partitions to topics; answered once the catalog and every hosting group have applied them. Results in order.
    fn create_partitions(
        &self,
        topics: Vec<NewPartitions>,
        timeout_ms: i32,
        validate_only: bool,
    ) -> impl Future<Output = Vec<ItemResult<()>>> + Send;

    /// Deletes a partition's records before an offset; `None` means before the high watermark. Gives the log start offset,
    /// once it is committed.
    ///
    /// # Errors
    /// `OffsetOutOfRange` beyond the high watermark.
    fn delete_records(
        &self,
        topic: TopicRef,
        partition: i32,
        before: Option<Offset>,
        timeout_ms: i32,
    ) -> impl Future<Output = ItemResult<Offset>> + Send;

    /// This node's data directory.
    fn log_dir(&self) -> ItemResult<LogDirView>;

    /// Idempotent producers of a partition that this node leads, by id.
    fn producers(&self, topic: TopicRef, partition: i32) -> impl Future<Output = ItemResult<Vec<ProducerView>>> + Send;

    /// Elects leaders of partitions. A broker group has one leader, so its other partitions move too. Results in order.
    ///
    /// # Errors
    /// `PreferredLeaderNotAvailable`, `EligibleLeadersNotAvailable`.
    fn elect_leaders(
        &self,
        partitions: Vec<(TopicRef, i32)>,
        election: Election,
        timeout_ms: i32,
    ) -> impl Future<Output = Vec<ItemResult<Elected>>> + Send;

    /// The Raft group of the catalog.
    ///
    /// # Errors
    /// `LeaderNotAvailable`.
    fn system_quorum(&self) -> impl Future<Output = ItemResult<QuorumView>> + Send;

    /// Produces; each partition is answered at its topic's ack point. Results in order.
    fn produce(
        &self,
        partitions: Vec<ProducePartition>,
        timeout_ms: i32,
    ) -> impl Future<Output = Vec<ItemResult<Produced>>> + Send;

    /// To be asked in the moment in which a front end writes its answer, with what [`BrokerApi::produce`] gave: the answer
    /// may have waited behind others, and this process may have been paused, so that another node leads meanwhile and does not
    /// have the records.
    ///
    /// # Errors
    /// `RequestTimedOut`: the records may be kept or not.
    fn confirm(&self, produced: Produced) -> ItemResult<Produced>;

    /// Fetches, waiting for `bytes_min` as long as `wait_ms_max`. Results in order.
    fn fetch(&self, fetch: Fetch) -> impl Future<Output = Vec<ItemResult<Fetched>>> + Send;

    /// Finds an offset.
    fn list_offset(
        &self,
        topic: TopicRef,
        partition: i32,
        query: OffsetQuery,
        epoch: EpochCheck,
    ) -> impl Future<Output = ItemResult<FoundOffset>> + Send;

    /// The end of a leader epoch (KIP-320). `None` when the epoch is unknown.
    fn leader_epoch_end(
        &self,
        topic: TopicRef,
        partition: i32,
        leader_epoch: LeaderEpoch,
        epoch: EpochCheck,
    ) -> impl Future<Output = ItemResult<Option<EpochEnd>>> + Send;

    /// A new producer id, or the next epoch of a known one (KIP-360). Not for transactional producers.
    fn init_producer_id(
        &self,
        known: Option<ProducerIdentity>,
    ) -> impl Future<Output = ItemResult<ProducerIdentity>> + Send;

    /// The node that coordinates a consumer group.
    fn find_group_coordinator(&self, group_id: &str) -> ItemResult<NodeView>;

    /// Joins a classic group. The broker chooses the request's `uuid`. Answered when the group's next generation begins, which may
    /// take minutes: the request's `share` of a front end's budget is given back once the coordinator has taken the request.
    fn join_group(
        &self,
        request: JoinRequest,
        share: Option<Admission>,
    ) -> impl Future<Output = Result<JoinReply, JoinRefusal>> + Send;

    /// Gives a member its assignment, once the leader's assignments are committed; until then it waits as in
    /// [`BrokerApi::join_group`].
    ///
    /// # Errors
    /// `Group`, `NotCoordinator`, `CoordinatorLoading`, `CoordinatorNotAvailable`; so for all calls about groups.
    fn sync_group(
        &self,
        request: SyncRequest,
        share: Option<Admission>,
    ) -> impl Future<Output = ItemResult<SyncReply>> + Send;

    /// Keeps a member's session alive.
    fn heartbeat(&self, request: HeartbeatRequest) -> impl Future<Output = ItemResult<()>> + Send;

    /// Takes members out of a group. Results in order.
    fn leave_group(&self, request: LeaveRequest) -> impl Future<Output = ItemResult<Vec<ItemResult<()>>>> + Send;

    /// Commits offsets; answered once they are committed by Raft. Results in order.
    fn commit_offsets(&self, request: OffsetCommits) -> impl Future<Output = Vec<ItemResult<()>>> + Send;

    /// Committed offsets of partitions, in order; `None` means all, by topic and partition.
    fn fetch_offsets(
        &self,
        group: GroupId,
        wanted: Option<Vec<(TopicRef, i32)>>,
    ) -> impl Future<Output = ItemResult<Vec<GroupOffset>>> + Send;

    /// Consumer groups that this node coordinates, those that have only committed offsets included.
    fn list_groups(&self) -> impl Future<Output = ItemResult<Vec<GroupListing>>> + Send;

    /// A consumer group as it is now; `None` when there is none.
    fn describe_group(&self, group: GroupId) -> impl Future<Output = ItemResult<Option<GroupDescription>>> + Send;

    /// Deletes a consumer group without members, with its committed offsets.
    ///
    /// # Errors
    /// `GroupError::NonEmptyGroup`, `GroupIdNotFound`.
    fn delete_group(&self, group: GroupId) -> impl Future<Output = ItemResult<()>> + Send;

    /// Deletes committed offsets of topics that no member subscribes to. Results in order.
    fn delete_offsets(
        &self,
        group: GroupId,
        partitions: Vec<(TopicRef, i32)>,
    ) -> impl Future<Output = ItemResult<Vec<ItemResult<()>>>> + Send;

    /// The durability of a topic; for logs and metrics.
    fn durability(&self, topic: &TopicRef) -> ItemResult<Durability>;
}
