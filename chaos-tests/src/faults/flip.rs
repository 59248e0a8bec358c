//! A bit flips in a sealed segment of a node that runs: its scrubber must find it and put the entry back from another node. No mode may lose
//! anything by it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::RngExt;
use rand::seq::IndexedRandom;

use super::Scene;
use crate::history::{Event, Fault};
use crate::observe;

/// Several passes of the scrubber, as this run has set it.
const LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Behind the segment's header.
const FIRST_BYTE: u64 = 4_096;

pub fn flip(scene: &mut Scene) -> Result<()> {
    let node = scene.victim();
    let sealed = scene.cluster.sealed_segments(node)?;
    let Some((path, size_bytes)) = sealed.choose(&mut scene.random).cloned() else { return Ok(()) };
    let (position, bit) = (scene.random.random_range(FIRST_BYTE..size_bytes), scene.random.random_range(0..8));
    let before = counts(scene, node);
    scene.begin(node, Fault::FlippedBit, &format!("bit {bit} at {position} of {}", path.display()));
    // It may have been deleted meanwhile.
    if flip_bit(&path, position, bit).is_ok() {
        wait_repaired(scene, node, &path, (position, bit), before)?;
    }
    scene.end(node);
    Ok(())
}

fn wait_repaired(
    scene: &mut Scene,
    node: u32,
    path: &Path,
    (position, bit): (u64, u8),
    before: observe::Scrubbed,
) -> Result<()> {
    let end = Instant::now() + LIMIT;
    loop {
        let now = counts(scene, node);
        if now.repaired > before.repaired || !path.exists() {
            return Ok(());
        }
        if Instant::now() < end {
            scene.wait(LOOK_EVERY)?;
            continue;
        }
        if now.damaged > before.damaged {
            let (time_ms, file) = (scene.shared.recorder.now_ms(), path.display().to_string());
            scene.shared.recorder.record(Event::NotRepaired { time_ms, node, file });
            return Ok(());
        }
        scene.note(&format!("nobody missed the bit at {position} of {}: it is in no entry", path.display()));
        return flip_bit(path, position, bit).with_context(|| format!("cannot put {} right", path.display()));
    }
}

fn counts(scene: &Scene, node: u32) -> observe::Scrubbed {
    observe::scrubbed(&scene.cluster.nodes()[node as usize])
}

fn flip_bit(path: &Path, position: u64, bit: u8) -> std::io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, position)?;
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, position)
}
