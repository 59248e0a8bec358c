//! From the first reason to rebalance to the JoinGroup answers of the next generation.

use duolog_record::group::{GroupRecord, MemberId};

use super::error::GroupError;
use super::group::{Group, InitialDelay, Phase};
use super::turn::{GroupCommand, Purpose, Turn};

impl Group {
    /// Begins a rebalance, or goes on with the one that runs.
    pub fn rebalance(&mut self, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Empty | Phase::CompletingRebalance | Phase::Stable => self.prepare(turn),
            Phase::PreparingRebalance => self.complete_if_all_joined(turn),
            Phase::Dead => {}
        }
    }

    fn prepare(&mut self, turn: &mut Turn<'_>) {
        self.reset_assignments(turn, GroupError::RebalanceInProgress);
        self.pending_sync.clear();
        self.sync_deadline = None;
        let first = self.phase == Phase::Empty;
        self.phase = Phase::PreparingRebalance;
        let delay_ms = turn.config.initial_rebalance_delay_ms;
        if first && delay_ms > 0 {
            let remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms);
            self.initial = Some(InitialDelay { delay_ms, remaining_ms, member_added: false });
            self.join_deadline = Some(turn.deadline(delay_ms));
        } else {
            self.complete_if_all_joined(turn);
        }
    }

    /// Takes back what was assigned; members that wait for it get `error`.
    pub fn reset_assignments(&mut self, turn: &mut Turn<'_>, error: GroupError) {
        self.assignment_in_flight = None;
        for member in self.members.values_mut() {
            member.durable.assignment.clear();
            member.answer_sync(turn, Err(error));
        }
    }

    /// Ends the joining when everybody has joined. The initial delay always runs to its end.
    pub fn complete_if_all_joined(&mut self, turn: &mut Turn<'_>) {
        if self.phase != Phase::PreparingRebalance || self.initial.is_some() {
            return;
        }
        if self.all_joined() {
            self.complete_join(turn);
        } else if self.join_deadline.is_none() {
            self.join_deadline = Some(turn.deadline(self.rebalance_timeout_ms()));
        }
    }

    /// The join deadline has come: extend the initial delay, or go on without those that are missing.
    pub fn join_deadline_passed(&mut self, turn: &mut Turn<'_>) {
        if let Some(initial) = &mut self.initial
            && initial.member_added
            && initial.remaining_ms > 0
        {
            let ran_ms = initial.delay_ms;
            initial.member_added = false;
            initial.delay_ms = turn.config.initial_rebalance_delay_ms.min(initial.remaining_ms);
            initial.remaining_ms = initial.remaining_ms.saturating_sub(ran_ms);
            self.join_deadline = Some(turn.deadline(initial.delay_ms));
            return;
        }
        self.complete_join(turn);
    }

    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        self.initial = None;
        self.join_deadline = None;
        let missing: Vec<MemberId> = self
            .members
            .values()
            .filter(|m| m.join_waiter.is_none() && m.durable.instance_id.is_none())
            .map(|m| m.durable.member_id.clone())
            .collect();
        for id in &missing {
            self.remove(turn, id);
        }
        if self.members.is_empty() {
            self.become_empty(turn);
        } else if self.elect_joined_leader() {
            self.next_generation(turn);
        } else {
            // Only static members are left and none has come: their sessions decide.
            self.join_deadline = Some(turn.deadline(self.rebalance_timeout_ms().max(1)));
        }
    }

    /// Whether the leader has joined; if not, another member that has takes its place.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |id: &MemberId| self.members[id].join_waiter.is_some();
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let joined = self.members.values().find(|m| m.join_waiter.is_some());
        let elected = joined.map(|m| m.durable.member_id.clone());
        let found = elected.is_some();
        if found {
            self.leader = elected;
        }
        found
    }

    fn become_empty(&mut self, turn: &mut Turn<'_>) {
        self.advance_generation();
        self.phase = Phase::Empty;
        self.protocol_name = None;
        let snapshot = self.snapshot(|m| m.assignment.clone());
        turn.propose(&self.id, GroupCommand::Group(GroupRecord::Snapshot(snapshot)), Purpose::Emptied);
    }

    fn next_generation(&mut self, turn: &mut Turn<'_>) {
        self.advance_generation();
        self.phase = Phase::CompletingRebalance;
        self.protocol_name = self.select_protocol();
        self.pending_sync = self.members.keys().cloned().collect();
        self.sync_deadline = Some(turn.deadline(self.rebalance_timeout_ms()));
        for id in self.pending_sync.clone() {
            let reply = self.join_reply(&id);
            let member = self.member_mut(&id);
            member.answer_join(turn, reply);
            member.renew(turn);
        }
    }

    fn advance_generation(&mut self) {
        self.generation = self.generation.checked_add(1).expect("no group lives through 2^31 rebalances");
    }
}
