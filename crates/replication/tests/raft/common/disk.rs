//! A simulated disk with two gates: writes and flushes can be held back, and counted. And it can say that it is full.

use std::io;
use std::sync::Arc;

use duolog_commit_log::{DiskFile, DiskHook, DiskUsage, HookedDisk, SimDisk};
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
    free_bytes: Option<u64>,
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

    /// What the disk says that is free from now on; `None`: what is.
    pub fn set_free_bytes(&self, free_bytes: Option<u64>) {
        self.0.0.lock().free_bytes = free_bytes;
    }

    fn set(&self, door: Door, held: bool) {
        let mut state = self.0.0.lock();
        match door {
            Door::Write => state.writes_held = held,
            Door::Flush => state.flushes_held = held,
        }
        self.0.1.notify_all();
    }

    pub fn pass(&self, door: Door) {
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
pub fn gated(inner: SimDisk, gate: Gate) -> HookedDisk {
    HookedDisk::new(Arc::new(inner), Arc::new(gate))
}

impl DiskHook for Gate {
    fn before_write(&self) {
        self.pass(Door::Write);
    }

    fn flush(&self, file: &dyn DiskFile) -> io::Result<()> {
        self.pass(Door::Flush);
        file.sync_data()
    }

    fn usage(&self, real: DiskUsage) -> DiskUsage {
        let free_bytes = self.0.0.lock().free_bytes.unwrap_or(real.free_bytes);
        DiskUsage { free_bytes, ..real }
    }
}
