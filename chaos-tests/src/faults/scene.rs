//! What every fault works with: the nodes, chance, the record of what was done, and waits that watch the processes.

use std::ops::Range;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::cluster::Cluster;
use crate::history::{Event, Fault};
use crate::observe::{self, Leaders};
use crate::workload::Shared;

const CALM_MS: Range<u64> = 200..1_000;
/// From a process's end to its next start.
pub const DOWN_MS: Range<u64> = 0..1_500;

/// A node that is not healthy after this is hit again while it recovers, instead of another one …
const PATIENCE: Duration = Duration::from_secs(3);
/// … but only so often in a row; then it is given time to recover.
const AGAIN_MAX: u32 = 2;
const LONG_PATIENCE: Duration = Duration::from_secs(30);

const METRICS_EVERY: Duration = Duration::from_secs(1);

pub struct Scene<'a> {
    pub shared: &'a Shared,
    pub cluster: &'a mut Cluster,
    pub random: StdRng,
    leaders: &'a Leaders,
    round: u32,
    /// Rounds in a row that hit a node that was still recovering.
    again: u32,
    progress: &'a dyn Fn(&str),
    on_fault: &'a mut dyn FnMut(&Event),
}

impl<'a> Scene<'a> {
    pub fn new(
        shared: &'a Shared,
        leaders: &'a Leaders,
        cluster: &'a mut Cluster,
        seed: u64,
        progress: &'a dyn Fn(&str),
        on_fault: &'a mut dyn FnMut(&Event),
    ) -> Scene<'a> {
        let random = StdRng::seed_from_u64(seed);
        Scene { shared, cluster, random, leaders, round: 0, again: 0, progress, on_fault }
    }

    pub fn node_count(&self) -> u32 {
        self.cluster.nodes().len() as u32
    }

    pub fn nodes(&self) -> Range<u32> {
        0..self.node_count()
    }

    /// Places in the network: the nodes, and whoever has joined.
    pub fn slots(&self) -> Vec<u32> {
        let guest = self.cluster.guest().map(|_| self.cluster.guest_slot());
        self.nodes().chain(guest).collect()
    }

    /// Who has this place.
    pub fn node_at(&self, slot: u32) -> u32 {
        self.cluster.guest().filter(|_| slot == self.cluster.guest_slot()).map_or(slot, |guest| guest.id())
    }

    pub fn shuffled_slots(&mut self) -> Vec<u32> {
        let slots = self.slots();
        slots.sample(&mut self.random, slots.len()).copied().collect()
    }

    /// All in an order of chance.
    pub fn shuffled(&mut self) -> Vec<u32> {
        let nodes: Vec<u32> = self.nodes().collect();
        nodes.sample(&mut self.random, nodes.len()).copied().collect()
    }

    /// Two in three times the leader of a random partition, else any node.
    pub fn victim(&mut self) -> u32 {
        let places: Vec<_> = self.shared.places().collect();
        let place = places[self.random.random_range(0..places.len())];
        let any = self.random.random_range(self.nodes());
        let leader = self.leaders.of(place).filter(|leader| *leader < self.node_count());
        match leader {
            Some(leader) if self.chance(2, 3) => leader,
            _ => any,
        }
    }

    pub fn chance(&mut self, of: u32, among: u32) -> bool {
        self.random.random_ratio(of, among)
    }

    pub fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(range))
    }

    pub fn next_round(&mut self) {
        self.round += 1;
    }

    /// Just before the node is hurt. `detail`: what a reader of the history may want to know.
    pub fn begin(&mut self, node: u32, fault: Fault, detail: &str) {
        let (time_ms, round, leads) = (self.shared.recorder.now_ms(), self.round, self.leaders.led_by(node));
        let event = Event::FaultBegan { time_ms, round, node, fault, leads, detail: detail.to_string() };
        (self.on_fault)(&event);
        self.shared.recorder.record(event);
    }

    /// All that hurt the node is over.
    pub fn end(&mut self, node: u32) {
        let event = Event::FaultEnded { time_ms: self.shared.recorder.now_ms(), node };
        (self.on_fault)(&event);
        self.shared.recorder.record(event);
    }

    pub fn calm(&mut self) -> Result<()> {
        let calm = self.millis(CALM_MS);
        self.wait(calm)
    }

    /// Waits until every node is healthy, as long as patience lasts; then names one that is not.
    pub fn wait_healthy(&mut self, end: Instant) -> Result<Option<u32>> {
        let patience = if self.again < AGAIN_MAX { PATIENCE } else { LONG_PATIENCE };
        let sick = self.wait_healthy_within(patience, end)?;
        self.again = if sick.is_some() { self.again + 1 } else { 0 };
        Ok(sick)
    }

    /// Waits until no node is held by the power-loss guard: the next machine that loses its power is then the only one that lost
    /// anything. False: it took too long.
    pub fn wait_whole(&mut self) -> Result<bool> {
        let end = Instant::now() + LONG_PATIENCE;
        while !self.cluster.is_whole() {
            if Instant::now() >= end {
                return Ok(false);
            }
            self.wait(Duration::from_millis(200))?;
        }
        Ok(true)
    }

    /// Of what a node that is down has not flushed only some is left; some time later it is started again. In a new boot of the
    /// machine, unless the machine ran on.
    pub fn lose_unflushed(&mut self, node: u32, is_new_boot: bool) -> Result<()> {
        let seed = self.random.random();
        let lost = self.cluster.cut_power(node, seed, is_new_boot)?;
        self.note(&format!("node {node} lost {} pages and {} names", lost.pages, lost.names));
        let down = self.millis(DOWN_MS);
        self.wait(down)?;
        self.cluster.restart(node)?;
        self.end(node);
        Ok(())
    }

    /// The node should have ended by itself, and has not.
    pub fn not_ended(&mut self, node: u32, why: &str) {
        let time_ms = self.shared.recorder.now_ms();
        self.shared.recorder.record(Event::NodeNotEnded { time_ms, node, why: why.to_string() });
    }

    /// Tells whoever watches the run.
    pub fn note(&self, text: &str) {
        (self.progress)(text);
    }

    pub fn wait_healthy_within(&mut self, patience: Duration, end: Instant) -> Result<Option<u32>> {
        let limit = (Instant::now() + patience).min(end);
        loop {
            self.cluster.notice_exits(&self.shared.recorder)?;
            let sick = self.cluster.unhealthy().first().copied();
            if sick.is_none() || Instant::now() >= limit {
                return Ok(sick);
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Watches the processes and their metrics meanwhile.
    pub fn wait(&mut self, length: Duration) -> Result<()> {
        let end = Instant::now() + length;
        let mut metrics_at = Instant::now();
        loop {
            self.cluster.notice_exits(&self.shared.recorder)?;
            if Instant::now() >= metrics_at {
                for node in self.cluster.nodes().iter().filter(|node| node.is_running()) {
                    observe::read_metrics(self.shared, node);
                }
                metrics_at += METRICS_EVERY;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(Duration::from_millis(20)));
        }
    }
}
