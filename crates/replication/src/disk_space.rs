//! How full a node's disk is. Below the low-water mark the node is read-only, so that it never meets a full disk:
//!
//! ```text
//!  free bytes   ── much ──│ mark + ¼ ──│ mark ──────────│ mark / 2 ─────── 0
//!                         │  back to   │  no more       │  as a follower: no
//!                         │  writing   │  produce here  │  more entries either
//! ```
//!
//! Reads, offset commits, retention and deletions go on: they are small, or make room. A follower that refuses entries and
//! snapshots falls behind and catches up later; the others go on as long as they are a quorum.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use duolog_commit_log::{Disk, DiskUsage};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a node's disk still allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskState {
    /// Everything.
    #[default]
    Writable,
    /// No new records by produce requests that this node leads.
    ReadOnly,
    /// No entries and snapshots of other leaders either.
    Exhausted,
}

/// A node's disk as it was seen last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// Of the file system of the data directory.
    pub usage: DiskUsage,
    /// What follows from it.
    pub state: DiskState,
}

/// The state after a look at the disk; `before` makes the way back longer than the way in.
fn judge(before: DiskState, free_bytes: u64, free_bytes_min: u64) -> DiskState {
    let back_bytes = free_bytes_min + free_bytes_min / 4;
    if free_bytes < free_bytes_min / 2 {
        DiskState::Exhausted
    } else if free_bytes < free_bytes_min || before != DiskState::Writable && free_bytes < back_bytes {
        DiskState::ReadOnly
    } else {
        DiskState::Writable
    }
}

/// Looks at the disk again and again.
pub(crate) struct Watcher {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) data_dir: PathBuf,
    pub(crate) free_bytes_min: u64,
}

impl Watcher {
    /// The first look.
    pub(crate) fn look(&self, before: DiskState) -> std::io::Result<DiskSpace> {
        let usage = self.disk.usage(&self.data_dir)?;
        Ok(DiskSpace { usage, state: judge(before, usage.free_bytes, self.free_bytes_min) })
    }

    pub(crate) async fn run(self, space: watch::Sender<DiskSpace>) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !space.is_closed() {
            tick.tick().await;
            let before = space.borrow().state;
            match self.look(before) {
                Ok(now) => {
                    self.report(before, now);
                    space.send_replace(now);
                }
                Err(error) => {
                    tracing::error!(%error, dir = %self.data_dir.display(), "cannot see how full the disk is")
                }
            }
        }
    }

    fn report(&self, before: DiskState, now: DiskSpace) {
        let (free_bytes, free_bytes_min, dir) = (now.usage.free_bytes, self.free_bytes_min, self.data_dir.display());
        match now.state {
            state if state == before => {}
            DiskState::Writable => tracing::info!(%dir, free_bytes, "the disk has room again: records are taken"),
            DiskState::ReadOnly => tracing::error!(%dir, free_bytes, free_bytes_min,
                "the disk is nearly full: this node takes no more records until there is room; reads go on"),
            DiskState::Exhausted => tracing::error!(%dir, free_bytes, free_bytes_min,
                "the disk is full: this node takes no more entries of other leaders until there is room; reads go on"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_is_longer_than_the_way_in() {
        use DiskState::{Exhausted, ReadOnly, Writable};
        for (before, free_bytes, after) in [
            (Writable, 1_000, Writable),
            (Writable, 999, ReadOnly),
            (ReadOnly, 1_249, ReadOnly),
            (ReadOnly, 1_250, Writable),
            (ReadOnly, 500, ReadOnly),
            (ReadOnly, 499, Exhausted),
            (Exhausted, 500, ReadOnly),
            (Exhausted, 1_249, ReadOnly),
            (Exhausted, 1_250, Writable),
            (Writable, 0, Exhausted),
        ] {
            assert_eq!(judge(before, free_bytes, 1_000), after, "{before:?} with {free_bytes} free");
        }
    }
}
