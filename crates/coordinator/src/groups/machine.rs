//! The machine: which group an event goes to, what is durable, and who is due next.

use std::collections::{BTreeMap, BTreeSet};

use duolog_record::group::{GroupId, GroupMetadata, GroupRecord};

use super::config::GroupConfig;
use super::describe::{GroupDescription, GroupListing};
use super::error::{GroupError, JoinRefused};
use super::event::{Event, Expired, JoinRequest, ProposalFailure, ProposalId, RequestId};
use super::group::{Group, Phase};
use super::offset_expiry::{ExpiryRule, StoredOffset};
use super::outcome;
use super::turn::{GroupCommand, Output, Proposals, Purpose, ReplyBody, Turn};

/// All classic groups of one broker group.
///
/// Contract of the driver: committed commands are given to [`GroupMachine::replay`] in log order, on every replica;
/// `Event::Lead` comes once all of earlier terms are replayed; the outcome of each proposal is reported, success after
/// its replay; `now_ms` never goes back and starts anew with the process.
#[derive(Debug)]
pub struct GroupMachine {
    config: GroupConfig,
    /// What is committed; `None` for a group that has committed offsets only.
    durable: BTreeMap<GroupId, Option<GroupMetadata>>,
    leads: bool,
    /// While leading: every group. Empty otherwise.
    live: BTreeMap<GroupId, Group>,
    proposals: Proposals,
    /// The next deadline of each live group that has one.
    deadlines: BTreeSet<(u64, GroupId)>,
    deadline_of: BTreeMap<GroupId, u64>,
}

impl GroupMachine {
    /// A machine that knows nothing and does not lead.
    #[must_use]
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config,
            durable: BTreeMap::new(),
            leads: false,
            live: BTreeMap::new(),
            proposals: Proposals::default(),
            deadlines: BTreeSet::new(),
            deadline_of: BTreeMap::new(),
        }
    }

    /// Takes a committed command: the only change of what is durable. A fail-over loads groups with it.
    pub fn replay(&mut self, command: &GroupCommand) {
        match command {
            GroupCommand::Group(GroupRecord::Snapshot(metadata)) => {
                self.durable.insert(metadata.group.clone(), Some(metadata.clone()));
            }
            GroupCommand::Group(GroupRecord::Tombstone(group)) => {
                self.durable.remove(group);
            }
            GroupCommand::Offsets(commit) => {
                self.durable.entry(commit.group.clone()).or_insert(None);
            }
            // A group without offsets is still a group; it goes by a tombstone.
            GroupCommand::DeleteOffsets { .. } | GroupCommand::ExpireOffsets { .. } => {}
        }
    }

    /// A group has committed offsets without this machine's doing: from now on it is known.
    pub fn learn(&mut self, group: GroupId) {
        if self.leads {
            self.live.entry(group.clone()).or_insert_with(|| Group::new(group.clone()));
        }
        self.durable.entry(group).or_insert(None);
    }

    /// What follows from an event. `now_ms` is the driver's monotonic clock.
    pub fn on(&mut self, event: Event, now_ms: u64) -> Output {
        let mut out = Output::default();
        match event {
            Event::Lead => self.lead(now_ms, &mut out),
            Event::Resign => self.resign(now_ms, &mut out),
            Event::Tick => self.tick(now_ms, &mut out),
            Event::Expire(expired) => self.expire(expired, now_ms, &mut out),
            Event::Committed { proposal } => self.committed(proposal, now_ms, &mut out),
            Event::ProposalFailed { proposal, reason } => self.failed(proposal, reason, now_ms, &mut out),
            request => self.request(request, now_ms, &mut out),
        }
        out.next_deadline_ms = self.deadlines.first().map(|(deadline, _)| *deadline);
        out
    }

    /// Whether this node leads, so that the views below are of use.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leads
    }

    /// A group as it is now; `None` if there is none or this node does not lead.
    #[must_use]
    pub fn describe(&self, group: &GroupId) -> Option<GroupDescription> {
        self.live.get(group).map(Group::describe)
    }

    /// Every group as it is now, by id; none when this node does not lead.
    pub fn list(&self) -> impl Iterator<Item = GroupListing> + '_ {
        self.live.values().map(Group::listing)
    }

    /// What of a group's committed offsets is to go now; `None` when nothing is, or when the group is busy: the next
    /// look comes. `offsets` MUST be all that the applied state has.
    #[must_use]
    pub fn expired(&self, group: &GroupId, offsets: &[StoredOffset], rule: &ExpiryRule) -> Option<Expired> {
        let is_busy = self.proposals.open.values().any(|(of, _)| of == group);
        self.live.get(group).filter(|_| !is_busy).and_then(|group| group.expired_offsets(offsets, rule))
    }

    fn expire(&mut self, expired: Expired, now: u64, out: &mut Output) {
        if !self.leads || !self.live.contains_key(&expired.group) {
            return;
        }
        let Expired { group: id, offsets, removes_group } = expired;
        self.with(&id, now, out, |group, turn| {
            if removes_group && group.phase == Phase::Empty {
                group.phase = Phase::Dead;
                let tombstone = GroupCommand::Group(GroupRecord::Tombstone(group.id.clone()));
                turn.propose(&group.id, tombstone, Purpose::Delete { reply_to: None });
            } else if !offsets.is_empty() {
                let command = GroupCommand::ExpireOffsets { group: group.id.clone(), offsets };
                turn.propose(&group.id, command, Purpose::Expired);
            }
        });
    }

    fn lead(&mut self, now: u64, out: &mut Output) {
        self.resign(now, out);
        self.leads = true;
        let turn = Turn { now, config: &self.config, proposals: &mut self.proposals, out };
        for (id, metadata) in &self.durable {
            let group = match metadata {
                Some(metadata) => Group::load(metadata, &turn),
                None => Group::new(id.clone()),
            };
            self.live.insert(id.clone(), group);
        }
        for id in self.durable.keys().cloned().collect::<Vec<_>>() {
            self.settle(&id);
        }
    }

    fn resign(&mut self, now: u64, out: &mut Output) {
        self.leads = false;
        self.deadlines.clear();
        self.deadline_of.clear();
        let open = std::mem::take(&mut self.proposals.open);
        let mut turn = Turn { now, config: &self.config, proposals: &mut self.proposals, out };
        for (_, purpose) in open.into_values() {
            outcome::refuse(&mut turn, purpose, GroupError::NotCoordinator);
        }
        for mut group in std::mem::take(&mut self.live).into_values() {
            for member in group.members.values_mut() {
                member.refuse_all(&mut turn, GroupError::NotCoordinator);
            }
        }
    }

    fn tick(&mut self, now: u64, out: &mut Output) {
        let due: Vec<GroupId> =
            self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now).map(|(_, id)| id.clone()).collect();
        for id in due {
            self.with(&id, now, out, |group, turn| group.expire(turn));
        }
    }

    fn request(&mut self, event: Event, now: u64, out: &mut Output) {
        let (reply_to, group) = address(&event);
        if let Err(error) = self.check_request(&event, &group) {
            let mut turn = Turn { now, config: &self.config, proposals: &mut self.proposals, out };
            return turn.reply(reply_to, refusal(&event, error));
        }
        // Only a request that passed the check makes a group; it is forgotten below if nothing came of it.
        self.live.entry(group.clone()).or_insert_with(|| Group::new(group.clone()));
        self.with(&group, now, out, |group, turn| match event {
            Event::Join { request, .. } => group.join(turn, reply_to, request),
            Event::Sync { request, .. } => group.sync(turn, reply_to, request),
            Event::Heartbeat { request, .. } => group.heartbeat(turn, reply_to, &request),
            Event::Leave { request, .. } => group.leave(turn, reply_to, &request.members),
            Event::CommitOffsets { request, .. } => group.commit_offsets(turn, reply_to, request),
            Event::Delete { .. } => delete(group, turn, reply_to),
            Event::DeleteOffsets { request, .. } => group.delete_offsets(turn, reply_to, request),
            Event::Lead
            | Event::Resign
            | Event::Committed { .. }
            | Event::ProposalFailed { .. }
            | Event::Tick
            | Event::Expire(_) => unreachable!("not a request"),
        });
    }

    /// What is wrong before a group is looked into.
    fn check_request(&self, event: &Event, group: &GroupId) -> Result<(), GroupError> {
        if !self.leads {
            return Err(GroupError::NotCoordinator);
        }
        if group.0.is_empty() && !matches!(event, Event::CommitOffsets { .. } | Event::Delete { .. }) {
            return Err(GroupError::InvalidGroupId);
        }
        if let Event::Join { request, .. } = event {
            let accepted = self.config.session_timeout_ms_min..=self.config.session_timeout_ms_max;
            if !accepted.contains(&request.session_timeout_ms) {
                return Err(GroupError::InvalidSessionTimeout);
            }
        }
        if self.live.contains_key(group) {
            return Ok(());
        }
        match event {
            Event::Join { request: JoinRequest { member_id: None, .. }, .. } => Ok(()),
            Event::CommitOffsets { request, .. } if request.generation < 0 => Ok(()),
            Event::CommitOffsets { .. } => Err(GroupError::IllegalGeneration),
            Event::Delete { .. } | Event::DeleteOffsets { .. } => Err(GroupError::GroupIdNotFound),
            _ => Err(GroupError::UnknownMemberId),
        }
    }

    fn committed(&mut self, proposal: ProposalId, now: u64, out: &mut Output) {
        // Unknown when this node has resigned since: everybody was answered then.
        let Some((id, purpose)) = self.proposals.open.remove(&proposal) else { return };
        self.live.entry(id.clone()).or_insert_with(|| Group::new(id.clone()));
        if let Purpose::Delete { .. } = purpose {
            self.live.remove(&id);
        }
        let mut turn = Turn { now, config: &self.config, proposals: &mut self.proposals, out };
        let group = self.live.get_mut(&id);
        match (purpose, group) {
            (Purpose::Assignment { generation, assignments }, Some(group)) => {
                group.assignments_committed(&mut turn, proposal, generation, assignments);
            }
            (Purpose::StaticRejoin { reply_to, instance, reply }, Some(group)) => {
                let reply = group.static_rejoin_committed(&instance, reply);
                turn.reply(reply_to, ReplyBody::Join(reply));
            }
            (Purpose::Offsets { reply_to, results }, _) => turn.reply(reply_to, ReplyBody::CommitOffsets(Ok(results))),
            (Purpose::DeleteOffsets { reply_to, results }, _) => {
                turn.reply(reply_to, ReplyBody::DeleteOffsets(Ok(results)));
            }
            (Purpose::Delete { reply_to: Some(reply_to) }, _) => turn.reply(reply_to, ReplyBody::Delete(Ok(()))),
            (Purpose::Emptied | Purpose::Expired | Purpose::Delete { reply_to: None }, _)
            | (Purpose::Assignment { .. } | Purpose::StaticRejoin { .. }, None) => {}
        }
        self.settle(&id);
    }

    fn failed(&mut self, proposal: ProposalId, reason: ProposalFailure, now: u64, out: &mut Output) {
        let Some((id, purpose)) = self.proposals.open.remove(&proposal) else { return };
        let error = outcome::error_of(reason, &purpose);
        self.with(&id, now, out, |group, turn| {
            match &purpose {
                Purpose::Assignment { .. } => group.assignments_failed(turn, proposal, error),
                Purpose::Delete { .. } => group.phase = Phase::Empty,
                Purpose::Emptied
                | Purpose::StaticRejoin { .. }
                | Purpose::Offsets { .. }
                | Purpose::DeleteOffsets { .. }
                | Purpose::Expired => {}
            }
            outcome::refuse(turn, purpose, error);
        });
    }

    /// Runs a step of a group that is made if it is missing, and keeps the books.
    fn with(&mut self, id: &GroupId, now: u64, out: &mut Output, step: impl FnOnce(&mut Group, &mut Turn<'_>)) {
        let group = self.live.entry(id.clone()).or_insert_with(|| Group::new(id.clone()));
        let mut turn = Turn { now, config: &self.config, proposals: &mut self.proposals, out };
        step(group, &mut turn);
        self.settle(id);
    }

    /// Forgets a group of which nothing is left, and notes when the group is due next.
    fn settle(&mut self, id: &GroupId) {
        let is_nothing = |g: &Group| g.phase == Phase::Empty && g.generation == 0 && g.pending_members.is_empty();
        if !self.durable.contains_key(id) && self.live.get(id).is_some_and(is_nothing) {
            self.live.remove(id);
        }
        if let Some(before) = self.deadline_of.remove(id) {
            self.deadlines.remove(&(before, id.clone()));
        }
        if let Some(next) = self.live.get(id).and_then(Group::next_deadline) {
            self.deadline_of.insert(id.clone(), next);
            self.deadlines.insert((next, id.clone()));
        }
    }
}

fn delete(group: &mut Group, turn: &mut Turn<'_>, reply_to: RequestId) {
    match group.phase {
        Phase::Empty => {
            group.phase = Phase::Dead;
            let tombstone = GroupCommand::Group(GroupRecord::Tombstone(group.id.clone()));
            turn.propose(&group.id, tombstone, Purpose::Delete { reply_to: Some(reply_to) });
        }
        Phase::Dead => turn.reply(reply_to, ReplyBody::Delete(Err(GroupError::GroupIdNotFound))),
        Phase::PreparingRebalance | Phase::CompletingRebalance | Phase::Stable => {
            turn.reply(reply_to, ReplyBody::Delete(Err(GroupError::NonEmptyGroup)));
        }
    }
}

fn address(event: &Event) -> (RequestId, GroupId) {
    match event {
        Event::Join { reply_to, request } => (*reply_to, request.group.clone()),
        Event::Sync { reply_to, request } => (*reply_to, request.group.clone()),
        Event::Heartbeat { reply_to, request } => (*reply_to, request.group.clone()),
        Event::Leave { reply_to, request } => (*reply_to, request.group.clone()),
        Event::CommitOffsets { reply_to, request } => (*reply_to, request.group.clone()),
        Event::Delete { reply_to, group } => (*reply_to, group.clone()),
        Event::DeleteOffsets { reply_to, request } => (*reply_to, request.group.clone()),
        Event::Lead
        | Event::Resign
        | Event::Committed { .. }
        | Event::ProposalFailed { .. }
        | Event::Tick
        | Event::Expire(_) => unreachable!("not a request"),
    }
}

fn refusal(event: &Event, error: GroupError) -> ReplyBody {
    match event {
        Event::Join { request, .. } => {
            ReplyBody::Join(Err(JoinRefused { error, member_id: request.member_id.clone() }))
        }
        Event::Sync { .. } => ReplyBody::Sync(Err(error)),
        Event::Heartbeat { .. } => ReplyBody::Heartbeat(Err(error)),
        Event::Leave { .. } => ReplyBody::Leave(Err(error)),
        Event::CommitOffsets { .. } => ReplyBody::CommitOffsets(Err(error)),
        Event::Delete { .. } => ReplyBody::Delete(Err(error)),
        Event::DeleteOffsets { .. } => ReplyBody::DeleteOffsets(Err(error)),
        Event::Lead
        | Event::Resign
        | Event::Committed { .. }
        | Event::ProposalFailed { .. }
        | Event::Tick
        | Event::Expire(_) => unreachable!("not a request"),
    }
}
