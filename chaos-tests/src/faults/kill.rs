//! SIGKILL: of one node, of all, of one again and again, and of one whose machine loses its power.

use std::ops::Range;

use anyhow::Result;
use rand::RngExt;

use super::Scene;
use super::scene::DOWN_MS;
use crate::history::Fault;

/// Kills in a storm, and the time between a start and the next kill: from before the log is open to after the first election.
const STORM_KILLS: Range<u32> = 3..7;
const STORM_UP_MS: Range<u64> = 20..900;

pub fn one(scene: &mut Scene) -> Result<()> {
    let victim = scene.victim();
    kill(scene, &[victim], "")
}

pub fn all(scene: &mut Scene) -> Result<()> {
    let all: Vec<u32> = scene.nodes().collect();
    kill(scene, &all, "all at once")
}

/// A node that is still recovering.
pub fn again(scene: &mut Scene, node: u32) -> Result<()> {
    kill(scene, &[node], "while it recovers")
}

/// A machine loses its power, and what it had not flushed.
pub fn power(scene: &mut Scene) -> Result<()> {
    if !scene.wait_whole()? {
        return Ok(());
    }
    let node = scene.victim();
    scene.begin(node, Fault::PowerLoss, "");
    scene.cluster.kill(node)?;
    scene.lose_unflushed(node, true)
}

pub fn storm(scene: &mut Scene) -> Result<()> {
    let victim = scene.victim();
    for number in 1..=scene.random.random_range(STORM_KILLS) {
        kill(scene, &[victim], &format!("{number} of a storm"))?;
        let up = scene.millis(STORM_UP_MS);
        scene.wait(up)?;
    }
    Ok(())
}

fn kill(scene: &mut Scene, victims: &[u32], detail: &str) -> Result<()> {
    for node in victims {
        scene.begin(*node, Fault::Kill, detail);
        scene.cluster.kill(*node)?;
    }
    let down = scene.millis(DOWN_MS);
    scene.wait(down)?;
    for node in victims {
        scene.cluster.restart(*node)?;
        scene.end(*node);
    }
    Ok(())
}
