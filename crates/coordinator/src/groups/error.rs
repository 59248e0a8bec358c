//! Why a request is refused: one variant per Kafka error code that groups use.

use duolog_record::group::MemberId;

/// A refusal; the variant's name is Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// This node does not lead the group's broker group (16; retriable).
    #[error("not the coordinator of the group")]
    NotCoordinator,
    /// The outcome of a proposal is unknown, or the group is being deleted (15; retriable).
    #[error("the coordinator is not available")]
    CoordinatorNotAvailable,
    /// The group id is empty (24).
    #[error("invalid group id")]
    InvalidGroupId,
    /// The member's generation is not the group's (22).
    #[error("illegal generation")]
    IllegalGeneration,
    /// No common protocol, another protocol type, or more protocols than a member may name (23).
    #[error("inconsistent group protocol")]
    InconsistentGroupProtocol,
    /// The member is not in the group (25).
    #[error("unknown member id")]
    UnknownMemberId,
    /// The session timeout is outside of the configured range (26).
    #[error("invalid session timeout")]
    InvalidSessionTimeout,
    /// The member must join again (27).
    #[error("rebalance in progress")]
    RebalanceInProgress,
    /// The metadata of a committed offset is too long (12).
    #[error("offset metadata too large")]
    OffsetMetadataTooLarge,
    /// The commit does not fit an entry (28).
    #[error("invalid commit offset size")]
    InvalidCommitOffsetSize,
    /// Join again with the member id in the answer (79, KIP-394).
    #[error("member id required")]
    MemberIdRequired,
    /// The group has `group.max.size` members (81).
    #[error("group max size reached")]
    GroupMaxSizeReached,
    /// Another member has taken over the instance id (82, KIP-345).
    #[error("fenced instance id")]
    FencedInstanceId,
    /// A group with members cannot be deleted (68).
    #[error("the group is not empty")]
    NonEmptyGroup,
    /// There is no such group (69).
    #[error("group id not found")]
    GroupIdNotFound,
    /// A member subscribes to the topic, so its offsets cannot be deleted (86, KIP-496).
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
    /// The group's snapshot does not fit an entry (−1).
    #[error("the group metadata is too large")]
    UnknownServerError,
}

/// A refused JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRefused {
    /// Why.
    pub error: GroupError,
    /// The member id to answer with: the given one, a new one with `MemberIdRequired`, or none.
    pub member_id: Option<MemberId>,
}
