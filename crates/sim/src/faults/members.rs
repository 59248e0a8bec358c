//! Nodes that join, leave, or take the place of one that has lost its disk, one change at a time.
//!
//! ```text
//!  absent ── started ─▶ present ── its command is done ─▶ leaving ── ends by itself ─▶ gone
//!                          └────── loses its disk ───────────────────────────────────▶ gone
//! ```

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::World;
use crate::cluster::SimCluster;
use crate::node::{Crash, NODES, NODES_MAX, Standing, host};
use crate::operator::{self, Change};

/// With more voters one leaves.
const VOTERS_MAX: usize = 4;
/// How long a change may take when there are no faults any more.
const CHANGE_LIMIT: Duration = Duration::from_secs(90);

/// Who takes part, and what is being changed.
pub struct Members {
    /// Voters of every broker group; while a change is under way those before it.
    voters: Vec<u32>,
    change: Option<Running>,
    /// Operators so far.
    operators: u32,
    next_node: u32,
}

/// A change that an operator is at.
struct Running {
    change: Change,
    is_done: Rc<Cell<bool>>,
}

impl Default for Members {
    fn default() -> Self {
        Self { voters: (0..NODES).collect(), change: None, operators: 0, next_node: NODES }
    }
}

impl Members {
    /// The sets of voters that may count.
    fn configurations(&self) -> Vec<Vec<u32>> {
        let after = self.change.as_ref().map(|running| after(&self.voters, running.change));
        [Some(self.voters.clone()), after].into_iter().flatten().collect()
    }

    /// Who votes, or may vote.
    pub fn voters(&self) -> impl Iterator<Item = u32> {
        let mut voters: Vec<u32> = self.configurations().concat();
        voters.sort_unstable();
        voters.dedup();
        voters.into_iter()
    }

    /// Whether the change that is under way takes a node out.
    pub fn is_going(&self, node: u32) -> bool {
        let change = self.change.as_ref().map(|running| running.change);
        matches!(change, Some(Change::Leave { old } | Change::Replace { old, .. }) if old == node)
    }

    pub fn is_changing(&self) -> bool {
        self.change.is_some()
    }
}

/// The voters after a change.
fn after(voters: &[u32], change: Change) -> Vec<u32> {
    let (add, remove) = match change {
        Change::Join { new } => (Some(new), None),
        Change::Leave { old } => (None, Some(old)),
        Change::Replace { old, new } => (Some(new), Some(old)),
    };
    voters.iter().copied().filter(|node| Some(*node) != remove).chain(add).collect()
}

impl World {
    /// Nodes that run, or will run again.
    pub(super) fn present(&self) -> Vec<u32> {
        self.clients.cluster.nodes.iter().filter(|node| node.is_present()).map(|node| node.id).collect()
    }

    /// A voter's disk is gone, and nobody has taken its place.
    pub(super) fn is_voter_lost(&self) -> bool {
        self.members.voters().any(|voter| !self.clients.cluster.nodes[voter as usize].is_present())
    }

    /// Begins a change, unless one is under way.
    pub(super) fn change_members(&mut self) {
        if self.members.is_changing() {
            return;
        }
        let old = self.members.voters[self.random.below(self.members.voters.len() as u64) as usize];
        let new = self.members.next_node;
        let change = match self.random.below(2) {
            _ if self.members.voters.len() >= VOTERS_MAX => Change::Leave { old },
            _ if new >= NODES_MAX => return,
            0 => Change::Join { new },
            _ => Change::Replace { old, new },
        };
        self.count(match change {
            Change::Join { .. } => "fault: a node joins",
            Change::Leave { .. } => "fault: a node leaves",
            Change::Replace { .. } => "fault: a node is replaced",
        });
        self.tell(&format!("the members change: {change:?}"));
        if let Change::Replace { old, .. } = change
            && self.may_lose_disk()
            && self.random.one_in(2)
        {
            self.lose_disk(old);
        }
        if let Change::Join { new } | Change::Replace { new, .. } = change {
            self.members.next_node += 1;
            self.add_node(new);
        }
        let is_done = Rc::new(Cell::new(false));
        let (cluster, random) = (self.clients.cluster.clone(), self.random.fork());
        self.sim.client(
            format!("operator-{}", self.members.operators),
            operator::run(cluster, change, random, is_done.clone()),
        );
        self.members.operators += 1;
        self.members.change = Some(Running { change, is_done });
        self.reach.set_configurations(self.members.configurations());
    }

    /// A node starts with an empty disk and waits to be let in.
    fn add_node(&mut self, new: u32) {
        let mut peers = self.present();
        peers.push(new);
        let node = self.clients.cluster.nodes[new as usize].clone();
        node.wait_for(peers);
        self.sim.host(host(new), move || node.clone().run_machine());
        self.start_process(new);
        self.reach.set_up(new, true);
    }

    /// As a loss of power, and its disk never comes back. All others must have what they had acknowledged: with a guarded node an
    /// operator would have to decide.
    fn may_lose_disk(&self) -> bool {
        let nodes = &self.clients.cluster.nodes;
        self.may_lose_power() && !self.is_disk_failing() && !nodes.iter().any(|node| node.is_guarded())
    }

    fn lose_disk(&mut self, node: u32) {
        self.count("fault: lost disk");
        self.tell(&format!("node {node} loses its disk"));
        self.power_lost_at = Some(self.sim.elapsed());
        self.record_begin(node, duolog_chaos::history::Fault::Kill);
        self.take_down(node, Crash::PowerLoss);
        self.clients.cluster.nodes[node as usize].set_standing(Standing::Gone);
    }

    /// What a command has done by now.
    pub(super) fn end_change(&mut self) {
        let Some(Running { change, .. }) = self.members.change.take_if(|running| running.is_done.get()) else { return };
        self.tell(&format!("the members have changed: {change:?}"));
        self.members.voters = after(&self.members.voters, change);
        self.reach.set_configurations(self.members.configurations());
        if let Change::Leave { old } | Change::Replace { old, .. } = change {
            let old = &self.clients.cluster.nodes[old as usize];
            if old.is_present() {
                old.set_standing(Standing::Leaving);
            }
        }
    }

    /// Waits, without faults, for the change that is under way.
    pub fn finish_change(&mut self) -> turmoil::Result {
        let end = self.sim.elapsed() + CHANGE_LIMIT;
        self.steps(|world| world.members.is_changing() && world.sim.elapsed() < end)?;
        if let Some(running) = &self.members.change {
            let text = format!("the members have not changed {CHANGE_LIMIT:?} after the faults: {:?}", running.change);
            self.broken.push(text);
        }
        Ok(())
    }

    /// At the end: who should vote does, and who was removed has ended.
    pub fn check_members(&mut self) -> turmoil::Result {
        for node in self.clients.cluster.nodes.iter().filter(|node| node.standing() == Standing::Leaving) {
            self.broken.push(format!("node {} was removed from the cluster and has not ended", node.id));
        }
        if self.members.is_changing() {
            return Ok(());
        }
        let found = Rc::new(Cell::new(None));
        let (answer, cluster): (_, SimCluster) = (found.clone(), self.clients.cluster.clone());
        self.sim.client("auditor", async move {
            answer.set(Some(operator::voters(&cluster).await));
            Ok(())
        });
        let mut groups = None;
        while groups.is_none() {
            self.step()?;
            groups = found.take();
        }
        let mut expected = self.members.voters.clone();
        expected.sort_unstable();
        for (group, voters) in groups.unwrap_or_default().into_iter().enumerate() {
            if voters.as_ref() != Some(&expected) {
                let text =
                    format!("broker group {group} has the voters {voters:?}; every command has made them {expected:?}");
                self.broken.push(text);
            }
        }
        Ok(())
    }
}
