//! A wall clock that jumps, and jumps back. What counts time must count it otherwise, where it matters.

use std::ops::Range;

use anyhow::Result;
use rand::RngExt;

use super::Scene;
use crate::history::Fault;

/// Less than the run waits for what is owed in the end: a message may be invisible for so much longer.
const JUMP_MS: Range<i64> = 100..20_000;
const LENGTH_MS: Range<u64> = 1_000..5_000;

pub fn jump(scene: &mut Scene) -> Result<()> {
    let node = scene.victim();
    let jump_ms = scene.random.random_range(JUMP_MS);
    let offset_ms = if scene.chance(1, 2) { jump_ms } else { -jump_ms };
    scene.begin(node, Fault::Clock, &format!("the wall clock jumps by {offset_ms} ms, and back"));
    scene.cluster.control(node).set_clock_offset_ms(offset_ms)?;
    let length = scene.millis(LENGTH_MS);
    scene.wait(length)?;
    scene.cluster.control(node).set_clock_offset_ms(0)?;
    scene.end(node);
    Ok(())
}
