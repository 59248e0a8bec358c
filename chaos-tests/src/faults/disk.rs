//! Disks that do not do what they should.

use std::ops::Range;
use std::time::Duration;

use anyhow::Result;

use super::Scene;
use crate::cluster::DISK_FREE_BYTES_MIN;
use crate::history::Fault;
use crate::preload::Control;

/// Longer than the node's look at its disk, every 500 ms.
const FULL_MS: Range<u64> = 1_200..5_000;

/// From a busy disk to one that is about to fail.
const FLUSH_DELAY_MS: Range<u64> = 20..1_500;
const SLOW_MS: Range<u64> = 1_500..6_000;

/// A node flushes at least once in `flush.ms`, if there is load.
const FAILS_LIMIT: Duration = Duration::from_secs(5);

/// Elections do not wait for flushes of records, so that leaders stay.
pub fn slow(scene: &mut Scene) -> Result<()> {
    let node = scene.victim();
    let delay = scene.millis(FLUSH_DELAY_MS);
    scene.begin(node, Fault::SlowDisk, &format!("every flush takes {} ms more", delay.as_millis()));
    scene.cluster.control(node).set_flush_delay(delay)?;
    let length = scene.millis(SLOW_MS);
    scene.wait(length)?;
    scene.cluster.control(node).set_flush_delay(Duration::ZERO)?;
    scene.end(node);
    Ok(())
}

/// The first flush or write that fails ends the process, and what was not flushed counts as lost: here it may be.
pub fn failing(scene: &mut Scene) -> Result<()> {
    if !scene.wait_whole()? {
        return Ok(());
    }
    let node = scene.victim();
    let (detail, set): (_, fn(&Control, bool) -> Result<()>) = match scene.chance(1, 2) {
        true => ("every flush fails", Control::set_flush_fails),
        false => ("no write finds room", Control::set_no_room),
    };
    scene.begin(node, Fault::FailingDisk, detail);
    set(scene.cluster.control(node), true)?;
    let has_ended = scene.cluster.wait_end(node, FAILS_LIMIT);
    set(scene.cluster.control(node), false)?;
    if !has_ended {
        scene.not_ended(node, &format!("{detail} and it runs on"));
        scene.cluster.kill(node)?;
    }
    scene.lose_unflushed(node, false)
}

/// Below the mark a node takes no records that it leads, below half of it no entries of other leaders. Reads go on, and all of it ends
/// by itself when there is room.
pub fn full(scene: &mut Scene) -> Result<()> {
    let node = scene.victim();
    let free_bytes = if scene.chance(1, 2) { DISK_FREE_BYTES_MIN * 3 / 4 } else { DISK_FREE_BYTES_MIN / 4 };
    let detail = format!("{free_bytes} bytes free, {DISK_FREE_BYTES_MIN} wanted");
    scene.begin(node, Fault::FullDisk, &detail);
    scene.cluster.tell_free_bytes(node, Some(free_bytes))?;
    let length = scene.millis(FULL_MS);
    scene.wait(length)?;
    scene.cluster.tell_free_bytes(node, None)?;
    scene.end(node);
    Ok(())
}
