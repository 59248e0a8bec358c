//! OffsetCommit and OffsetDelete. The offsets themselves are replicated state elsewhere: here a change is judged and proposed.

use duolog_record::group::{CommittedOffset, OffsetCommit};
use duolog_types::TopicPartition;

use super::error::GroupError;
use super::event::{OffsetCommitRequest, OffsetDeleteRequest, RequestId};
use super::group::{Group, Phase};
use super::turn::{GroupCommand, OffsetResults, Purpose, ReplyBody, Turn};

impl Group {
    pub fn commit_offsets(&mut self, turn: &mut Turn<'_>, reply_to: RequestId, request: OffsetCommitRequest) {
        if let Err(error) = self.check_commit(&request) {
            return turn.reply(reply_to, ReplyBody::CommitOffsets(Err(error)));
        }
        if let Some(member) = request.member_id.as_ref().and_then(|id| self.members.get_mut(id)) {
            member.renew(turn);
        }
        let (results, offsets) = split_by_size(request, turn.config.offset_metadata_bytes_max);
        if offsets.is_empty() {
            return turn.reply(reply_to, ReplyBody::CommitOffsets(Ok(results)));
        }
        let commit = GroupCommand::Offsets(OffsetCommit { group: self.id.clone(), offsets });
        turn.propose(&self.id, commit, Purpose::Offsets { reply_to, results });
    }

    pub fn delete_offsets(&mut self, turn: &mut Turn<'_>, reply_to: RequestId, request: OffsetDeleteRequest) {
        if let Err(error) = self.check_delete_offsets() {
            return turn.reply(reply_to, ReplyBody::DeleteOffsets(Err(error)));
        }
        let subscription = self.subscription();
        let judge = |topic: &str| match subscription.includes(topic) {
            true => Err(GroupError::GroupSubscribedToTopic),
            false => Ok(()),
        };
        let results: OffsetResults = request.partitions.iter().map(|(topic, at)| (*at, judge(topic))).collect();
        let partitions: Vec<TopicPartition> =
            results.iter().filter(|(_, result)| result.is_ok()).map(|(partition, _)| *partition).collect();
        if partitions.is_empty() {
            return turn.reply(reply_to, ReplyBody::DeleteOffsets(Ok(results)));
        }
        let command = GroupCommand::DeleteOffsets { group: self.id.clone(), partitions };
        turn.propose(&self.id, command, Purpose::DeleteOffsets { reply_to, results });
    }

    /// While members of another protocol than the consumers' are there, nobody knows what they still need.
    fn check_delete_offsets(&self) -> Result<(), GroupError> {
        match self.phase {
            Phase::Dead => Err(GroupError::GroupIdNotFound),
            Phase::Empty => Ok(()),
            Phase::PreparingRebalance | Phase::CompletingRebalance | Phase::Stable if self.is_of_consumers() => Ok(()),
            Phase::PreparingRebalance | Phase::CompletingRebalance | Phase::Stable => Err(GroupError::NonEmptyGroup),
        }
    }

    fn check_commit(&self, request: &OffsetCommitRequest) -> Result<(), GroupError> {
        if self.phase == Phase::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        // A consumer without group management, or an administrator, may commit to a group that has no members.
        if request.generation < 0 && self.phase == Phase::Empty {
            return Ok(());
        }
        if request.generation < 0 && request.member_id.is_none() && request.instance_id.is_none() {
            return Err(GroupError::UnknownMemberId);
        }
        let member = request.member_id.clone().unwrap_or_default();
        self.check_member(&member, request.instance_id.as_ref())?;
        if request.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        // The member's generation is the new one, so it has left its old partitions: it must sync first.
        if self.phase == Phase::CompletingRebalance {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }
}

/// The answer per partition if the rest is committed, and the rest.
fn split_by_size(
    request: OffsetCommitRequest,
    bytes_max: usize,
) -> (OffsetResults, Vec<(TopicPartition, CommittedOffset)>) {
    let mut results = Vec::new();
    let mut offsets = Vec::new();
    for commit in request.partitions {
        if commit.metadata.len() > bytes_max {
            results.push((commit.partition, Err(GroupError::OffsetMetadataTooLarge)));
            continue;
        }
        results.push((commit.partition, Ok(())));
        let committed = CommittedOffset {
            offset: commit.offset,
            leader_epoch: commit.leader_epoch,
            metadata: commit.metadata,
            commit_timestamp: request.commit_timestamp,
        };
        offsets.push((commit.partition, committed));
    }
    (results, offsets)
}
