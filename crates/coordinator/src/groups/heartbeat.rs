//! Heartbeat.

use super::error::GroupError;
use super::event::{HeartbeatRequest, RequestId};
use super::group::{Group, Phase};
use super::turn::{ReplyBody, Turn};

impl Group {
    pub fn heartbeat(&mut self, turn: &mut Turn<'_>, reply_to: RequestId, request: &HeartbeatRequest) {
        let result = self.beat(turn, request);
        turn.reply(reply_to, ReplyBody::Heartbeat(result));
    }

    fn beat(&mut self, turn: &Turn<'_>, request: &HeartbeatRequest) -> Result<(), GroupError> {
        if self.phase == Phase::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        self.check_member(&request.member_id, request.instance_id.as_ref())?;
        if request.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        match self.phase {
            Phase::Empty | Phase::Dead => Err(GroupError::UnknownMemberId),
            Phase::PreparingRebalance => {
                self.member_mut(&request.member_id).renew(turn);
                Err(GroupError::RebalanceInProgress)
            }
            Phase::CompletingRebalance | Phase::Stable => {
                self.member_mut(&request.member_id).renew(turn);
                Ok(())
            }
        }
    }
}
