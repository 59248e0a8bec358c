//! The file layer: everything the log asks of a file system, so that simulation can stand in for it.

mod hooked;
mod random;
mod real;
mod sim;

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

pub use hooked::{DiskHook, HookedDisk};
pub use real::RealDisk;
pub use sim::SimDisk;

/// A file system. What it holds after a power loss is only what was synced: a file's bytes and length by
/// [`DiskFile::sync_data`], its name by [`Disk::sync_dir`] of its directory.
pub trait Disk: Send + Sync {
    /// Creates `dir` and what is missing above it, durably.
    ///
    /// # Errors
    /// Those of the file system.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Creates an empty file; one that is there already is emptied.
    ///
    /// # Errors
    /// Those of the file system; [`io::ErrorKind::StorageFull`] when it is full.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] and those of the file system.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Names of the files in `dir`, in no order.
    ///
    /// # Errors
    /// Those of the file system.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Renames atomically; a file of the new name is replaced.
    ///
    /// # Errors
    /// Those of the file system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Handles that are open stay readable.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] and those of the file system.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes creations, renames and removals in `dir` durable.
    ///
    /// # Errors
    /// Those of the file system.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// A random number, for the salt of a segment.
    fn random_salt(&self) -> u64;

    /// Space of the file system that holds `dir`.
    ///
    /// # Errors
    /// Those of the file system.
    fn usage(&self, dir: &Path) -> io::Result<DiskUsage>;
}

/// Space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskUsage {
    /// All of it.
    pub total_bytes: u64,
    /// What this process may still use.
    pub free_bytes: u64,
}

/// An open file. Reads and writes are positional and may run side by side.
pub trait DiskFile: Send + Sync {
    /// Fills `buffer` from `position_bytes` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the file is shorter, and those of the file system.
    fn read_exact_at(&self, buffer: &mut [u8], position_bytes: u64) -> io::Result<()>;

    /// Writes all slices, one after the other, from `position_bytes` on.
    ///
    /// # Errors
    /// Those of the file system; part may be written then.
    fn write_all_at(&self, slices: &[IoSlice<'_>], position_bytes: u64) -> io::Result<()>;

    /// fdatasync: makes everything written before the call durable, the length too.
    ///
    /// # Errors
    /// Those of the file system. After an error nothing is known, and trying again proves nothing.
    fn sync_data(&self) -> io::Result<()>;

    /// Allocates space for `length_bytes` from `position_bytes` on; it reads as zeros and counts in the length. Where
    /// the file system cannot do this, nothing happens.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] and those of the file system.
    fn allocate(&self, position_bytes: u64, length_bytes: u64) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// Those of the file system.
    fn set_len(&self, length_bytes: u64) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// Those of the file system.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// Those of the file system.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}
