//! Kills and pauses of leaders and followers at random, from a seed.
//!
//! One fault at a time, and the next only when every node is healthy again, so that at most a minority is hurt; a few
//! rounds kill all nodes at once, which no mode but `async/*` may notice. The seed decides what happens, the cluster's
//! speed when.
//!
//! ```text
//!   healthy ── calm ──▶ fault ── down or paused ──▶ restart or resume ──▶ healthy ─ …
//! ```

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::cluster::Cluster;
use crate::history::{Event, Fault};
use crate::observe::{self, Leaders};
use crate::workload::Shared;

const CALM_MS: std::ops::Range<u64> = 200..1_000;
const DOWN_MS: std::ops::Range<u64> = 0..1_500;
/// Longer than `lost::LATE_REPORT_MS`, and on both sides of an election time-out.
const PAUSE_MS: std::ops::Range<u64> = 500..2_500;

/// A pause is only chosen while the kills so far are at least one in this time; the contract asks for one in 5 s.
const KILL_EVERY: Duration = Duration::from_millis(3_500);

/// A node that is not healthy after this is hit again while it recovers, instead of another one …
const PATIENCE: Duration = Duration::from_secs(3);
/// … but only so often in a row; then it is given time to recover.
const STORM_MAX: u32 = 2;
const LONG_PATIENCE: Duration = Duration::from_secs(30);

const KILL_ALL_ONE_IN: u32 = 12;
const METRICS_EVERY: Duration = Duration::from_secs(1);

pub struct Faults<'a> {
    shared: &'a Shared,
    leaders: &'a Leaders,
    random: StdRng,
    only_pauses: bool,
    round: u32,
    kills: u32,
    /// Kills in a row of a node that was still recovering.
    storm: u32,
    on_fault: &'a mut dyn FnMut(&Event),
}

impl<'a> Faults<'a> {
    pub fn new(
        shared: &'a Shared,
        leaders: &'a Leaders,
        seed: u64,
        only_pauses: bool,
        on_fault: &'a mut dyn FnMut(&Event),
    ) -> Faults<'a> {
        let random = StdRng::seed_from_u64(seed);
        Faults { shared, leaders, random, only_pauses, round: 0, kills: 0, storm: 0, on_fault }
    }

    /// Hurts the cluster for `duration`. Returns with every node running, not necessarily healthy.
    pub fn run(mut self, cluster: &mut Cluster, duration: Duration) -> Result<()> {
        let begin = Instant::now();
        let end = begin + duration;
        while Instant::now() < end {
            let calm = self.millis(CALM_MS);
            self.wait(cluster, calm)?;
            let sick = self.wait_healthy(cluster, end)?;
            if Instant::now() >= end {
                break;
            }
            let kill_due = begin.elapsed() >= KILL_EVERY * self.kills;
            self.round += 1;
            self.storm = if sick.is_some() { self.storm + 1 } else { 0 };
            if self.only_pauses {
                self.pause(cluster)?;
            } else if let Some(node) = sick {
                self.kill(cluster, &[node])?;
            } else if !kill_due {
                self.pause(cluster)?;
            } else if self.random.random_ratio(1, KILL_ALL_ONE_IN) {
                let all: Vec<u32> = cluster.nodes().iter().map(|node| node.id).collect();
                self.kill(cluster, &all)?;
            } else {
                let victim = self.victim(cluster);
                self.kill(cluster, &[victim])?;
            }
        }
        Ok(())
    }

    fn kill(&mut self, cluster: &mut Cluster, victims: &[u32]) -> Result<()> {
        self.kills += 1;
        for node in victims {
            self.record(*node, Fault::Kill);
            cluster.kill(*node)?;
        }
        let down = self.millis(DOWN_MS);
        self.wait(cluster, down)?;
        for node in victims {
            cluster.restart(*node)?;
            self.record_end(*node);
        }
        Ok(())
    }

    fn pause(&mut self, cluster: &mut Cluster) -> Result<()> {
        let node = self.victim(cluster);
        self.record(node, Fault::Pause);
        cluster.pause(node)?;
        let pause = self.millis(PAUSE_MS);
        self.wait(cluster, pause)?;
        cluster.resume(node)?;
        self.record_end(node);
        Ok(())
    }

    /// Two in three times the leader of a random partition, else any node.
    fn victim(&mut self, cluster: &Cluster) -> u32 {
        let places: Vec<_> = self.shared.places().collect();
        let place = places[self.random.random_range(0..places.len())];
        let any = self.random.random_range(0..cluster.nodes().len() as u32);
        let leader = self.leaders.of(place).filter(|leader| (*leader as usize) < cluster.nodes().len());
        match leader {
            Some(leader) if self.random.random_ratio(2, 3) => leader,
            _ => any,
        }
    }

    /// Waits until every node is healthy, as long as patience lasts; then names one that is not.
    fn wait_healthy(&self, cluster: &mut Cluster, end: Instant) -> Result<Option<u32>> {
        let patience = if self.storm < STORM_MAX { PATIENCE } else { LONG_PATIENCE };
        let limit = (Instant::now() + patience).min(end);
        loop {
            cluster.notice_exits(&self.shared.recorder)?;
            let sick = cluster.unhealthy().first().copied();
            if sick.is_none() || Instant::now() >= limit {
                return Ok(sick);
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Watches the processes and their metrics meanwhile.
    fn wait(&self, cluster: &mut Cluster, length: Duration) -> Result<()> {
        let end = Instant::now() + length;
        let mut metrics_at = Instant::now();
        loop {
            cluster.notice_exits(&self.shared.recorder)?;
            if Instant::now() >= metrics_at {
                for node in cluster.nodes().iter().filter(|node| node.is_running()) {
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

    fn record(&mut self, node: u32, fault: Fault) {
        let (time_ms, round, leads) = (self.shared.recorder.now_ms(), self.round, self.leaders.led_by(node));
        let event = Event::FaultBegan { time_ms, round, node, fault, leads };
        (self.on_fault)(&event);
        self.shared.recorder.record(event);
    }

    fn record_end(&mut self, node: u32) {
        let event = Event::FaultEnded { time_ms: self.shared.recorder.now_ms(), node };
        (self.on_fault)(&event);
        self.shared.recorder.record(event);
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.random.random_range(range))
    }
}
