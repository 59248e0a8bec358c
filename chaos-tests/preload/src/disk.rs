//! What of the data directory has reached the disk. The formats are in the crate's documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_int;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::real;

const PAGE_BYTES: u64 = 4_096;

struct Disk {
    data: PathBuf,
    shadow: PathBuf,
    files: Mutex<Files>,
    /// Held while flushed pages are copied, so that no flush of a file is answered before an earlier one is copied.
    copying: Mutex<()>,
}

/// By inode.
#[derive(Default)]
struct Files {
    /// Whether the file lies in the data directory.
    watched: BTreeMap<u64, bool>,
    unflushed: BTreeMap<u64, Unflushed>,
}

/// What was written since the last flush.
struct Unflushed {
    pages: BTreeSet<u64>,
    /// Everything from this page on: also of a file that an earlier process may have written.
    from: Option<u64>,
}

static DISK: OnceLock<Option<Disk>> = OnceLock::new();

fn disk() -> Option<&'static Disk> {
    DISK.get_or_init(|| {
        let data = PathBuf::from(std::env::var_os("DUOLOG_CHAOS_DATA")?);
        let shadow = PathBuf::from(std::env::var_os("DUOLOG_CHAOS_SHADOW")?);
        let dirs = ["content", "names", "removed"].map(|name| fs::create_dir_all(shadow.join(name)));
        dirs.into_iter().all(|made| made.is_ok()).then(|| Disk {
            data,
            shadow,
            files: Mutex::default(),
            copying: Mutex::default(),
        })
    })
    .as_ref()
}

pub fn is_watched(fd: c_int) -> bool {
    disk().is_some_and(|disk| watched(disk, fd).is_some())
}

/// `length` bytes were written at `at`; None: up to where the file's position is now.
pub fn wrote(fd: c_int, at: Option<i64>, length: u64) {
    const SEEK_CUR: c_int = 1;
    let Some((disk, inode)) = disk().and_then(|disk| watched(disk, fd).map(|inode| (disk, inode))) else { return };
    // SAFETY: asks for the position of the caller's descriptor.
    let at = at.unwrap_or_else(|| unsafe { real::lseek(fd, 0, SEEK_CUR) } - length as i64);
    let Ok(at) = u64::try_from(at) else { return };
    let mut files = lock(&disk.files);
    files.unflushed(inode).pages.extend(at / PAGE_BYTES..=(at + length - 1) / PAGE_BYTES);
}

/// Bytes from here on may be others now.
pub fn changed_from(fd: c_int, at: i64) {
    let Some((disk, inode)) = disk().and_then(|disk| watched(disk, fd).map(|inode| (disk, inode))) else { return };
    let page = u64::try_from(at).unwrap_or(0) / PAGE_BYTES;
    let mut files = lock(&disk.files);
    let unflushed = files.unflushed(inode);
    unflushed.from = Some(unflushed.from.map_or(page, |from| from.min(page)));
}

/// The name is about to go, or to be given to another file.
pub fn removing(path: Option<PathBuf>) {
    let (Some(disk), Some(path)) = (disk(), path) else { return };
    if !path.starts_with(&disk.data) {
        return;
    }
    let Ok(metadata) = fs::symlink_metadata(&path) else { return };
    if metadata.is_file() {
        // There already: another name of it was removed.
        let _ = fs::hard_link(&path, disk.shadow.join(format!("removed/{}", metadata.ino())));
    }
}

/// A flush of the file or directory has succeeded.
pub fn flushed(fd: c_int) {
    let Some(disk) = disk() else { return };
    // SAFETY: borrowed for the call; it is not closed.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    let Ok(metadata) = file.metadata() else { return };
    let result = if metadata.is_dir() {
        fs::read_link(format!("/proc/self/fd/{fd}")).and_then(|path| disk.flushed_dir(&path, metadata.ino()))
    } else if watched(disk, fd).is_some() {
        // The caller may have opened it for writing alone.
        File::open(format!("/proc/self/fd/{fd}")).and_then(|file| disk.flushed_file(&file, metadata.ino()))
    } else {
        Ok(())
    };
    // Without a true shadow the runner would find losses that are none.
    if let Err(error) = result {
        eprintln!("chaos preload: the shadow cannot be written: {error}");
        std::process::abort();
    }
}

impl Disk {
    fn flushed_file(&self, file: &File, inode: u64) -> io::Result<()> {
        let _copying = lock(&self.copying);
        let first_time = Unflushed { pages: BTreeSet::new(), from: Some(0) };
        let unflushed = {
            let mut files = lock(&self.files);
            let clean = Unflushed { pages: BTreeSet::new(), from: None };
            files.unflushed.insert(inode, clean).unwrap_or(first_time)
        };
        let path = self.shadow.join(format!("content/{inode}"));
        let shadow = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let length = file.metadata()?.len();
        let from = unflushed.from.unwrap_or(u64::MAX);
        let tail = from..length.div_ceil(PAGE_BYTES).max(from);
        for page in unflushed.pages.range(..from).copied().chain(tail) {
            copy_page(file, &shadow, page)?;
        }
        shadow.set_len(length)
    }

    fn flushed_dir(&self, path: &Path, inode: u64) -> io::Result<()> {
        if !path.starts_with(&self.data) {
            return Ok(());
        }
        let _copying = lock(&self.copying);
        let mut names = String::new();
        let mut inodes = BTreeSet::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            inodes.insert(entry.ino());
            let kind = if entry.file_type()?.is_dir() { 'd' } else { 'f' };
            let _ = writeln!(names, "{} {kind} {}", entry.ino(), entry.file_name().to_string_lossy());
        }
        let file = self.shadow.join(format!("names/{inode}"));
        let before = fs::read_to_string(&file).unwrap_or_default();
        let new = file.with_extension("new");
        fs::write(&new, names)?;
        fs::rename(&new, &file)?;
        let before = before.lines().filter_map(|line| line.split_once(' ')?.0.parse::<u64>().ok());
        before.filter(|inode| !inodes.contains(inode)).for_each(|inode| self.forget(inode));
        Ok(())
    }

    /// The file's removal is on the disk. Its content goes first: the inode may be another file's as soon as its last name is gone.
    fn forget(&self, inode: u64) {
        let removed = self.shadow.join(format!("removed/{inode}"));
        if fs::metadata(&removed).is_ok_and(|metadata| metadata.nlink() == 1) {
            let mut files = lock(&self.files);
            files.watched.remove(&inode);
            files.unflushed.remove(&inode);
            let _ = fs::remove_file(self.shadow.join(format!("content/{inode}")));
            let _ = fs::remove_file(removed);
        }
    }
}

impl Files {
    fn unflushed(&mut self, inode: u64) -> &mut Unflushed {
        self.unflushed.entry(inode).or_insert(Unflushed { pages: BTreeSet::new(), from: Some(0) })
    }
}

/// The inode of a regular file in the data directory.
fn watched(disk: &Disk, fd: c_int) -> Option<u64> {
    // SAFETY: borrowed for the call; it is not closed.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    let metadata = file.metadata().ok().filter(|metadata| metadata.is_file())?;
    let inode = metadata.ino();
    if let Some(is_watched) = lock(&disk.files).watched.get(&inode) {
        return is_watched.then_some(inode);
    }
    let path = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    let is_watched = path.starts_with(&disk.data);
    lock(&disk.files).watched.insert(inode, is_watched);
    is_watched.then_some(inode)
}

fn copy_page(from: &File, to: &File, page: u64) -> io::Result<()> {
    let mut live = [0; PAGE_BYTES as usize];
    let mut known = [0; PAGE_BYTES as usize];
    let length = read_page(from, page, &mut live)?;
    read_page(to, page, &mut known)?;
    // Holes stay holes.
    if live != known {
        to.write_all_at(&live[..length], page * PAGE_BYTES)?;
    }
    Ok(())
}

fn read_page(file: &File, page: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < bytes.len() {
        match file.read_at(&mut bytes[length..], page * PAGE_BYTES + length as u64)? {
            0 => break,
            n => length += n,
        }
    }
    Ok(length)
}

// A thread that panics between two steps leaves whole maps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
