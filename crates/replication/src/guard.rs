//! The power-loss guard: a node that may have lost what it had received does not help to elect a leader without it.
//!
//! State, local and fsynced, in `guard.json`:
//!
//! ```text
//!   start ── same boot, or clean, or never exposed ──▶ free
//!     └───── another boot (or unreadable, or an IO error) and exposed and not clean ──▶ guarded, per broker group
//!   guarded ── flushed up to the last index of the latest leader heard ──▶ free; the new boot id is recorded with the last group
//! ```
//!
//! `exposed` is set before the node's first *received* mark for an entry that waits for its flush, or before it counts
//! itself as leader for one. The clean marker is removed before the first append.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use duolog_types::BrokerGroupId;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::files;

/// Says that the node was stopped by an IO error, where `guard.json` could not.
const IO_ERROR_MARKER: &str = "guard.io-error";

/// What `guard.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GuardFile {
    /// Boot in which `exposed` was last true of this node.
    boot_id: Option<String>,
    /// Whether the node answered for entries that were not flushed.
    exposed: bool,
    /// Whether the node was stopped cleanly: everything flushed.
    clean: bool,
    /// Whether the node was stopped by an IO error: counts as a power loss.
    io_error: bool,
    /// Broker groups in which the node does not vote yet.
    guarded: BTreeSet<u32>,
}

/// The guard of a node. Every change is on disk before the call returns.
pub struct Guard {
    path: PathBuf,
    boot_id: Option<String>,
    file: Mutex<GuardFile>,
}

impl Guard {
    /// Reads the state, decides, and writes `guarded` and "not clean" before Raft may start.
    ///
    /// # Errors
    /// The file cannot be read, is not understood, or cannot be written.
    pub fn open(data_dir: &Path, boot_id_path: &Path, groups: &[BrokerGroupId]) -> std::io::Result<Self> {
        let path = data_dir.join("guard.json");
        let boot_id = read_boot_id(boot_id_path);
        let mut file: GuardFile = files::read_json(&path)?.unwrap_or(GuardFile { clean: true, ..GuardFile::default() });
        let marker = data_dir.join(IO_ERROR_MARKER);
        let is_marked = marker.try_exists()?;
        file.io_error |= is_marked;
        file.exposed |= is_marked;
        let same_boot = boot_id.is_some() && file.boot_id == boot_id;
        if file.exposed && !file.clean && (!same_boot || file.io_error) {
            file.guarded.extend(groups.iter().map(|group| group.0));
            tracing::warn!(
                recorded_boot = ?file.boot_id,
                boot = ?boot_id,
                io_error = file.io_error,
                "this node may have lost what it had received; it does not vote until it has caught up with a leader"
            );
        }
        // Only a clean stop proves that everything was flushed: until then the node stays exposed.
        file.exposed &= !file.clean;
        file.clean = false;
        file.io_error = false;
        if file.guarded.is_empty() {
            file.boot_id.clone_from(&boot_id);
        }
        files::write_json(&path, &file)?;
        if is_marked {
            std::fs::remove_file(&marker)?;
        }
        Ok(Self { path, boot_id, file: Mutex::new(file) })
    }

    /// The boot that this process runs in, or a word that never equals another.
    #[must_use]
    pub fn boot(&self) -> String {
        self.boot_id.clone().unwrap_or_else(|| "unreadable".to_owned())
    }

    /// Whether the node must not vote in this broker group.
    #[must_use]
    pub fn is_guarded(&self, group: BrokerGroupId) -> bool {
        self.file.lock().guarded.contains(&group.0)
    }

    /// Broker groups that are guarded.
    #[must_use]
    pub fn guarded(&self) -> Vec<BrokerGroupId> {
        self.file.lock().guarded.iter().map(|id| BrokerGroupId(*id)).collect()
    }

    /// Whether the node has answered, or is about to, for an entry that it has not flushed.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        self.file.lock().exposed
    }

    /// Called before the node answers for an entry that it has not flushed.
    ///
    /// # Errors
    /// The file cannot be written; then the answer must not be given.
    pub fn expose(&self) -> std::io::Result<()> {
        let mut file = self.file.lock();
        if file.exposed {
            return Ok(());
        }
        let next = GuardFile { exposed: true, ..file.clone() };
        files::write_json(&self.path, &next)?;
        *file = next;
        Ok(())
    }

    /// The node has flushed all that a leader of the group had: it may vote again.
    ///
    /// # Errors
    /// The file cannot be written; the group stays guarded.
    pub fn release(&self, group: BrokerGroupId) -> std::io::Result<()> {
        let mut file = self.file.lock();
        let mut next = file.clone();
        if !next.guarded.remove(&group.0) {
            return Ok(());
        }
        if next.guarded.is_empty() {
            next.boot_id.clone_from(&self.boot_id);
        }
        files::write_json(&self.path, &next)?;
        *file = next;
        Ok(())
    }

    /// An operator accepts the loss: every group may vote again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn release_all(&self) -> std::io::Result<()> {
        for group in self.guarded() {
            self.release(group)?;
        }
        Ok(())
    }

    /// Everything is flushed and nothing will be appended: the next start needs no guard.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn mark_clean(&self) -> std::io::Result<()> {
        let mut file = self.file.lock();
        file.clean = file.guarded.is_empty();
        files::write_json(&self.path, &*file)
    }

    /// A write or flush failed: the next start counts as one after a power loss.
    pub fn mark_io_error(&self) {
        let mut file = self.file.lock();
        file.io_error = true;
        file.exposed = true;
        if let Err(error) = files::write_json(&self.path, &*file) {
            // The disk that failed is that of the guard. A name needs no flush and next to no room: this boot knows it, and another boot is
            // guarded anyway.
            let marked = std::fs::File::create(self.path.with_file_name(IO_ERROR_MARKER));
            tracing::error!(%error, marker = ?marked.map(drop), "cannot record the IO error in guard.json");
        }
    }
}

fn read_boot_id(path: &Path) -> Option<String> {
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read the boot id; every start counts as one after a power loss");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: [BrokerGroupId; 2] = [BrokerGroupId(0), BrokerGroupId(1)];

    struct Machine {
        dir: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap() }
        }

        fn start(&self, boot: &str) -> Guard {
            let boot_path = self.dir.path().join("boot_id");
            std::fs::write(&boot_path, boot).unwrap();
            Guard::open(self.dir.path(), &boot_path, &GROUPS).unwrap()
        }
    }

    #[test]
    fn each_way_to_stop_decides_whether_the_next_start_is_guarded() {
        for (exposed, clean, io_error, next_boot, guarded) in [
            (true, false, false, "b", true),
            (true, false, false, "a", false),
            (true, true, false, "b", false),
            (false, false, false, "b", false),
            (true, false, true, "a", true),
            (true, false, false, "", true),
        ] {
            let machine = Machine::new();
            let first = machine.start("a");
            assert!(first.guarded().is_empty());
            if exposed {
                first.expose().unwrap();
            }
            if io_error {
                first.mark_io_error();
            }
            if clean {
                first.mark_clean().unwrap();
            }
            drop(first);
            let case = (exposed, clean, io_error, next_boot);
            assert_eq!(!machine.start(next_boot).guarded().is_empty(), guarded, "{case:?}");
        }
    }

    #[test]
    fn an_io_error_is_known_although_the_guards_own_file_could_not_be_written() {
        let machine = Machine::new();
        let first = machine.start("a");
        first.expose().unwrap();
        let path = machine.dir.path().join("guard.json");
        let before = std::fs::read(&path).unwrap();
        // Nothing can be put in the place of a directory.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        first.mark_io_error();
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, before).unwrap();
        drop(first);
        let second = machine.start("a");
        assert_eq!(second.guarded(), GROUPS);
        GROUPS.iter().for_each(|group| second.release(*group).unwrap());
        drop(second);
        assert!(machine.start("a").guarded().is_empty(), "it is told once");
    }

    #[test]
    fn a_node_is_not_exposed_before_that_is_written() {
        let machine = Machine::new();
        let first = machine.start("a");
        let path = machine.dir.path().join("guard.json");
        let before = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        for attempt in 0..2 {
            assert!(first.expose().is_err(), "attempt {attempt}");
            assert!(!first.is_exposed(), "attempt {attempt}");
        }
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, before).unwrap();
        first.expose().unwrap();
        drop(first);
        assert_eq!(machine.start("b").guarded(), GROUPS);
    }

    #[test]
    fn the_guard_stays_over_restarts_until_every_group_is_released() {
        let machine = Machine::new();
        machine.start("a").expose().unwrap();
        let second = machine.start("b");
        second.release(GROUPS[0]).unwrap();
        drop(second);
        let third = machine.start("b");
        assert_eq!(third.guarded(), GROUPS, "the boot id is recorded only with the last group");
        third.release(GROUPS[0]).unwrap();
        third.release(GROUPS[1]).unwrap();
        drop(third);
        assert!(machine.start("b").guarded().is_empty());
    }
}
