//! A node gives its leaderships away and gets none, as before maintenance, and then leads again what it should. No mode may lose anything by it.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Scene;
use crate::history::Fault;

const DRAINED_MS: Range<u64> = 500..4_000;
/// The node may have just become healthy.
const LIMIT: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(200);

pub fn drain(scene: &mut Scene) -> Result<()> {
    let node = scene.victim();
    scene.begin(node, Fault::Transfer, "drained");
    ask(scene, node, &[])?;
    let length = scene.millis(DRAINED_MS);
    scene.wait(length)?;
    ask(scene, node, &["--undo"])?;
    scene.end(node);
    Ok(())
}

fn ask(scene: &mut Scene, node: u32, options: &[&str]) -> Result<()> {
    let end = Instant::now() + LIMIT;
    while !scene.cluster.drain(node, options)? {
        ensure!(Instant::now() < end, "duolog cluster drain --id {node} {} fails for {LIMIT:?}", options.join(" "));
        scene.wait(PAUSE)?;
    }
    Ok(())
}
