//! What happens by itself: sessions end, ids that were given out are forgotten, deadlines of a rebalance pass.

use duolog_record::group::MemberId;

use super::group::{Group, Phase};
use super::turn::Turn;

impl Group {
    /// Does everything whose time has come. Afterwards the next deadline lies after `turn.now`, or the same group is
    /// due again at once.
    pub fn expire(&mut self, turn: &mut Turn<'_>) {
        let before = self.counts();
        self.pending_members.retain(|_, deadline| *deadline > turn.now);
        self.expire_sessions(turn);
        self.expire_sync(turn);
        self.go_on_without(turn, before);
        if self.join_deadline.is_some_and(|deadline| deadline <= turn.now) {
            self.join_deadline_passed(turn);
        }
    }

    fn expire_sessions(&mut self, turn: &mut Turn<'_>) {
        let ended = |deadline: Option<u64>| deadline.is_some_and(|deadline| deadline <= turn.now);
        let expired: Vec<MemberId> =
            self.members.iter().filter(|(_, m)| ended(m.session_deadline())).map(|(id, _)| id.clone()).collect();
        for id in &expired {
            self.remove(turn, id);
        }
    }

    /// Members that got their JoinGroup answer and never sent SyncGroup hold up nobody for longer than a rebalance.
    fn expire_sync(&mut self, turn: &mut Turn<'_>) {
        if self.sync_deadline.is_none_or(|deadline| deadline > turn.now) {
            return;
        }
        self.sync_deadline = None;
        if matches!(self.phase, Phase::CompletingRebalance | Phase::Stable) {
            for id in std::mem::take(&mut self.pending_sync) {
                self.remove(turn, &id);
            }
        }
    }
}
