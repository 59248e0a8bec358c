//! Everything that can go wrong for a client, named once. Front ends map each variant to their own code.

use duolog_types::{LeaderEpoch, NodeId};

/// Why an operation on one item failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// No topic has this name.
    #[error("topic {0} does not exist")]
    UnknownTopic(String),
    /// No topic has this id.
    #[error("no topic has id {0}")]
    UnknownTopicId(duolog_types::TopicId),
    /// The topic has fewer partitions.
    #[error("topic {topic} has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition that was asked for.
        partition: i32,
    },
    /// This node does not lead the partition (any more). Also the answer to everything that waits when a term ends: it may
    /// have happened or not; retry.
    #[error("this node does not lead the partition; leader: {leader:?}, epoch: {epoch:?}")]
    NotLeader {
        /// The leader, if known.
        leader: Option<NodeId>,
        /// Its epoch, if known.
        epoch: Option<LeaderEpoch>,
    },
    /// There is no leader at the moment.
    #[error("there is no leader at the moment")]
    LeaderNotAvailable,
    /// The client's leader epoch is older than the leader's.
    #[error("leader epoch {found} is older than the current {current}")]
    FencedLeaderEpoch {
        /// The client's.
        found: LeaderEpoch,
        /// The leader's.
        current: LeaderEpoch,
    },
    /// The client's leader epoch is newer than this node's.
    #[error("leader epoch {found} is newer than the known {current}")]
    UnknownLeaderEpoch {
        /// The client's.
        found: LeaderEpoch,
        /// This node's.
        current: LeaderEpoch,
    },
    /// The offset lies outside of the partition.
    #[error("offset {found} lies outside of {start}..={end_inclusive}")]
    OffsetOutOfRange {
        /// The offset that was asked for.
        found: i64,
        /// Log start offset.
        start: i64,
        /// High watermark.
        end_inclusive: i64,
    },
    /// A batch that is damaged.
    #[error("corrupt record batch: {0}")]
    CorruptMessage(String),
    /// A batch that is well-formed but not allowed.
    #[error("invalid record: {0}")]
    InvalidRecord(String),
    /// Record format 0 or 1.
    #[error("record format {0} is not supported; record batch v2 is")]
    UnsupportedFormat(i8),
    /// A batch that is larger than `max.message.bytes`.
    #[error("a record batch of {found} bytes is larger than max.message.bytes = {limit}")]
    MessageTooLarge {
        /// Bytes of the batch.
        found: usize,
        /// The topic's limit.
        limit: usize,
    },
    /// A timestamp too far from the leader's clock.
    #[error("timestamp {0} is too far from the broker's clock")]
    InvalidTimestamp(i64),
    /// A gap in a producer's sequence.
    #[error("producer sequence {found} does not follow {last}")]
    OutOfOrderSequence {
        /// First sequence of the batch.
        found: i32,
        /// Last sequence that was accepted.
        last: i32,
    },
    /// A duplicate of a batch older than those that are remembered.
    #[error("duplicate of a batch that is older than the last {remembered} of its producer", remembered = duolog_types::limits::PRODUCER_BATCHES_REMEMBERED)]
    DuplicateSequence,
    /// A producer with an older epoch than the one that took over.
    #[error("producer epoch {found} is older than {current}")]
    InvalidProducerEpoch {
        /// The producer's.
        found: i16,
        /// The newest known.
        current: i16,
    },
    /// A topic of that name is there already.
    #[error("topic {0} already exists")]
    TopicExists(String),
    /// A name that is not allowed.
    #[error("{0}")]
    InvalidTopicName(String),
    /// A number of partitions that is not allowed.
    #[error("{0}")]
    InvalidPartitions(String),
    /// A replication factor that is not allowed.
    #[error("{0}")]
    InvalidReplicationFactor(String),
    /// A manual assignment of replicas.
    #[error("{0}")]
    InvalidReplicaAssignment(String),
    /// A config that was refused.
    #[error("{0}")]
    InvalidConfig(String),
    /// A request that makes no sense.
    #[error("{0}")]
    InvalidRequest(String),
    /// It did not happen in time; it may happen yet.
    #[error("timed out; it may have happened: {0}")]
    RequestTimedOut(String),
    /// The group is coordinated elsewhere.
    #[error("this node does not coordinate the group")]
    NotCoordinator,
    /// The coordinator is not known or reachable at the moment.
    #[error("the coordinator is not available at the moment")]
    CoordinatorNotAvailable,
    /// The group's coordinator refused.
    #[error(transparent)]
    Group(#[from] duolog_coordinator::groups::GroupError),
    /// The coordinator is still applying its log.
    #[error("the coordinator is still loading")]
    CoordinatorLoading,
    /// The node that should lead cannot.
    #[error("{0}")]
    PreferredLeaderNotAvailable(String),
    /// No node may lead.
    #[error("no replica may be elected: Raft elects one as soon as a majority answers")]
    EligibleLeadersNotAvailable,
    /// A receipt or handle that was used, has expired, or never was.
    #[error("{0}")]
    InvalidReceipt(String),
    /// The disk failed or is full.
    #[error("storage: {0}")]
    Storage(String),
    /// Something that this version does not do.
    #[error("{0}")]
    Unsupported(String),
}
