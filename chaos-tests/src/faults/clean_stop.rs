//! SIGTERM and a new start, of one node after the other, maybe of a newer binary: no mode may lose anything by it.

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
    stop(scene, node, "SIGTERM")?;
    scene.cluster.restart(node)?;
    scene.end(node);
    Ok(())
}

/// One of the nodes that still run the older binary goes on with the newer one.
pub fn upgrade_one(scene: &mut Scene) -> Result<()> {
    let Some(node) = scene.shuffled().into_iter().find(|node| scene.cluster.runs_older(*node)) else { return Ok(()) };
    stop(scene, node, "SIGTERM, to go on with the newer binary")?;
    scene.cluster.upgrade(node)?;
    scene.end(node);
    Ok(())
}

fn stop(scene: &mut Scene, node: u32, detail: &str) -> Result<()> {
    scene.begin(node, Fault::Stop, detail);
    if !scene.cluster.stop_one(node, STOP_LIMIT, &scene.shared.recorder)? {
        scene.begin(node, Fault::Kill, "it did not end by SIGTERM");
        scene.cluster.kill(node)?;
    }
    Ok(())
}
