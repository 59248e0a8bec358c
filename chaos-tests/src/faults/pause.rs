//! SIGSTOP and SIGCONT: a leader that wakes up after others have elected another one must not speak as leader.

use std::ops::Range;

use anyhow::Result;

use super::Scene;
use crate::history::Fault;

/// Longer than `lost::LATE_REPORT_MS`, and on both sides of an election time-out.
const PAUSE_MS: Range<u64> = 500..2_500;

pub fn pause(scene: &mut Scene) -> Result<()> {
    let node = scene.victim();
    scene.begin(node, Fault::Pause, "");
    scene.cluster.pause(node)?;
    let pause = scene.millis(PAUSE_MS);
    scene.wait(pause)?;
    scene.cluster.resume(node)?;
    scene.end(node);
    Ok(())
}
