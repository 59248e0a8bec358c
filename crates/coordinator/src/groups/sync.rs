//! SyncGroup.

use std::collections::BTreeMap;

use bytes::Bytes;
use duolog_record::group::{GroupRecord, MemberId};

use super::error::GroupError;
use super::event::{RequestId, SyncRequest};
use super::group::{Group, Phase};
use super::turn::{GroupCommand, Purpose, ReplyBody, Turn};

impl Group {
    pub fn sync(&mut self, turn: &mut Turn<'_>, reply_to: RequestId, request: SyncRequest) {
        if let Err(error) = self.check_sync(&request) {
            return turn.reply(reply_to, ReplyBody::Sync(Err(error)));
        }
        let id = request.member_id;
        self.synced(&id);
        if self.phase == Phase::Stable {
            let reply = self.sync_reply(self.members[&id].durable.assignment.clone());
            self.member_mut(&id).renew(turn);
            return turn.reply(reply_to, ReplyBody::Sync(Ok(reply)));
        }
        self.member_mut(&id).park_sync(turn, reply_to);
        if self.is_leader(&id) && self.assignment_in_flight.is_none() {
            self.propose_assignments(turn, request.assignments.into_iter().collect());
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), GroupError> {
        if self.phase == Phase::Dead {
            return Err(GroupError::CoordinatorNotAvailable);
        }
        self.check_member(&request.member_id, request.instance_id.as_ref())?;
        if request.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs = |said: &Option<String>, ours: &Option<String>| said.is_some() && said != ours;
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol_name, &self.protocol_name)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        match self.phase {
            Phase::Empty | Phase::Dead => Err(GroupError::UnknownMemberId),
            Phase::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            Phase::CompletingRebalance | Phase::Stable => Ok(()),
        }
    }

    /// Members that the leader forgot get an empty assignment; those that it made up get none.
    fn propose_assignments(&mut self, turn: &mut Turn<'_>, mut given: BTreeMap<MemberId, Bytes>) {
        let assignments: BTreeMap<MemberId, Bytes> =
            self.members.keys().map(|id| (id.clone(), given.remove(id).unwrap_or_default())).collect();
        let snapshot = self.snapshot(|m| assignments[&m.member_id].clone());
        let purpose = Purpose::Assignment { generation: self.generation, assignments };
        let proposal = turn.propose(&self.id, GroupCommand::Group(GroupRecord::Snapshot(snapshot)), purpose);
        self.assignment_in_flight = Some(proposal);
    }
}
