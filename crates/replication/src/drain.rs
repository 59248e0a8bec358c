//! A drained node leads nothing for as long as another one can: for maintenance. The marker is a file, so a restart keeps it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::files;

const FILE: &str = "drain.json";

/// Whether this node is drained.
pub(crate) struct Drain {
    path: PathBuf,
    is_on: AtomicBool,
}

impl Drain {
    pub(crate) fn open(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(FILE);
        let is_on = files::read_json::<bool>(&path)?.unwrap_or(false);
        Ok(Self { path, is_on: AtomicBool::new(is_on) })
    }

    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Counts once it is on disk.
    pub(crate) fn set(&self, on: bool) -> io::Result<()> {
        if on {
            files::write_json(&self.path, &true)?;
        } else if self.path.exists() {
            fs::remove_file(&self.path)?;
        }
        self.is_on.store(on, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = Drain::open(dir.path()).unwrap();
        assert!(!first.is_on());
        first.set(true).unwrap();
        let second = Drain::open(dir.path()).unwrap();
        assert!(second.is_on());
        second.set(false).unwrap();
        second.set(false).unwrap();
        assert!(!Drain::open(dir.path()).unwrap().is_on());
    }
}
