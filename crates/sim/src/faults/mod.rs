//! What goes wrong, and when it ends.

mod clock;
mod disk;
mod drain;
mod members;
mod network;
mod nodes;
pub mod reach;
mod witness;

use std::path::PathBuf;
use std::time::Duration;

use duolog_chaos::history::{Event, Fault};

use self::reach::Change;
use crate::world::World;

pub use clock::Skew;
pub use members::Members;

/// The shortest time on a link.
pub const LATENCY_MIN: Duration = Duration::from_micros(200);

/// What is to be done at the end of a fault.
#[derive(Debug)]
pub enum Ending {
    /// A node starts again.
    Start(u32),
    /// A process goes on.
    Resume(u32),
    /// A node that was given an empty disk is given its own again.
    OwnDisk { node: u32, is_waiting: bool },
    /// What was held arrives.
    Held(Vec<(u32, u32)>),
    /// Nothing is lost any more.
    Lossy(Vec<(u32, u32)>),
    /// Connections that have lost something are given up by now.
    Stale(Vec<(u32, u32)>),
    /// A link has its usual latency again.
    Delayed(u32, u32),
    /// A disk has room again.
    Full(u32),
    /// A disk is as fast as usual.
    Slow(u32),
    /// A leader and the only node that follows it go down.
    Pair { witness: u32, leader: u32 },
    /// A bit is as it was; the byte with the flipped one is `flipped`.
    Flipped { node: u32, path: PathBuf, position_bytes: u64, bit: u8, flipped: u8 },
}

impl World {
    /// Hurts a node, or all.
    pub fn fault(&mut self) {
        self.round += 1;
        let node = self.some_node();
        match self.random.below(126) {
            0..18 => self.kill(node),
            18..30 => self.lose_power(node),
            30..36 => self.lose_witness(),
            36..38 => self.slow_disk(node),
            38..44 => (0..self.node_count()).for_each(|node| self.kill(node)),
            44..62 => self.cut(),
            62..66 => self.reset(),
            66..70 => self.delay(),
            70..80 => self.hurt_disk(node),
            80..84 => self.fill_disk(node),
            84..88 => self.flip_bit(node),
            88..92 => self.stop(node),
            92..97 => self.transfer(node),
            97..100 => self.swap_disk(node),
            100..110 => self.change_members(),
            110..118 => self.pause(node),
            118..122 => self.damage_state(node),
            _ => self.drain(node),
        }
        self.move_clock();
    }

    /// What has ended by now.
    pub fn end_faults(&mut self) {
        let now = self.sim.elapsed();
        let over: Vec<_> = self.endings.extract_if(.., |(until, _)| *until <= now).collect();
        for (_, ending) in over {
            match ending {
                Ending::Start(node) => self.start(node),
                Ending::Resume(node) => self.resume(node),
                Ending::OwnDisk { node, is_waiting } => self.own_disk(node, is_waiting),
                Ending::Held(directions) => self.release(&directions),
                Ending::Lossy(directions) => self.repair(directions),
                Ending::Stale(directions) => self.trust(&directions),
                Ending::Delayed(a, b) => self.undelay(a, b),
                Ending::Full(node) => self.empty_disk(node),
                Ending::Slow(node) => self.hasten(node),
                Ending::Pair { witness, leader } => self.lose_pair(witness, leader),
                Ending::Flipped { node, path, position_bytes, bit, flipped } => {
                    self.unflip(node, &path, position_bytes, (bit, flipped));
                }
            }
        }
        self.end_change();
        for change in self.reach.changes() {
            match change {
                Change::Lost(node) => self.record_begin(node, Fault::CutOff),
                Change::Found(node) => self.record_end(node),
            }
        }
    }

    /// All faults end.
    pub fn heal(&mut self) {
        let now = self.sim.elapsed();
        self.endings.retain(|(_, ending)| !matches!(ending, Ending::Pair { .. }));
        for (until, _) in &mut self.endings {
            *until = now;
        }
        self.calm_disks();
        self.calm_clocks();
    }

    fn end_after(&mut self, time: Duration, ending: Ending) {
        self.endings.push((self.sim.elapsed() + time, ending));
    }

    fn is_under_way(&self, is_it: impl Fn(&Ending) -> bool) -> bool {
        self.endings.iter().any(|(_, ending)| is_it(ending))
    }

    fn some_node(&mut self) -> u32 {
        self.some_of(&self.present())
    }

    fn some_of(&mut self, nodes: &[u32]) -> u32 {
        nodes[self.random.below(nodes.len() as u64) as usize]
    }

    fn node_count(&self) -> u32 {
        self.clients.cluster.nodes.len() as u32
    }

    fn count(&mut self, what: &'static str) {
        *self.faults.entry(what).or_default() += 1;
    }

    /// For whoever reads the logs, or what led to a violation.
    fn tell(&self, text: &str) {
        let at_ms = self.now_ms();
        tracing::info!(target: "faults", at_ms, round = self.round, "{text}");
        self.told.borrow_mut().push(format!("{at_ms} ms: {text}"));
    }

    fn record_begin(&self, node: u32, fault: Fault) {
        self.tell(&format!("{fault:?} of node {node}"));
        let (time_ms, round) = (self.now_ms(), self.round);
        self.clients.recorder.record(Event::FaultBegan {
            time_ms,
            round,
            node,
            fault,
            leads: Vec::new(),
            detail: String::new(),
        });
    }

    fn record_end(&self, node: u32) {
        self.tell(&format!("node {node} is back"));
        self.clients.recorder.record(Event::FaultEnded { time_ms: self.now_ms(), node });
    }
}
