//! LeaveGroup.

use super::error::GroupError;
use super::event::{LeavingMember, RequestId};
use super::group::{Group, Phase};
use super::turn::{ReplyBody, Turn};

impl Group {
    pub fn leave(&mut self, turn: &mut Turn<'_>, reply_to: RequestId, members: &[LeavingMember]) {
        if self.phase == Phase::Dead {
            return turn.reply(reply_to, ReplyBody::Leave(Err(GroupError::CoordinatorNotAvailable)));
        }
        let before = self.counts();
        let results: Vec<_> = members.iter().map(|member| self.leave_one(turn, member)).collect();
        turn.reply(reply_to, ReplyBody::Leave(Ok(results)));
        self.go_on_without(turn, before);
    }

    fn leave_one(&mut self, turn: &mut Turn<'_>, leaving: &LeavingMember) -> Result<(), GroupError> {
        let id = match (&leaving.member_id, &leaving.instance_id) {
            (Some(id), _) if self.pending_members.remove(id).is_some() => return Ok(()),
            (Some(id), instance) => {
                self.check_member(id, instance.as_ref())?;
                id.clone()
            }
            // An administrator names a static member by its instance id alone.
            (None, Some(instance)) => self.static_members.get(instance).cloned().ok_or(GroupError::UnknownMemberId)?,
            (None, None) => return Err(GroupError::UnknownMemberId),
        };
        self.remove(turn, &id);
        Ok(())
    }

    /// Members, and ids that were given out and have not joined yet.
    pub fn counts(&self) -> (usize, usize) {
        (self.members.len(), self.pending_members.len())
    }

    /// Some of what was counted before may be gone. Members: the others rebalance, or a rebalance that waited for them goes
    /// on. Ids that never joined: nobody has been assigned anything with them in mind, so only a rebalance that runs goes on.
    pub fn go_on_without(&mut self, turn: &mut Turn<'_>, (members_before, pending_before): (usize, usize)) {
        if self.members.len() < members_before && self.phase != Phase::Empty {
            self.rebalance(turn);
        } else if self.pending_members.len() < pending_before {
            self.complete_if_all_joined(turn);
        }
    }
}
