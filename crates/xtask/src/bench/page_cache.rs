//! Takes the machine's untouched memory out of the measurement.
//!
//! On a virtual machine the first use of a page costs the host's page fault, 2 to 4 µs per KiB written, and it is charged to
//! the process that writes: more than all that a broker does with that KiB. A machine that has run for a while has no such
//! pages, since old pages of files are reused. So before each case the free memory is filled with pages of a file that nobody
//! needs; the kernel gives them away first.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Left free: more than what the kernel keeps for itself.
const LEFT_FREE_BYTES: u64 = 384 << 20;

/// A file of holes whose pages fill the memory. Deleted at the end.
pub struct PageCache {
    path: PathBuf,
    file: File,
}

impl PageCache {
    pub fn new(dir: &Path) -> Result<PageCache> {
        fs::create_dir_all(dir)?;
        let path = dir.join("page-cache-filler");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        Ok(PageCache { path, file })
    }

    /// Nothing to do where no memory is free.
    pub fn fill(&mut self) -> Result<()> {
        let bytes = free_bytes()?.saturating_sub(LEFT_FREE_BYTES);
        let end = self.file.metadata()?.len();
        self.file.set_len(end + bytes).with_context(|| format!("cannot extend {}", self.path.display()))?;
        self.file.seek(SeekFrom::Start(end))?;
        let mut buffer = vec![0; 1 << 20];
        while self.file.read(&mut buffer)? > 0 {}
        Ok(())
    }
}

impl Drop for PageCache {
    fn drop(&mut self) {
        // A leftover holds no blocks.
        let _ = fs::remove_file(&self.path);
    }
}

fn free_bytes() -> Result<u64> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemFree:")).context("/proc/meminfo has no MemFree")?;
    let kib: u64 = line.split_whitespace().next().context("MemFree has no value")?.parse()?;
    Ok(kib << 10)
}
