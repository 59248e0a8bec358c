//! The only node that follows a leader loses power, and the leader dies with it: what both had received lies only in the leader's page
//! cache. Whoever is left has not heard of it, and must not be elected by a node that has forgotten it.
//!
//! ```text
//!   leader    ──┬── receives, acknowledges ──╳ kill -9 ──────────── up, with all of it ──▶
//!   witness   ──┴── receives, flushes late ──╳ loss of power ─ up ─ must not vote yet ────▶
//!   other     ─╳ hears nobody ───────────────────────────── hears all, wants to lead ─────▶
//! ```

use std::time::Duration;

use duolog_types::BrokerGroupId;

use super::{Ending, World};
use crate::node::{BROKER_GROUPS, Crash};

/// How long the other one hears nobody.
const DEAF_MS: std::ops::Range<u64> = 50..400;
/// The witness comes back soon, the leader late.
const WITNESS_DOWN_MS: std::ops::Range<u64> = 20..200;
const LEADER_DOWN_MS: std::ops::Range<u64> = 1_000..3_000;
/// What the witness's flushes may take longer, so that it has received much that it has not flushed.
const FLUSH_MS: std::ops::Range<u64> = 100..300;

impl World {
    /// When all three nodes are up and nothing is cut.
    pub(super) fn lose_witness(&mut self) {
        let is_cut = self.is_under_way(|ending| matches!(ending, Ending::Held(_) | Ending::Lossy(_)));
        // The system group has nothing that is acknowledged before it is committed.
        let group = BrokerGroupId(1 + self.random.below(u64::from(BROKER_GROUPS) - 1) as u32);
        let nodes = &self.clients.cluster.nodes;
        let Some(leader) = nodes.iter().find(|node| node.leads(group)).map(|node| node.id) else { return };
        if is_cut || !self.may_lose_power() {
            return;
        }
        let mut others = self.present();
        others.retain(|node| *node != leader);
        if others.len() != 2 {
            return;
        }
        let (witness, other) = if self.random.one_in(2) { (others[0], others[1]) } else { (others[1], others[0]) };
        let time = self.random.ms(DEAF_MS);
        self.make_deaf(other, time);
        let added = self.random.ms(FLUSH_MS);
        self.slow_for(witness, added, time + Duration::from_millis(1));
        self.end_after(time, Ending::Pair { witness, leader });
    }

    /// Unless somebody else has gone meanwhile.
    pub(super) fn lose_pair(&mut self, witness: u32, leader: u32) {
        if !self.may_lose_power() || !self.reach.is_up(leader) || !self.reach.is_up(witness) {
            return;
        }
        self.count("fault: leader and witness");
        let (witness_down, leader_down) = (self.random.ms(WITNESS_DOWN_MS), self.random.ms(LEADER_DOWN_MS));
        self.crash_for(witness, Crash::PowerLoss, witness_down);
        self.crash_for(leader, Crash::Kill, leader_down);
    }
}
