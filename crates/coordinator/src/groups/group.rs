//! A live group: members, votes, leader. What happens when is in `join`, `sync`, `rebalance`, `leave`, `expiry`.
//!
//! Invariants: `leader` is a member, and `Some` exactly when there are members; `static_members` names members that
//! carry that instance id; all members have one protocol in common; Empty means that there are no members.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use duolog_record::group::{GroupId, GroupMember, GroupMetadata, GroupState, InstanceId, MemberId, MemberProtocol};

use super::error::GroupError;
use super::event::ProposalId;
use super::member::Member;
use super::turn::{JoinReply, JoinedMember, SyncReply, Turn};

/// Where a group is in its rebalance; the names are Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No members.
    Empty,
    /// Members join.
    PreparingRebalance,
    /// Members wait for the leader's assignments.
    CompletingRebalance,
    /// Every member has an assignment.
    Stable,
    /// Being deleted.
    Dead,
}

/// The first rebalance of an empty group: it waits for members that start at the same time (KIP-134).
#[derive(Debug)]
pub(super) struct InitialDelay {
    /// The delay that runs now.
    pub delay_ms: u32,
    /// How much longer it may be extended.
    pub remaining_ms: u32,
    /// A member came while it ran: extend.
    pub member_added: bool,
}

#[derive(Debug)]
pub(super) struct Group {
    pub id: GroupId,
    pub phase: Phase,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub leader: Option<MemberId>,
    pub members: BTreeMap<MemberId, Member>,
    pub static_members: BTreeMap<InstanceId, MemberId>,
    /// Ids that were given out and have not joined yet, with the time when they are forgotten.
    pub pending_members: BTreeMap<MemberId, u64>,
    /// In PreparingRebalance: when it goes on without those that have not joined.
    pub join_deadline: Option<u64>,
    /// In the PreparingRebalance that began with an empty group.
    pub initial: Option<InitialDelay>,
    /// Members that got their JoinGroup answer and have not sent SyncGroup.
    pub pending_sync: BTreeSet<MemberId>,
    /// When they are dropped.
    pub sync_deadline: Option<u64>,
    /// The assignments of this generation are proposed.
    pub assignment_in_flight: Option<ProposalId>,
}

impl Group {
    pub fn new(id: GroupId) -> Self {
        Self {
            id,
            phase: Phase::Empty,
            generation: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_members: BTreeMap::new(),
            join_deadline: None,
            initial: None,
            pending_sync: BTreeSet::new(),
            sync_deadline: None,
            assignment_in_flight: None,
        }
    }

    /// A group as it was last committed, every session in full.
    pub fn load(metadata: &GroupMetadata, turn: &Turn<'_>) -> Self {
        let mut group = Self::new(metadata.group.clone());
        group.generation = metadata.generation;
        group.protocol_type.clone_from(&metadata.protocol_type);
        group.protocol_name.clone_from(&metadata.protocol_name);
        group.leader.clone_from(&metadata.leader);
        group.phase = if metadata.members.is_empty() { Phase::Empty } else { Phase::Stable };
        for durable in &metadata.members {
            let mut member = Member::new(durable.clone(), false);
            member.renew(turn);
            if let Some(instance) = &durable.instance_id {
                group.static_members.insert(instance.clone(), durable.member_id.clone());
            }
            group.members.insert(durable.member_id.clone(), member);
        }
        group
    }

    /// The snapshot to be replicated, with these assignments.
    pub fn snapshot(&self, assignment: impl Fn(&GroupMember) -> Bytes) -> GroupMetadata {
        let members =
            self.members.values().map(|m| GroupMember { assignment: assignment(&m.durable), ..m.durable.clone() });
        GroupMetadata {
            group: self.id.clone(),
            state: if self.members.is_empty() { GroupState::Empty } else { GroupState::Stable },
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone(),
            members: members.collect(),
        }
    }

    pub fn is_leader(&self, member: &MemberId) -> bool {
        self.leader.as_ref() == Some(member)
    }

    /// A member by an id that was just found.
    pub fn member_mut(&mut self, id: &MemberId) -> &mut Member {
        self.members.get_mut(id).expect("the id was found among the members")
    }

    /// Whether the ids name a member; a static member that was replaced is fenced.
    pub fn check_member(&self, member: &MemberId, instance: Option<&InstanceId>) -> Result<(), GroupError> {
        match instance {
            None if self.members.contains_key(member) => Ok(()),
            None => Err(GroupError::UnknownMemberId),
            Some(instance) => match self.static_members.get(instance) {
                None => Err(GroupError::UnknownMemberId),
                Some(current) if current != member => Err(GroupError::FencedInstanceId),
                Some(_) => Ok(()),
            },
        }
    }

    pub fn add(&mut self, member: Member, protocol_type: String) {
        let id = member.durable.member_id.clone();
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type);
        }
        if let Some(initial) = &mut self.initial {
            initial.member_added = true;
        }
        if let Some(instance) = &member.durable.instance_id {
            self.static_members.insert(instance.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        self.pending_members.remove(&id);
        self.members.insert(id, member);
    }

    /// Removes a member; what it waits for is answered `UnknownMemberId`.
    pub fn remove(&mut self, turn: &mut Turn<'_>, id: &MemberId) {
        let Some(mut member) = self.members.remove(id) else { return };
        member.refuse_all(turn, GroupError::UnknownMemberId);
        if let Some(instance) = &member.durable.instance_id {
            self.static_members.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.synced(id);
    }

    /// Gives a static member another id; whoever used the old one is fenced.
    pub fn replace_static(&mut self, turn: &mut Turn<'_>, old: &MemberId, new: &MemberId) {
        let mut member = self.members.remove(old).expect("static members name members");
        member.refuse_all(turn, GroupError::FencedInstanceId);
        member.durable.member_id = new.clone();
        let instance = member.durable.instance_id.clone().expect("a static member has an instance id");
        self.static_members.insert(instance, new.clone());
        if self.is_leader(old) {
            self.leader = Some(new.clone());
        }
        if self.pending_sync.remove(old) {
            self.pending_sync.insert(new.clone());
        }
        self.members.insert(new.clone(), member);
    }

    /// Notes that a member sent its SyncGroup, or never will.
    pub fn synced(&mut self, id: &MemberId) {
        self.pending_sync.remove(id);
        if self.pending_sync.is_empty() {
            self.sync_deadline = None;
        }
    }

    /// Whether a member with these protocols fits the others.
    pub fn supports_protocols(&self, protocol_type: &str, protocols: &[MemberProtocol]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.iter().any(|p| self.all_support(&p.name))
    }

    fn all_support(&self, protocol: &str) -> bool {
        self.members.values().all(|member| member.supports(protocol))
    }

    /// The protocol with most votes; each member votes for the first of its own that all support. Of equals, the
    /// first by name.
    pub fn select_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let favourite = member.durable.protocols.iter().find(|p| self.all_support(&p.name));
            *votes.entry(&favourite.expect("members have a protocol in common").name).or_default() += 1;
        }
        let most = votes.values().max()?;
        votes.iter().find(|(_, count)| *count == most).map(|(name, _)| (*name).to_owned())
    }

    pub fn all_joined(&self) -> bool {
        self.pending_members.is_empty() && self.members.values().all(|m| m.join_waiter.is_some())
    }

    pub fn joined_count(&self) -> usize {
        self.members.values().filter(|m| m.join_waiter.is_some()).count()
    }

    /// The longest rebalance timeout of the members.
    pub fn rebalance_timeout_ms(&self) -> u32 {
        self.members.values().map(|m| m.durable.rebalance_timeout_ms).max().unwrap_or(0)
    }

    /// The answer to a JoinGroup in this generation; the leader gets the members.
    pub fn join_reply(&self, member: &MemberId) -> JoinReply {
        JoinReply {
            member_id: member.clone(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone().expect("a group with members has a leader"),
            skip_assignment: false,
            members: if self.is_leader(member) { self.joined_members() } else { Vec::new() },
        }
    }

    pub fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let joined = self.members.values().map(|m| JoinedMember {
            member_id: m.durable.member_id.clone(),
            instance_id: m.durable.instance_id.clone(),
            metadata: m.metadata(protocol),
        });
        joined.collect()
    }

    pub fn sync_reply(&self, assignment: Bytes) -> SyncReply {
        SyncReply { protocol_type: self.protocol_type.clone(), protocol_name: self.protocol_name.clone(), assignment }
    }

    /// The earliest time at which something happens by itself.
    pub fn next_deadline(&self) -> Option<u64> {
        let sessions = self.members.values().filter_map(Member::session_deadline);
        let pending = self.pending_members.values().copied();
        sessions.chain(pending).chain(self.join_deadline).chain(self.sync_deadline).min()
    }
}
