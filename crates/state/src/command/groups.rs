//! Commands about consumer groups and their committed offsets.

use duolog_record::group::{GroupId, GroupMetadata, GroupRecord, OffsetCommit};
use duolog_types::{LeaderEpoch, Offset, TimestampMs, TopicPartition};
use serde::{Deserialize, Serialize};

/// A change of the consumer groups that a data group coordinates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupCommand {
    /// Replaces a group, or deletes it with its committed offsets.
    PutGroup(GroupRecord),
    /// Commits offsets, all or none.
    CommitOffsets(OffsetCommit),
    /// Pulls a committed offset back after a loss that the topic's durability allows.
    PullBackOffset(PullBack),
    /// Deletes committed offsets.
    DeleteOffsets {
        /// The group.
        group: GroupId,
        /// The partitions.
        partitions: Vec<TopicPartition>,
    },
    /// Replaces a group that has lost its last member.
    EmptyGroup {
        /// The group.
        metadata: GroupMetadata,
        /// The leader's clock.
        since: TimestampMs,
    },
    /// Deletes committed offsets whose time is over, unless they were committed again since the proposer looked.
    ExpireOffsets {
        /// The group.
        group: GroupId,
        /// The partitions, each with the commit timestamp that was seen.
        seen: Vec<(TopicPartition, TimestampMs)>,
    },
}

/// A committed offset lies beyond the log end: it goes back, if it is still the one that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullBack {
    /// The group.
    pub group: GroupId,
    /// The partition.
    pub partition: TopicPartition,
    /// The committed offset that was seen.
    pub from: Offset,
    /// The leader epoch that was stored with it.
    pub from_leader_epoch: Option<LeaderEpoch>,
    /// Where the log of that epoch ends.
    pub to: Offset,
    /// The leader epoch of the record before `to`, if known.
    pub to_leader_epoch: Option<LeaderEpoch>,
}
