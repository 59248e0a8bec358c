//! JoinGroup.

use bytes::Bytes;
use duolog_record::group::{GroupMember, GroupRecord, MemberId, MemberProtocol};

use super::error::GroupError;
use super::event::{JoinRequest, RequestId};
use super::group::{Group, Phase};
use super::member::Member;
use super::turn::{GroupCommand, Purpose, ReplyBody, Turn};

/// Most protocols that a member may name: clients have one for each assignor that they know, and all members' names are
/// compared with one another.
const PROTOCOLS_MAX: usize = 64;
/// Most bytes of them, names and metadata: a group with more could not be replicated, and a waiting member would keep them in memory.
const PROTOCOLS_BYTES_MAX: usize = 4 << 20;

impl Group {
    pub fn join(&mut self, turn: &mut Turn<'_>, reply_to: RequestId, request: JoinRequest) {
        if self.phase == Phase::Dead {
            return turn.refuse_join(reply_to, GroupError::CoordinatorNotAvailable, request.member_id);
        }
        if !self.has_room_for(turn, request.member_id.as_ref()) {
            if let Some(id) = &request.member_id {
                self.pending_members.remove(id);
                self.remove(turn, id);
                self.complete_if_all_joined(turn);
            }
            return turn.refuse_join(reply_to, GroupError::GroupMaxSizeReached, None);
        }
        if !are_bounded(&request.protocols) || !self.supports_protocols(&request.protocol_type, &request.protocols) {
            return turn.refuse_join(reply_to, GroupError::InconsistentGroupProtocol, request.member_id);
        }
        match request.member_id.clone() {
            None => self.join_without_id(turn, reply_to, request),
            Some(id) => self.join_with_id(turn, reply_to, id, request),
        }
    }

    /// While members join, those that have joined count: so an oversized group loses whoever comes last.
    fn has_room_for(&self, turn: &Turn<'_>, id: Option<&MemberId>) -> bool {
        let member = id.and_then(|id| self.members.get(id));
        let size_max = turn.config.group_size_max;
        match self.phase {
            Phase::Empty | Phase::Dead => true,
            Phase::PreparingRebalance => {
                member.is_some_and(|m| m.join_waiter.is_some()) || self.joined_count() < size_max
            }
            Phase::CompletingRebalance | Phase::Stable => member.is_some() || self.members.len() < size_max,
        }
    }

    fn join_without_id(&mut self, turn: &mut Turn<'_>, reply_to: RequestId, request: JoinRequest) {
        if let Some(instance) = request.instance_id.clone() {
            let id = MemberId(format!("{instance}-{}", request.uuid));
            match self.static_members.get(&instance).cloned() {
                Some(old) => self.rejoin_static(turn, reply_to, &old, id, request),
                None => self.add_and_rebalance(turn, reply_to, id, request),
            }
            return;
        }
        let id = MemberId(format!("{}-{}", request.client_id, request.uuid));
        if request.requires_member_id {
            self.pending_members.insert(id.clone(), turn.deadline(request.session_timeout_ms));
            turn.refuse_join(reply_to, GroupError::MemberIdRequired, Some(id));
        } else {
            self.add_and_rebalance(turn, reply_to, id, request);
        }
    }

    fn join_with_id(&mut self, turn: &mut Turn<'_>, reply_to: RequestId, id: MemberId, request: JoinRequest) {
        if self.pending_members.contains_key(&id) && request.instance_id.is_none() {
            return self.add_and_rebalance(turn, reply_to, id, request);
        }
        if let Err(error) = self.check_member(&id, request.instance_id.as_ref()) {
            return turn.refuse_join(reply_to, error, Some(id));
        }
        let changed = !self.members[&id].matches(&request.protocols);
        match self.phase {
            // The answer to an earlier JoinGroup was lost, or a follower asks again: nothing has changed.
            Phase::CompletingRebalance if !changed => self.answer_current(turn, reply_to, &id),
            Phase::Stable if !changed && !self.is_leader(&id) => self.answer_current(turn, reply_to, &id),
            // A leader that joins again wants a new assignment: its topics have changed.
            Phase::PreparingRebalance | Phase::CompletingRebalance | Phase::Stable => {
                self.update_and_park(turn, reply_to, &id, request);
                self.rebalance(turn);
            }
            Phase::Empty | Phase::Dead => turn.refuse_join(reply_to, GroupError::UnknownMemberId, Some(id)),
        }
    }

    fn answer_current(&mut self, turn: &mut Turn<'_>, reply_to: RequestId, id: &MemberId) {
        let reply = self.join_reply(id);
        self.member_mut(id).renew(turn);
        turn.reply(reply_to, ReplyBody::Join(Ok(reply)));
    }

    fn update_and_park(&mut self, turn: &mut Turn<'_>, reply_to: RequestId, id: &MemberId, request: JoinRequest) {
        let member = self.member_mut(id);
        member.update(request);
        member.park_join(turn, reply_to);
    }

    fn add_and_rebalance(&mut self, turn: &mut Turn<'_>, reply_to: RequestId, id: MemberId, request: JoinRequest) {
        let mut member = Member::new(
            GroupMember {
                member_id: id,
                instance_id: request.instance_id,
                client_id: request.client_id,
                client_host: request.client_host,
                session_timeout_ms: request.session_timeout_ms,
                rebalance_timeout_ms: request.rebalance_timeout_ms,
                protocols: request.protocols,
                assignment: Bytes::new(),
            },
            true,
        );
        member.park_join(turn, reply_to);
        member.renew_as_new(turn);
        self.add(member, request.protocol_type);
        self.rebalance(turn);
    }

    /// A static member has restarted: it takes its place under a new id, and nobody else notices if its vote changes
    /// nothing (KIP-345).
    fn rejoin_static(
        &mut self,
        turn: &mut Turn<'_>,
        reply_to: RequestId,
        old: &MemberId,
        id: MemberId,
        request: JoinRequest,
    ) {
        let leader_before = self.leader.clone();
        let supports_skipping = request.supports_skipping_assignment;
        self.replace_static(turn, old, &id);
        let member = self.member_mut(&id);
        member.durable.client_id.clone_from(&request.client_id);
        member.durable.client_host.clone_from(&request.client_host);
        if self.phase != Phase::Stable {
            self.update_and_park(turn, reply_to, &id, request);
            return self.rebalance(turn);
        }
        self.member_mut(&id).update(request);
        self.member_mut(&id).renew(turn);
        if self.select_protocol() != self.protocol_name {
            self.member_mut(&id).park_join(turn, reply_to);
            return self.rebalance(turn);
        }
        let mut reply = self.join_reply(&id);
        if supports_skipping {
            reply.skip_assignment = self.is_leader(&id);
        } else {
            // Told of its new id, an older client would assign, and nobody would take part.
            reply.leader = leader_before.expect("a group with members has a leader");
            reply.members.clear();
        }
        let snapshot = self.snapshot(|m| m.assignment.clone());
        let instance = self.members[&id].durable.instance_id.clone().expect("a static member has an instance id");
        let purpose = Purpose::StaticRejoin { reply_to, instance, reply };
        turn.propose(&self.id, GroupCommand::Group(GroupRecord::Snapshot(snapshot)), purpose);
    }
}

fn are_bounded(protocols: &[MemberProtocol]) -> bool {
    let bytes: usize = protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum();
    protocols.len() <= PROTOCOLS_MAX && bytes <= PROTOCOLS_BYTES_MAX
}
