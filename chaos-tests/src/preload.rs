//! The library that is preloaded into nodes (`chaos-tests/preload`), and what is asked of it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libduolog_chaos_preload.so"));

// The file that both sides map: `chaos-tests/preload/src/control.rs` draws it.
const ALIVE: u64 = 0x6475_6f6c_6f67;
const ALIVE_AT: u64 = 0;
const FLUSH_DELAY_AT: u64 = 8;
const FLUSH_FAILS_AT: u64 = 16;
const CLOCK_AT: u64 = 24;
const NO_ROOM_AT: u64 = 32;
const LENGTH_BYTES: u64 = 40;

/// Writes the library into `dir`; where it is.
pub fn write_library(dir: &Path) -> Result<PathBuf> {
    let path = dir.join("libduolog_chaos_preload.so");
    fs::write(&path, LIBRARY).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// What one node is asked for, whichever process it runs in.
pub struct Control {
    file: File,
}

impl Control {
    pub fn create(path: &Path) -> Result<Control> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        file.set_len(LENGTH_BYTES)?;
        Ok(Control { file })
    }

    /// Every fsync and fdatasync takes this much longer.
    pub fn set_flush_delay(&self, delay: Duration) -> Result<()> {
        self.put(FLUSH_DELAY_AT, delay.as_millis() as u64)
    }

    pub fn set_flush_fails(&self, fails: bool) -> Result<()> {
        self.put(FLUSH_FAILS_AT, u64::from(fails))
    }

    /// Nothing more can be written, as on a full disk.
    pub fn set_no_room(&self, no_room: bool) -> Result<()> {
        self.put(NO_ROOM_AT, u64::from(no_room))
    }

    /// The wall clock is this much ahead, or behind where negative.
    pub fn set_clock_offset_ms(&self, offset_ms: i64) -> Result<()> {
        self.put(CLOCK_AT, offset_ms as u64)
    }

    /// Whether a process has mapped the file.
    pub fn is_alive(&self) -> bool {
        let mut found = [0; 8];
        self.file.read_exact_at(&mut found, ALIVE_AT).is_ok() && u64::from_ne_bytes(found) == ALIVE
    }

    fn put(&self, at: u64, value: u64) -> Result<()> {
        Ok(self.file.write_all_at(&value.to_ne_bytes(), at)?)
    }
}
