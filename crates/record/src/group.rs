//! The durable records of classic consumer groups: what a fail-over restores.
//!
//! The leader's group machine proposes them, every replica's state stores them. A group's snapshot is written whole:
//! after each completed rebalance, when a static member comes back under a new member id, when a group becomes empty.
//! Deliberately absent: states between two generations. They live on the leader only, and its members join again.

use bytes::Bytes;
use duolog_types::{LeaderEpoch, Offset, TimestampMs, TopicPartition};
use serde::{Deserialize, Serialize};

/// Kafka's `group.id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct GroupId(pub String);

/// Id of a member, given by the coordinator: `<client id or instance id>-<uuid>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct MemberId(pub String);

/// Kafka's `group.instance.id` of a static member (KIP-345).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct InstanceId(pub String);

macro_rules! shown {
    ($($name:ident),*) => { $(
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    )* };
}
shown!(GroupId, MemberId, InstanceId);

/// One command about a group, as it is replicated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupRecord {
    /// Replaces whatever is known of the group.
    Snapshot(GroupMetadata),
    /// The group is deleted, with its committed offsets.
    Tombstone(GroupId),
}

impl GroupRecord {
    /// The group that it is about.
    #[must_use]
    pub fn group(&self) -> &GroupId {
        match self {
            Self::Snapshot(metadata) => &metadata.group,
            Self::Tombstone(group) => group,
        }
    }
}

/// A durable state of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupState {
    /// No members; it may have committed offsets.
    Empty,
    /// Every member has its assignment.
    Stable,
}

/// A group between two rebalances. `state == Empty` exactly when `members` is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMetadata {
    /// The group.
    pub group: GroupId,
    /// Empty or stable.
    pub state: GroupState,
    /// Completed rebalances; grows by one with each.
    pub generation: i32,
    /// `consumer`, `connect` and the like; `None` before the first member.
    pub protocol_type: Option<String>,
    /// The assignor that was voted for; `None` without members.
    pub protocol_name: Option<String>,
    /// The member that computes assignments; `None` without members.
    pub leader: Option<MemberId>,
    /// Ordered by member id, each at most once.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMember {
    /// Its id.
    pub member_id: MemberId,
    /// Its instance id, if it is a static member.
    pub instance_id: Option<InstanceId>,
    /// The `client.id` that it joined with.
    pub client_id: String,
    /// The address that it joined from.
    pub client_host: String,
    /// Without a heartbeat for this long it is dropped.
    pub session_timeout_ms: u32,
    /// How long a rebalance waits for it.
    pub rebalance_timeout_ms: u32,
    /// What it can be assigned by, in its order of preference. All of them, so that a fail-over changes no vote.
    pub protocols: Vec<MemberProtocol>,
    /// What the leader assigned to it; opaque.
    pub assignment: Bytes,
}

/// An assignor that a member supports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberProtocol {
    /// Its name, such as `range`.
    pub name: String,
    /// The member's subscription for it; opaque.
    pub metadata: Bytes,
}

/// Offsets that a group commits, all or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetCommit {
    /// The group.
    pub group: GroupId,
    /// Per partition, each at most once.
    pub offsets: Vec<(TopicPartition, CommittedOffset)>,
}

/// A committed offset of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedOffset {
    /// The next offset to consume.
    pub offset: Offset,
    /// Leader epoch of the last consumed record, if the client said it.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The client's own words.
    pub metadata: String,
    /// The leader's wall clock when it proposed the commit.
    pub commit_timestamp: TimestampMs,
}
