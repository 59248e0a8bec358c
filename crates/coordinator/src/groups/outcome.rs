//! What follows when a proposal is committed, or is not.

use std::collections::BTreeMap;

use bytes::Bytes;
use duolog_record::group::{InstanceId, MemberId};

use super::error::{GroupError, JoinRefused};
use super::event::{ProposalFailure, ProposalId};
use super::group::{Group, Phase};
use super::turn::{JoinReply, Purpose, ReplyBody, Turn};

impl Group {
    /// The assignments of a generation are committed: members get theirs, unless the group has moved on.
    pub fn assignments_committed(
        &mut self,
        turn: &mut Turn<'_>,
        proposal: ProposalId,
        generation: i32,
        mut assignments: BTreeMap<MemberId, Bytes>,
    ) {
        if self.assignment_in_flight != Some(proposal) {
            return;
        }
        assert_eq!((self.phase, self.generation), (Phase::CompletingRebalance, generation), "a rebalance forgets it");
        self.assignment_in_flight = None;
        self.phase = Phase::Stable;
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            let assignment = assignments.remove(&id).unwrap_or_default();
            let reply = self.sync_reply(assignment.clone());
            let member = self.member_mut(&id);
            member.durable.assignment = assignment;
            member.answer_sync(turn, Ok(reply));
        }
    }

    /// The assignments may never be committed: whoever waits is told to try again, and the group rebalances, so that
    /// what is served and what is durable agree in the next generation.
    pub fn assignments_failed(&mut self, turn: &mut Turn<'_>, proposal: ProposalId, error: GroupError) {
        if self.assignment_in_flight == Some(proposal) {
            self.reset_assignments(turn, error);
            self.rebalance(turn);
        }
    }

    /// The answer to a static member whose new id is committed, if the id is still its own.
    pub fn static_rejoin_committed(&self, instance: &InstanceId, reply: JoinReply) -> Result<JoinReply, JoinRefused> {
        match self.check_member(&reply.member_id, Some(instance)) {
            Ok(()) => Ok(reply),
            Err(error) => Err(JoinRefused { error, member_id: Some(reply.member_id) }),
        }
    }
}

/// The answer to whoever waits for a proposal that failed.
pub(super) fn error_of(reason: ProposalFailure, purpose: &Purpose) -> GroupError {
    match (reason, purpose) {
        (ProposalFailure::NotLeader, _) => GroupError::NotCoordinator,
        (ProposalFailure::Unknown, _) => GroupError::CoordinatorNotAvailable,
        (ProposalFailure::TooLarge, Purpose::Offsets { .. } | Purpose::DeleteOffsets { .. }) => {
            GroupError::InvalidCommitOffsetSize
        }
        (ProposalFailure::TooLarge, _) => GroupError::UnknownServerError,
    }
}

/// Answers the request that a proposal carries, if it carries one.
pub(super) fn refuse(turn: &mut Turn<'_>, purpose: Purpose, error: GroupError) {
    match purpose {
        Purpose::Assignment { .. } | Purpose::Emptied | Purpose::Expired | Purpose::Delete { reply_to: None } => {}
        // Its new id is already in force here, so that its next JoinGroup replaces it again.
        Purpose::StaticRejoin { reply_to, .. } => turn.refuse_join(reply_to, error, None),
        Purpose::Delete { reply_to: Some(reply_to) } => turn.reply(reply_to, ReplyBody::Delete(Err(error))),
        Purpose::Offsets { reply_to, .. } => turn.reply(reply_to, ReplyBody::CommitOffsets(Err(error))),
        Purpose::DeleteOffsets { reply_to, .. } => turn.reply(reply_to, ReplyBody::DeleteOffsets(Err(error))),
    }
}
