//! SIGTERM and a new start, of one node after the other: no mode may lose anything by it.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::Scene;
use crate::history::Fault;

/// Hand-over, flush and end; on a busy machine. Who needs longer is killed.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// As an operator waits before the next node.
const READY_LIMIT: Duration = Duration::from_secs(20);

pub fn rolling(scene: &mut Scene) -> Result<()> {
    for node in scene.shuffled() {
        one(scene, node)?;
        scene.wait_healthy_within(READY_LIMIT, Instant::now() + READY_LIMIT)?;
    }
    Ok(())
}

/// Stops one node cleanly and starts it again.
pub fn one(scene: &mut Scene, node: u32) -> Result<()> {
    scene.begin(node, Fault::Stop, "SIGTERM");
    if !scene.cluster.stop_one(node, STOP_LIMIT, &scene.shared.recorder)? {
        scene.begin(node, Fault::Kill, "it did not end by SIGTERM");
        scene.cluster.kill(node)?;
    }
    scene.cluster.restart(node)?;
    scene.end(node);
    Ok(())
}
