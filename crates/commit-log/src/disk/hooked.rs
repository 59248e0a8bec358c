//! Another disk with a hook: for tests of what must not, and what must, wait for a write or a flush, or of a full disk.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use super::{Disk, DiskFile, DiskUsage};

/// What a test does to a disk. Each method does by default what the disk itself does.
pub trait DiskHook: Send + Sync {
    /// Called before each write.
    fn before_write(&self) {}

    /// Called in the place of [`DiskFile::sync_data`].
    ///
    /// # Errors
    /// Those of the file system.
    fn flush(&self, file: &dyn DiskFile) -> io::Result<()> {
        file.sync_data()
    }

    /// What the disk says of its space.
    fn usage(&self, real: DiskUsage) -> DiskUsage {
        real
    }
}

/// A disk with a hook. A wrapper, so that the real disk has no branch for it.
pub struct HookedDisk {
    inner: Arc<dyn Disk>,
    hook: Arc<dyn DiskHook>,
}

impl HookedDisk {
    /// Wraps `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>, hook: Arc<dyn DiskHook>) -> Self {
        Self { inner, hook }
    }

    fn wrap(&self, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(HookedFile { inner, hook: self.hook.clone() })
    }
}

impl Disk for HookedDisk {
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

    fn usage(&self, dir: &Path) -> io::Result<DiskUsage> {
        Ok(self.hook.usage(self.inner.usage(dir)?))
    }
}

struct HookedFile {
    inner: Arc<dyn DiskFile>,
    hook: Arc<dyn DiskHook>,
}

impl DiskFile for HookedFile {
    fn read_exact_at(&self, buffer: &mut [u8], position_bytes: u64) -> io::Result<()> {
        self.inner.read_exact_at(buffer, position_bytes)
    }

    fn write_all_at(&self, slices: &[IoSlice<'_>], position_bytes: u64) -> io::Result<()> {
        self.hook.before_write();
        self.inner.write_all_at(slices, position_bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.hook.flush(&*self.inner)
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
