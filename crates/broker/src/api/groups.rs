//! What front ends ask about consumer groups beside the coordinator's own types.

use duolog_record::group::{CommittedOffset, GroupId, InstanceId, MemberId};
use duolog_types::{LeaderEpoch, Offset};

use super::TopicRef;
use crate::error::BrokerError;

/// A refused JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRefusal {
    /// Why.
    pub error: BrokerError,
    /// The member id to answer with: the given one, a new one to join again with (KIP-394), or none.
    pub member_id: Option<MemberId>,
}

/// Offsets that a group's member commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommits {
    /// The group.
    pub group: GroupId,
    /// `None` for a client that does not use group management.
    pub member_id: Option<MemberId>,
    /// Of a static member.
    pub instance_id: Option<InstanceId>,
    /// −1 for a client that does not use group management.
    pub generation: i32,
    /// The partitions.
    pub partitions: Vec<PartitionOffset>,
}

/// A partition of [`OffsetCommits`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionOffset {
    /// The topic.
    pub topic: TopicRef,
    /// The partition.
    pub partition: i32,
    /// The next offset to consume.
    pub offset: Offset,
    /// Leader epoch of the last consumed record, if the client says it.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The client's own words.
    pub metadata: String,
}

/// A partition's committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffset {
    /// The topic as it was asked for, or by name when all were.
    pub topic: TopicRef,
    /// The partition.
    pub partition: i32,
    /// `None` when there is none.
    pub committed: Option<CommittedOffset>,
}
