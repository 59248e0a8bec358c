//! Values of the tables.

use std::collections::BTreeMap;

use duolog_record::group::{CommittedOffset, GroupMetadata};
use duolog_record::{BatchFilter, NameFilter};
use duolog_types::{
    Acl, BrokerGroupId, Durability, GroupConfig, LogIndex, NodeId, Offset, ProducerEpoch, Term, TimestampMs,
    TopicConfig, TopicId, User,
};
use serde::{Deserialize, Serialize};

use crate::StateError;
use crate::codec::{self, Versioned, versioned};
use crate::command::ClusterNode;

mod hidden;

pub use hidden::{HiddenRow, HiddenState, ReferenceRow, TimerRow};

/// The last applied entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Applied {
    /// Its term.
    pub term: Term,
    /// Its index.
    pub index: LogIndex,
}

/// The last applied membership of the Raft group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipRow {
    /// The entry that brought it.
    pub position: Applied,
    /// The entry's body; opaque.
    pub body: Vec<u8>,
}

/// The cluster, as the first `InitCluster` named it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRow {
    /// Its id.
    pub cluster_id: String,
    /// The nodes of the bootstrap.
    pub nodes: Vec<ClusterNode>,
    /// The data groups, ascending.
    pub data_groups: Vec<BrokerGroupId>,
    /// The data group of each coordinator slot.
    pub coordinator_slots: Vec<BrokerGroupId>,
}

/// A counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter(pub u64);

/// A topic in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogTopic {
    /// Its name.
    pub name: String,
    /// The data group of each partition.
    pub partitions: Vec<BrokerGroupId>,
    /// Its explicit configs.
    pub config: TopicConfig,
    /// When it was created, by the leader's clock.
    pub created: TimestampMs,
    /// Catalog version of its last change.
    pub version: u64,
}

/// A deleted topic in the catalog: its id is never used again, and data groups that missed the deletion find it here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedTopic {
    /// Catalog version of the deletion.
    pub version: u64,
}

/// Configs of a consumer group in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogGroup {
    /// Its explicit configs.
    pub config: GroupConfig,
    /// Catalog version of their last change.
    pub version: u64,
}

/// A user in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatalogUser {
    /// The user, its secret included.
    pub user: User,
    /// Catalog version of its last change.
    pub version: u64,
}

/// A node that left the cluster for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredNodeRow(pub NodeId);

/// An ACL in the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclRow(pub Acl);

/// The topic id that a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRow(pub TopicId);

/// A topic as a data group knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicRow {
    /// It has partitions here.
    Live {
        /// The topic's version in the catalog.
        catalog_version: u64,
        /// Partitions here, ascending.
        partitions: Vec<u32>,
        /// Its explicit configs.
        config: TopicConfig,
    },
    /// It was deleted, for ever.
    Deleted {
        /// Catalog version of the deletion.
        catalog_version: u64,
    },
}

/// Where a partition's log starts, and what rows that went can no longer say.
///
/// The log end offset is the end of the last consume-queue row; `floor` holds what that row said when the log start
/// moved, so that the end never goes back when no row is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PartitionRow {
    /// The first offset that is kept.
    pub log_start: Offset,
    /// The tail when the log start moved last.
    pub floor: Tail,
}

/// What the end of a partition says; `end` is the log end offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// The offset after the last record.
    pub end: Offset,
    /// Bytes of all batches ever, up to the end.
    pub position_bytes: u64,
    /// The greatest timestamp of all records ever; −1 when none had one.
    pub max_timestamp: TimestampMs,
}

impl Default for Tail {
    fn default() -> Self {
        Self { end: Offset(0), position_bytes: 0, max_timestamp: TimestampMs(-1) }
    }
}

/// A batch in the consume queue: where it lies, and what retention and look-ups by time need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRow {
    /// The entry that carries it.
    pub index: LogIndex,
    /// Its slot in the entry.
    pub slot: u32,
    /// Its first byte within the entry's body, so that a read needs no look at the batch table.
    pub start: u32,
    /// Its term: the leader epoch.
    pub term: Term,
    /// Number of records, at least 1.
    pub record_count: u32,
    /// Its size in bytes.
    pub size_bytes: u32,
    /// Bytes of all batches of the partition before it.
    pub position_bytes: u64,
    /// Its greatest timestamp; −1 when it has none.
    pub max_timestamp: TimestampMs,
    /// The greatest timestamp of the partition up to and including it.
    pub running_max_timestamp: TimestampMs,
    /// The topic's durability when it was sequenced.
    pub durability: Durability,
    /// Flags of the batch table, and [`BatchRow::REFERENCE`].
    pub flags: u8,
    /// What its records may hold.
    pub filter: BatchFilter,
}

impl BatchRow {
    /// Reads a row of any version: nothing is known of tags in version 1, of ids and keys in 1 and 2.
    ///
    /// # Errors
    /// `UnknownVersion`, `Undecodable`.
    pub fn decode(row: &[u8]) -> Result<Self, StateError> {
        match row.first() {
            Some(1) => codec::decode_shorter(row, &BatchFilter::ANY),
            Some(2) => codec::decode_shorter(row, &NameFilter::ANY),
            _ => codec::decode(row),
        }
    }

    /// The flag of a hidden batch that became visible: index, slot, start and size are those of the payload, which carries
    /// no offset and another leader epoch, and the greatest timestamp is the time at which it became visible.
    pub const REFERENCE: u8 = 1;

    /// Whether the row is a reference.
    #[must_use]
    pub fn is_reference(&self) -> bool {
        self.flags & Self::REFERENCE != 0
    }
}

/// The first batch at which the running maximum timestamp reached the key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRow {
    /// Base offset of the batch.
    pub base_offset: Offset,
    /// Bytes of the partition before the batch; rows keep a distance.
    pub position_bytes: u64,
}

/// The first offset of a leader epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRow {
    /// The offset.
    pub first_offset: Offset,
}

/// An idempotent producer in a partition: its epoch and its last batches of that epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerRow {
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Its last batches, oldest first; between 1 and `PRODUCER_BATCHES_REMEMBERED`.
    pub batches: Vec<ProducerBatch>,
}

/// A batch of an idempotent producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerBatch {
    /// Sequence of its first record.
    pub first_sequence: i32,
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Its greatest timestamp.
    pub max_timestamp: TimestampMs,
}

/// A consumer group. Version 1 of its row: with members, or written by a build that did not note when it became empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRow(pub GroupMetadata);

/// A consumer group that has lost its last member. Version 2 of its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmptyGroupRow {
    /// The group.
    pub metadata: GroupMetadata,
    /// When it became empty, by the leader's clock.
    pub since: TimestampMs,
}

/// A consumer group, whichever version its row has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGroup {
    /// The group.
    pub metadata: GroupMetadata,
    /// When it became empty; `None` when that is not known.
    pub empty_since: Option<TimestampMs>,
}

impl StoredGroup {
    /// Reads a row of either version.
    ///
    /// # Errors
    /// `UnknownVersion`, `Undecodable`.
    pub fn decode(row: &[u8]) -> Result<Self, StateError> {
        if row.first() == Some(&GroupRow::VERSION) {
            let GroupRow(metadata) = codec::decode(row)?;
            return Ok(Self { metadata, empty_since: None });
        }
        let EmptyGroupRow { metadata, since } = codec::decode(row)?;
        Ok(Self { metadata, empty_since: Some(since) })
    }
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetRow(pub CommittedOffset);

/// How far a consumer group has taken single messages of a partition: every offset below was delivered or passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PopCursorRow {
    /// The first offset that nobody was offered.
    pub offset: Offset,
    /// When the group was here last, by the leader's clock: moved on, set back, or known to be alive.
    pub at: TimestampMs,
}

/// Messages that were delivered together and are not acknowledged yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryRow {
    /// From then on they are delivered again, by the leader's clock.
    pub due: TimestampMs,
    /// The consumer that keeps them as long as it lives; `None` when only the time counts.
    pub keeper: Option<String>,
    /// The messages, by offset; at least one.
    pub messages: Vec<PendingMessage>,
}

/// A message of [`DeliveryRow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingMessage {
    /// Its offset.
    pub offset: Offset,
    /// How many times it was delivered: 0 when it waits for an earlier one of its message group.
    pub attempts: u32,
    /// Hash of its message group, in a FIFO delivery.
    pub order: Option<u64>,
}

/// Committed offsets of a group by partition.
pub type CommittedOffsets = BTreeMap<duolog_types::TopicPartition, CommittedOffset>;

versioned!(
    Applied = 1,
    MembershipRow = 1,
    ClusterRow = 1,
    Counter = 1,
    CatalogTopic = 1,
    DeletedTopic = 1,
    NameRow = 1,
    TopicRow = 1,
    PartitionRow = 1,
    BatchRow = 3,
    TimeRow = 1,
    EpochRow = 1,
    ProducerRow = 1,
    GroupRow = 1,
    EmptyGroupRow = 2,
    OffsetRow = 1,
    CatalogGroup = 1,
    CatalogUser = 1,
    AclRow = 1,
    RetiredNodeRow = 1,
    PopCursorRow = 2,
    DeliveryRow = 1,
);
