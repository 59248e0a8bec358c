//! What the machine answers, and the pen that handlers write it with.

use std::collections::BTreeMap;

use bytes::Bytes;
use duolog_record::group::{GroupId, GroupRecord, InstanceId, MemberId, OffsetCommit};
use duolog_types::{TimestampMs, TopicPartition};
use serde::{Deserialize, Serialize};

use super::config::GroupConfig;
use super::error::{GroupError, JoinRefused};
use super::event::{ProposalId, RequestId};

/// What follows from an event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// To be proposed, in this order; the outcome of each MUST come back.
    pub proposals: Vec<Proposal>,
    /// To be sent.
    pub replies: Vec<Reply>,
    /// When to send a `Tick` at the latest, on the clock of `now_ms`; `None` while nothing waits.
    pub next_deadline_ms: Option<u64>,
}

/// A command to be replicated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// For the report of the outcome.
    pub id: ProposalId,
    /// The command.
    pub command: GroupCommand,
}

/// A replicated command about a group: what is proposed and what is replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupCommand {
    /// A snapshot or a tombstone.
    Group(GroupRecord),
    /// Committed offsets.
    Offsets(OffsetCommit),
    /// Offsets are deleted.
    DeleteOffsets {
        /// The group.
        group: GroupId,
        /// The partitions.
        partitions: Vec<TopicPartition>,
    },
    /// Offsets are deleted, unless they were committed again since.
    ExpireOffsets {
        /// The group.
        group: GroupId,
        /// The partitions, each with the commit timestamp that was seen.
        offsets: Vec<(TopicPartition, TimestampMs)>,
    },
}

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Who asked.
    pub to: RequestId,
    /// The answer.
    pub body: ReplyBody,
}

/// The outcome per partition of an OffsetCommit or OffsetDelete, in the request's order.
pub type OffsetResults = Vec<(TopicPartition, Result<(), GroupError>)>;

/// An answer, by kind of request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyBody {
    /// To JoinGroup.
    Join(Result<JoinReply, JoinRefused>),
    /// To SyncGroup.
    Sync(Result<SyncReply, GroupError>),
    /// To Heartbeat.
    Heartbeat(Result<(), GroupError>),
    /// To LeaveGroup: one result per member of the request, in its order.
    Leave(Result<Vec<Result<(), GroupError>>, GroupError>),
    /// To OffsetCommit: one result per partition of the request, in its order.
    CommitOffsets(Result<OffsetResults, GroupError>),
    /// To DeleteGroups.
    Delete(Result<(), GroupError>),
    /// To OffsetDelete: one result per partition of the request, in its order.
    DeleteOffsets(Result<OffsetResults, GroupError>),
}

/// A JoinGroup that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinReply {
    /// The member's id.
    pub member_id: MemberId,
    /// The generation to sync with.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The assignor that was voted for.
    pub protocol_name: Option<String>,
    /// The member that assigns. After a static leader's rejoin an older client gets the id of before, so that it does
    /// not assign.
    pub leader: MemberId,
    /// The leader need not assign (KIP-814).
    pub skip_assignment: bool,
    /// For the leader: every member.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: MemberId,
    /// Of a static member.
    pub instance_id: Option<InstanceId>,
    /// Its subscription for the chosen protocol.
    pub metadata: Bytes,
}

/// A SyncGroup that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncReply {
    /// The group's protocol type.
    pub protocol_type: Option<String>,
    /// The assignor that was voted for.
    pub protocol_name: Option<String>,
    /// The member's assignment.
    pub assignment: Bytes,
}

/// Why a proposal was made: what to do with its outcome.
#[derive(Debug)]
pub(super) enum Purpose {
    /// The leader's assignments of a generation.
    Assignment { generation: i32, assignments: BTreeMap<MemberId, Bytes> },
    /// The group has no members left; nobody waits.
    Emptied,
    /// A static member came back under a new id.
    StaticRejoin { reply_to: RequestId, instance: InstanceId, reply: JoinReply },
    /// The group is deleted; nobody waits when it has expired.
    Delete { reply_to: Option<RequestId> },
    /// Offsets; `results` is the answer if it is committed.
    Offsets { reply_to: RequestId, results: OffsetResults },
    /// Offsets are deleted; `results` is the answer if that is committed.
    DeleteOffsets { reply_to: RequestId, results: OffsetResults },
    /// Offsets have expired; nobody waits.
    Expired,
}

/// Proposals whose outcome is not known yet.
#[derive(Debug, Default)]
pub(super) struct Proposals {
    last: u64,
    pub open: BTreeMap<ProposalId, (GroupId, Purpose)>,
}

/// One call of the machine: the time, the limits, and what is answered.
pub(super) struct Turn<'a> {
    pub now: u64,
    pub config: &'a GroupConfig,
    pub proposals: &'a mut Proposals,
    pub out: &'a mut Output,
}

impl Turn<'_> {
    pub fn deadline(&self, after_ms: u32) -> u64 {
        self.now.saturating_add(u64::from(after_ms))
    }

    pub fn reply(&mut self, to: RequestId, body: ReplyBody) {
        self.out.replies.push(Reply { to, body });
    }

    pub fn refuse_join(&mut self, to: RequestId, error: GroupError, member_id: Option<MemberId>) {
        self.reply(to, ReplyBody::Join(Err(JoinRefused { error, member_id })));
    }

    pub fn propose(&mut self, group: &GroupId, command: GroupCommand, purpose: Purpose) -> ProposalId {
        self.proposals.last += 1;
        let id = ProposalId(self.proposals.last);
        self.proposals.open.insert(id, (group.clone(), purpose));
        self.out.proposals.push(Proposal { id, command });
        id
    }
}
