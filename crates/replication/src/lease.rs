//! Until when a leader knows that no other one can have been elected.
//!
//! ```text
//!  leader    ── call sent at t ──▶            ◀── answer ──      valid until t + shortest election time-out
//!  follower                   ▲ refuses votes for the longest election time-out from here
//! ```
//!
//! A follower's answer confirms the leader as of the moment in which *the call that it answers* was sent, whenever the answer
//! is read: after a pause of the process old answers still lie in the sockets. So every answer is matched with its own call here.
//! openraft's own lease is not used: it matches answers with calls by log id, and takes an old answer for one to a later call
//! without entries.
//!
//! Invariants: the leader's own confirmation always counts; the quorum is that of every effective configuration; a leader that
//! has begun to hand over has no lease for the rest of its term, since votes for its successor ignore leases.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::watermarks::quorum_of;

/// When a quorum last confirmed the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Confirmed {
    #[default]
    Never,
    /// By calls that were sent then or later.
    At(Instant),
    /// The leader is a quorum by itself.
    Always,
}

#[derive(Debug, Default)]
struct Inner {
    term: u64,
    handing_over: bool,
    configurations: Vec<BTreeSet<u64>>,
    sent_at: BTreeMap<u64, Instant>,
    quorum: Confirmed,
}

/// The lease of a leader; without meaning while its node does not lead.
#[derive(Debug)]
pub(crate) struct Lease {
    own: u64,
    inner: Mutex<Inner>,
}

impl Lease {
    pub(crate) fn new(own: u64) -> Self {
        Self { own, inner: Mutex::new(Inner::default()) }
    }

    /// This node leads `term` with these voters; more than one set while the membership changes.
    pub(crate) fn lead(&self, term: u64, configurations: &[BTreeSet<u64>]) {
        let mut inner = self.inner.lock();
        if inner.enter(term) && inner.configurations != configurations {
            inner.configurations = configurations.to_vec();
            inner.count(self.own);
        }
    }

    /// `node` follows this node as leader of `term`: it answered a call that was sent at `sent_at`.
    pub(crate) fn confirmed(&self, term: u64, node: u64, sent_at: Instant) {
        let mut inner = self.inner.lock();
        if inner.enter(term) {
            let latest = inner.sent_at.entry(node).or_insert(sent_at);
            *latest = (*latest).max(sent_at);
            inner.count(self.own);
        }
    }

    /// From now on a successor may be elected at any moment.
    pub(crate) fn hand_over(&self, term: u64) {
        let mut inner = self.inner.lock();
        if inner.enter(term) {
            inner.handing_over = true;
        }
    }

    /// Whether a quorum confirmed the leader of `term` less than `length` before `now`.
    pub(crate) fn is_valid(&self, term: u64, now: Instant, length: Duration) -> bool {
        let inner = self.inner.lock();
        inner.term == term
            && !inner.handing_over
            && match inner.quorum {
                Confirmed::Never => false,
                Confirmed::At(at) => now.saturating_duration_since(at) < length,
                Confirmed::Always => true,
            }
    }
}

impl Inner {
    /// Forgets earlier terms; `false` if `term` is one.
    fn enter(&mut self, term: u64) -> bool {
        if term > self.term {
            let configurations = std::mem::take(&mut self.configurations);
            *self = Self { term, configurations, ..Self::default() };
        }
        term == self.term
    }

    fn count(&mut self, own: u64) {
        self.quorum = quorum_of(&self.configurations, |id| match self.sent_at.get(&id) {
            _ if id == own => Confirmed::Always,
            Some(at) => Confirmed::At(*at),
            None => Confirmed::Never,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_millis(250);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn leading(voters: &[&[u64]]) -> (Lease, Instant) {
        let lease = Lease::new(0);
        let voters: Vec<BTreeSet<u64>> = voters.iter().map(|ids| ids.iter().copied().collect()).collect();
        lease.lead(7, &voters);
        (lease, Instant::now())
    }

    #[test]
    fn a_lease_begins_with_a_quorum_and_counts_from_the_sending() {
        let (lease, start) = leading(&[&[0, 1, 2]]);
        assert!(!lease.is_valid(7, start, LENGTH), "nobody has confirmed it yet");
        lease.confirmed(7, 1, start);
        assert!(lease.is_valid(7, start + ms(249), LENGTH));
        assert!(!lease.is_valid(7, start + ms(250), LENGTH));
        lease.confirmed(7, 2, start + ms(200));
        assert!(lease.is_valid(7, start + ms(449), LENGTH));
        lease.confirmed(7, 2, start);
        assert!(lease.is_valid(7, start + ms(449), LENGTH), "an older answer takes nothing back");
    }

    #[test]
    fn an_answer_that_is_read_late_confirms_nothing_later_than_its_call() {
        let (lease, start) = leading(&[&[0, 1, 2]]);
        let resumed = start + ms(2_500);
        lease.confirmed(7, 1, start);
        lease.confirmed(7, 2, start);
        assert!(!lease.is_valid(7, resumed, LENGTH));
    }

    #[test]
    fn the_leaders_own_voice_counts_and_a_learners_does_not() {
        let (lease, start) = leading(&[&[0]]);
        assert!(lease.is_valid(7, start + ms(100_000), LENGTH), "a sole voter needs nobody");
        let (lease, start) = leading(&[&[0, 1, 2, 3]]);
        lease.confirmed(7, 9, start);
        lease.confirmed(7, 1, start);
        assert!(!lease.is_valid(7, start, LENGTH), "two of four are no majority");
        lease.confirmed(7, 2, start);
        assert!(lease.is_valid(7, start, LENGTH));
    }

    #[test]
    fn a_joint_membership_needs_both_quorums() {
        let (lease, start) = leading(&[&[0, 1, 2], &[0, 3, 4]]);
        lease.confirmed(7, 1, start);
        assert!(!lease.is_valid(7, start, LENGTH));
        lease.confirmed(7, 4, start);
        assert!(lease.is_valid(7, start, LENGTH));
    }

    #[test]
    fn a_term_has_its_own_lease() {
        let (lease, start) = leading(&[&[0, 1, 2]]);
        lease.confirmed(7, 1, start);
        lease.lead(8, &[BTreeSet::from([0, 1, 2])]);
        assert!(!lease.is_valid(7, start, LENGTH));
        assert!(!lease.is_valid(8, start, LENGTH));
        lease.confirmed(7, 1, start);
        assert!(!lease.is_valid(8, start, LENGTH), "an answer to an earlier term's call");
        lease.confirmed(8, 1, start);
        assert!(lease.is_valid(8, start, LENGTH));
    }

    #[test]
    fn a_leader_that_hands_over_has_no_lease_until_it_leads_another_term() {
        let (lease, start) = leading(&[&[0, 1, 2]]);
        lease.confirmed(7, 1, start);
        lease.hand_over(7);
        assert!(!lease.is_valid(7, start, LENGTH));
        lease.confirmed(7, 1, start + ms(10));
        assert!(!lease.is_valid(7, start + ms(10), LENGTH));
        lease.confirmed(9, 2, start);
        assert!(lease.is_valid(9, start, LENGTH));
    }
}
