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
        let results: Vec<_> = members.iter().map(|member| self.leave_one(turn, member)).collect();
        let left = results.iter().any(Result::is_ok);
        turn.reply(reply_to, ReplyBody::Leave(Ok(results)));
        if left {
            self.rebalance_if_members_changed(turn);
        }
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

    /// Members are gone: the others rebalance, or a rebalance that waited for them goes on.
    pub fn rebalance_if_members_changed(&mut self, turn: &mut Turn<'_>) {
        if self.phase != Phase::Empty {
            self.rebalance(turn);
        }
    }
}
