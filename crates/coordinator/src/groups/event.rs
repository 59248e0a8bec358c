//! What the machine is told. Identifiers that Kafka leaves empty are `None` here.

use bytes::Bytes;
use duolog_record::group::{GroupId, InstanceId, MemberId, MemberProtocol};
use duolog_types::{LeaderEpoch, Offset, TimestampMs, TopicPartition};

/// Who gets a reply; chosen by the driver, unique among the requests that are not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A proposal whose outcome the driver reports; unique during the machine's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId(pub u64);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This node leads and everything committed before its term was replayed.
    Lead,
    /// This node leads no more: every open request is answered `NotCoordinator`.
    Resign,
    /// JoinGroup.
    Join {
        /// Who asks.
        reply_to: RequestId,
        /// The request.
        request: JoinRequest,
    },
    /// SyncGroup.
    Sync {
        /// Who asks.
        reply_to: RequestId,
        /// The request.
        request: SyncRequest,
    },
    /// Heartbeat.
    Heartbeat {
        /// Who asks.
        reply_to: RequestId,
        /// The request.
        request: HeartbeatRequest,
    },
    /// LeaveGroup.
    Leave {
        /// Who asks.
        reply_to: RequestId,
        /// The request.
        request: LeaveRequest,
    },
    /// OffsetCommit.
    CommitOffsets {
        /// Who asks.
        reply_to: RequestId,
        /// The request.
        request: OffsetCommitRequest,
    },
    /// DeleteGroups, for one group.
    Delete {
        /// Who asks.
        reply_to: RequestId,
        /// The group.
        group: GroupId,
    },
    /// OffsetDelete.
    DeleteOffsets {
        /// Who asks.
        reply_to: RequestId,
        /// The request.
        request: OffsetDeleteRequest,
    },
    /// Offsets whose time is over, as [`super::GroupMachine::expired`] found them just now. Nobody waits for the outcome.
    Expire(Expired),
    /// The proposal is committed and was given to [`super::GroupMachine::replay`] before.
    Committed {
        /// The proposal.
        proposal: ProposalId,
    },
    /// The proposal failed, or its outcome is not known.
    ProposalFailed {
        /// The proposal.
        proposal: ProposalId,
        /// How.
        reason: ProposalFailure,
    },
    /// The next deadline has come, or not: harmless at any time.
    Tick,
}

/// Why a proposal was not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProposalFailure {
    /// This node leads no more.
    NotLeader,
    /// It may yet be committed.
    Unknown,
    /// It does not fit an entry.
    TooLarge,
}

/// JoinGroup, any version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// The group.
    pub group: GroupId,
    /// `None` for a member that has no id yet.
    pub member_id: Option<MemberId>,
    /// Of a static member.
    pub instance_id: Option<InstanceId>,
    /// The request's client id: the beginning of a new member id.
    pub client_id: String,
    /// The client's address.
    pub client_host: String,
    /// Without a heartbeat for this long the member is dropped.
    pub session_timeout_ms: u32,
    /// How long a rebalance waits for the member; version 0 sends none: its session timeout.
    pub rebalance_timeout_ms: u32,
    /// `consumer`, `connect` and the like.
    pub protocol_type: String,
    /// In the member's order of preference.
    pub protocols: Vec<MemberProtocol>,
    /// A fresh UUID, used if the member needs an id: randomness is an input.
    pub uuid: String,
    /// Version 4 and later: the client can join again with the id it is given (KIP-394).
    pub requires_member_id: bool,
    /// Version 9 and later: the client understands that the leader need not assign (KIP-814).
    pub supports_skipping_assignment: bool,
}

/// SyncGroup, any version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncRequest {
    /// The group.
    pub group: GroupId,
    /// The member.
    pub member_id: MemberId,
    /// Of a static member.
    pub instance_id: Option<InstanceId>,
    /// As the JoinGroup answer said.
    pub generation: i32,
    /// Version 5 and later (KIP-559).
    pub protocol_type: Option<String>,
    /// Version 5 and later (KIP-559).
    pub protocol_name: Option<String>,
    /// From the leader: one per member; those of members that are missing are empty.
    pub assignments: Vec<(MemberId, Bytes)>,
}

/// Heartbeat, any version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatRequest {
    /// The group.
    pub group: GroupId,
    /// The member.
    pub member_id: MemberId,
    /// Of a static member.
    pub instance_id: Option<InstanceId>,
    /// As the JoinGroup answer said.
    pub generation: i32,
}

/// LeaveGroup, any version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveRequest {
    /// The group.
    pub group: GroupId,
    /// Version 3 and later may name several.
    pub members: Vec<LeavingMember>,
}

/// A member that leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingMember {
    /// `None` when an administrator removes a static member by its instance id.
    pub member_id: Option<MemberId>,
    /// Of a static member.
    pub instance_id: Option<InstanceId>,
}

/// OffsetCommit, any version, with topics resolved to ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommitRequest {
    /// The group.
    pub group: GroupId,
    /// `None` for a client that does not use group management.
    pub member_id: Option<MemberId>,
    /// Of a static member.
    pub instance_id: Option<InstanceId>,
    /// −1 for a client that does not use group management.
    pub generation: i32,
    /// The leader's wall clock: becomes the commit timestamp.
    pub commit_timestamp: TimestampMs,
    /// Each partition at most once.
    pub partitions: Vec<PartitionCommit>,
}

/// A partition of an OffsetCommit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionCommit {
    /// The partition.
    pub partition: TopicPartition,
    /// The next offset to consume.
    pub offset: Offset,
    /// Leader epoch of the last consumed record.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The client's own words.
    pub metadata: String,
}

/// OffsetDelete (KIP-496), with topics resolved to ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetDeleteRequest {
    /// The group.
    pub group: GroupId,
    /// Each partition at most once, with the name of its topic.
    pub partitions: Vec<(String, TopicPartition)>,
}

/// Committed offsets of a group that nobody needs any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expired {
    /// The group.
    pub group: GroupId,
    /// The offsets, each with the commit timestamp that was seen: one that was committed again stays.
    pub offsets: Vec<(TopicPartition, TimestampMs)>,
    /// Nothing else is left of the group: it goes too.
    pub removes_group: bool,
}
