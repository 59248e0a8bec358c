//! What is done to the cluster under load: faults by name, one file each, in an order that a seed decides.
//!
//! ```text
//!   healthy ── calm ──▶ fault of a name ── as long as it lasts ──▶ over ── healthy again ─ …
//! ```
//!
//! One fault at a time, and the next only when every node is healthy, so that what a fault may take is known. The seed decides what
//! happens, the cluster's speed when. Names come from a shuffled deck: all get their turn, the common ones more often.

mod clean_stop;
mod clock;
mod disk;
mod drain;
mod flip;
mod kill;
mod members;
mod network;
mod pause;
mod scene;
mod transfer;

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use rand::seq::SliceRandom;

pub use scene::Scene;

/// As an operator waits, before the next node is upgraded after the end of the faults.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(20);

/// A fault's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// SIGKILL of a node, most often of a leader, and a new start.
    Kill,
    /// SIGKILL of all nodes at once.
    KillAll,
    /// A node is killed again and again while it recovers.
    Storm,
    /// SIGSTOP of a node, and SIGCONT later.
    Pause,
    /// Every node in turn is stopped by SIGTERM and started: a rolling restart.
    Restart,
    /// Leadership is asked back from the leaders by ElectLeaders, right after a node has given all of it away.
    Transfer,
    /// A node is drained: it gives all leadership away, gets none for a while, and then leads again.
    Drain,
    /// A node joins the cluster, or leaves it, while the other faults go on.
    Members,
    /// A node reaches no other, or none reaches any.
    Partition,
    /// A node can be heard and hears nobody, or hears and cannot be heard.
    OneWay,
    /// Two nodes do not reach each other; both reach the third.
    Pair,
    /// Each node hears only the one before it.
    Ring,
    /// Bytes between nodes take longer: those of a node, or all.
    Delay,
    /// Connections between nodes are reset again and again.
    Reset,
    /// A node is told that its disk is full.
    FullDisk,
    /// Every flush of a node takes longer.
    SlowDisk,
    /// Flushes of a node fail, or its writes find no room: it must end by itself, and has lost what it had not flushed.
    FailingDisk,
    /// A node's machine loses its power: of what was not flushed each page and each name is kept or lost by itself.
    Power,
    /// A bit flips in a sealed segment of a node that runs.
    FlippedBit,
    /// The wall clock of a node jumps, and jumps back.
    Clock,
}

impl Kind {
    pub fn all() -> impl Iterator<Item = Kind> {
        Kind::value_variants().iter().copied()
    }

    /// As on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().expect("no name is hidden").get_name().to_string()
    }

    /// How often it is in the deck.
    fn weight(self) -> usize {
        match self {
            Kind::Kill => 4,
            Kind::Pause | Kind::Partition | Kind::Power | Kind::Members => 2,
            _ => 1,
        }
    }

    /// A single node has nobody to be cut off from, or to hand anything to.
    pub fn needs_peers(self) -> bool {
        // Alone, a node promises nothing beyond its own disk.
        self.needs_network()
            || matches!(
                self,
                Kind::Transfer | Kind::Drain | Kind::Members | Kind::FailingDisk | Kind::FlippedBit | Kind::Power
            )
    }

    pub fn needs_network(self) -> bool {
        matches!(self, Kind::Partition | Kind::OneWay | Kind::Pair | Kind::Ring | Kind::Delay | Kind::Reset)
    }

    /// Needs the library that is preloaded into nodes.
    pub fn needs_preload(self) -> bool {
        matches!(self, Kind::SlowDisk | Kind::FailingDisk | Kind::Power | Kind::Clock)
    }

    /// Over in about a second, so that many are expected.
    pub fn is_short(name: &str) -> bool {
        [Kind::Kill, Kind::KillAll, Kind::Pause].iter().any(|kind| kind.name() == name)
    }

    fn strike(self, scene: &mut Scene) -> Result<()> {
        match self {
            Kind::Kill => kill::one(scene),
            Kind::KillAll => kill::all(scene),
            Kind::Storm => kill::storm(scene),
            Kind::Pause => pause::pause(scene),
            Kind::Restart => clean_stop::rolling(scene),
            Kind::Transfer => transfer::transfer(scene),
            Kind::Drain => drain::drain(scene),
            Kind::Members => members::change(scene),
            Kind::Partition => network::partition(scene),
            Kind::OneWay => network::one_way(scene),
            Kind::Pair => network::pair(scene),
            Kind::Ring => network::ring(scene),
            Kind::Delay => network::delay(scene),
            Kind::Reset => network::reset(scene),
            Kind::FullDisk => disk::full(scene),
            Kind::SlowDisk => disk::slow(scene),
            Kind::FailingDisk => disk::failing(scene),
            Kind::FlippedBit => flip::flip(scene),
            Kind::Power => kill::power(scene),
            Kind::Clock => clock::jump(scene),
        }
    }
}

/// Hurts the cluster for `duration`. Returns with every fault over, the nodes running but not necessarily healthy.
///
/// Nodes of an older binary go on with the newer one, one after the other, so that faults meet every mixture.
pub fn run(scene: &mut Scene, kinds: &[Kind], duration: Duration) -> Result<()> {
    let begin = Instant::now();
    let end = begin + duration;
    let mut upgrades = upgrade_times(begin, duration, scene.node_count()).into_iter().peekable();
    let mut deck: Vec<Kind> = Vec::new();
    while Instant::now() < end {
        scene.calm()?;
        members::tend(scene)?;
        let sick = scene.wait_healthy(end)?;
        if Instant::now() >= end {
            break;
        }
        match sick {
            None if upgrades.next_if(|due| Instant::now() >= *due).is_some() => {
                scene.next_round();
                clean_stop::upgrade_one(scene)?;
            }
            None => {
                if deck.is_empty() {
                    deck = kinds.iter().flat_map(|kind| std::iter::repeat_n(*kind, kind.weight())).collect();
                    deck.shuffle(&mut scene.random);
                }
                let kind = deck.pop().expect("a run has at least one kind of fault");
                scene.next_round();
                kind.strike(scene)?;
            }
            // Whoever takes long to recover is hit while it recovers.
            Some(node) if kinds.contains(&Kind::Storm) || kinds.contains(&Kind::Kill) => {
                scene.next_round();
                kill::again(scene, node)?;
            }
            Some(_) => {}
        }
    }
    // A cluster that was seldom healthy still has some to do.
    for _ in upgrades {
        scene.wait_healthy_within(UPGRADE_PATIENCE, Instant::now() + UPGRADE_PATIENCE)?;
        clean_stop::upgrade_one(scene)?;
    }
    members::finish(scene)
}

/// One for each node, with the same time before, between and after them.
fn upgrade_times(begin: Instant, duration: Duration, node_count: u32) -> Vec<Instant> {
    (1..=node_count).map(|number| begin + duration * number / (node_count + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line() {
        assert_eq!(Kind::KillAll.name(), "kill-all");
        assert_eq!(Kind::all().count(), Kind::value_variants().len());
        assert!(Kind::is_short("kill-all") && !Kind::is_short("partition"));
    }

    #[test]
    fn every_mixture_of_binaries_has_its_share_of_the_run() {
        let begin = Instant::now();
        let seconds = |count| begin + Duration::from_secs(count);
        assert_eq!(upgrade_times(begin, Duration::from_secs(60), 3), [15, 30, 45].map(seconds));
        assert_eq!(upgrade_times(begin, Duration::from_secs(60), 1), [30].map(seconds));
    }
}
