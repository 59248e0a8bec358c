//! A simulated disk with two gates: writes and flushes can be held back, and counted.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use duolog_commit_log::{Disk, DiskFile, SimDisk};
use parking_lot::{Condvar, Mutex};

/// What may be held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Write,
    Flush,
}

#[derive(Debug, Default)]
struct State {
    writes_held: bool,
    flushes_held: bool,
    waiting: usize,
}

/// The gates of one node's disk.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<State>, Condvar)>);

impl Gate {
    pub fn hold(&self, door: Door) {
        self.set(door, true);
    }

    pub fn release(&self, door: Door) {
        self.set(door, false);
    }

    fn set(&self, door: Door, held: bool) {
        let mut state = self.0.0.lock();
        match door {
            Door::Write => state.writes_held = held,
            Door::Flush => state.flushes_held = held,
        }
        self.0.1.notify_all();
    }

    fn pass(&self, door: Door) {
        let held = |state: &State| match door {
            Door::Write => state.writes_held,
            Door::Flush => state.flushes_held,
        };
        let mut state = self.0.0.lock();
        state.waiting += 1;
        self.0.1.notify_all();
        while held(&state) {
            self.0.1.wait(&mut state);
        }
        state.waiting -= 1;
    }

    /// Blocks until somebody stands before a held door.
    pub fn wait_until_somebody_waits(&self) {
        let mut state = self.0.0.lock();
        while state.waiting == 0 {
            let waited = self.0.1.wait_for(&mut state, super::nodes::PATIENCE);
            assert!(!waited.timed_out(), "nobody came to the gate");
        }
    }
}

/// The simulated disk of one process, behind the gates.
pub struct GatedDisk {
    inner: SimDisk,
    gate: Gate,
}

impl GatedDisk {
    pub fn new(inner: SimDisk, gate: Gate) -> Self {
        Self { inner, gate }
    }

    fn wrap(&self, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(GatedFile { inner, gate: self.gate.clone() })
    }
}

impl Disk for GatedDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir_all(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(self.inner.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(self.inner.open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.sync_dir(dir)
    }

    fn random_salt(&self) -> u64 {
        self.inner.random_salt()
    }
}

struct GatedFile {
    inner: Arc<dyn DiskFile>,
    gate: Gate,
}

impl DiskFile for GatedFile {
    fn read_exact_at(&self, buffer: &mut [u8], position_bytes: u64) -> io::Result<()> {
        self.inner.read_exact_at(buffer, position_bytes)
    }

    fn write_all_at(&self, slices: &[IoSlice<'_>], position_bytes: u64) -> io::Result<()> {
        self.gate.pass(Door::Write);
        self.inner.write_all_at(slices, position_bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass(Door::Flush);
        self.inner.sync_data()
    }

    fn allocate(&self, position_bytes: u64, length_bytes: u64) -> io::Result<()> {
        self.inner.allocate(position_bytes, length_bytes)
    }

    fn set_len(&self, length_bytes: u64) -> io::Result<()> {
        self.inner.set_len(length_bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}
