//! Clocks on the wall that jump and drift. What measures time spans is not touched.

use std::time::Duration;

use super::World;
use crate::interpose;
use crate::random::Random;

/// How far a wall clock may be off, in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    pub max: Duration,
}

impl Skew {
    /// In every other run clocks are right.
    pub fn choose(random: &mut Random) -> Self {
        let max_ms = [0, 0, 300, 3_000][random.below(4) as usize];
        Self { max: Duration::from_millis(max_ms) }
    }
}

impl World {
    /// With some faults the clock of a node jumps, or begins to drift.
    pub(super) fn move_clock(&mut self) {
        let max_ns = self.skew.max.as_nanos() as i64;
        if max_ns == 0 || !self.random.one_in(3) {
            return;
        }
        let node = self.some_node();
        let offset_ns = self.random.below(2 * max_ns as u64 + 1) as i64 - max_ns;
        // Up to two in a hundred: far more than any real clock.
        let drift_ppm = if self.random.one_in(2) { self.random.below(40_001) as i64 - 20_000 } else { 0 };
        self.count("fault: wrong clock");
        self.tell(&format!(
            "the clock of node {node} is off by {} ms and drifts by {drift_ppm} ppm",
            offset_ns / 1_000_000
        ));
        interpose::set_wall_clock(node, interpose::WallClock { offset_ns, drift_ppm, max_ns });
    }

    pub(super) fn calm_clocks(&mut self) {
        for node in 0..self.node_count() {
            interpose::set_wall_clock(node, interpose::WallClock::default());
        }
    }
}
