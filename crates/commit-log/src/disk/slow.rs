//! A disk whose fdatasync takes longer, or does nothing: for tests of what must not, and what must, wait for a flush.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Disk, DiskFile};

/// What a flush does.
#[derive(Debug, Clone, Copy)]
enum Flush {
    Delayed(Duration),
    Skipped,
}

/// Another disk, with every [`DiskFile::sync_data`] delayed or skipped. A wrapper, so that the real disk has no branch for it.
pub struct SlowDisk {
    inner: Arc<dyn Disk>,
    flush: Flush,
}

impl SlowDisk {
    /// Delays each flush of `inner` by `flush_delay`.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>, flush_delay: Duration) -> Self {
        Self { inner, flush: Flush::Delayed(flush_delay) }
    }

    /// The mutant: a flush says that it is done and does nothing.
    #[must_use]
    pub fn never_flushing(inner: Arc<dyn Disk>) -> Self {
        Self { inner, flush: Flush::Skipped }
    }

    fn wrap(&self, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(SlowFile { inner, flush: self.flush })
    }
}

impl Disk for SlowDisk {
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

struct SlowFile {
    inner: Arc<dyn DiskFile>,
    flush: Flush,
}

impl DiskFile for SlowFile {
    fn read_exact_at(&self, buffer: &mut [u8], position_bytes: u64) -> io::Result<()> {
        self.inner.read_exact_at(buffer, position_bytes)
    }

    fn write_all_at(&self, slices: &[IoSlice<'_>], position_bytes: u64) -> io::Result<()> {
        self.inner.write_all_at(slices, position_bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.flush {
            Flush::Delayed(delay) => {
                std::thread::sleep(delay);
                self.inner.sync_data()
            }
            Flush::Skipped => Ok(()),
        }
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
