//! What a test does to the medium itself: a bit that flips, a page that cannot be read, other bytes.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use super::{Content, Inode, PAGE_BYTES, SimDisk};

impl SimDisk {
    /// Changes a bit of a file, durably: the medium is damaged. Nothing happens where the file is shorter.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn flip_bit(&self, path: &Path, position_bytes: u64, bit: u8) {
        let mut state = self.state.lock();
        let number = state.names[path];
        let inode = state.inodes.get_mut(&number).expect("a named file has an inode");
        for content in [&mut inode.current, &mut inode.durable] {
            if position_bytes < content.len {
                let mut byte = [0];
                content.read(&mut byte, position_bytes);
                content.write(&[byte[0] ^ 1 << (bit % 8)], position_bytes);
            }
        }
    }

    /// The page that holds this byte cannot be read any more, until all of it is written at once: the medium is damaged. As on Linux, a
    /// write of a part of it fails, because the rest would have to be read.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn break_page(&self, path: &Path, position_bytes: u64) {
        let mut state = self.state.lock();
        let number = state.names[path];
        let inode = state.inodes.get_mut(&number).expect("a named file has an inode");
        inode.broken.insert(position_bytes / PAGE_BYTES);
    }

    /// Replaces the bytes of a file, durably: the hand of a test, not of the log.
    pub fn set_file(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state.lock();
        let number = state.names.get(path).copied().unwrap_or_else(|| {
            state.next_inode += 1;
            state.next_inode
        });
        let mut content = Content::default();
        content.write(bytes, 0);
        let inode = Inode { current: content.clone(), durable: content, ..Inode::default() };
        state.inodes.insert(number, inode);
        state.names.insert(path.to_owned(), number);
        state.durable_names.insert(path.to_owned(), number);
    }
}

impl Inode {
    pub(super) fn check_readable(&self, position: u64, len: u64) -> io::Result<()> {
        check(&self.broken, position, position + len)
    }

    /// Broken pages that a write covers are whole again. One that it covers in part fails it.
    pub(super) fn replace_broken(&mut self, position: u64, len: u64) -> io::Result<()> {
        let end = position + len;
        let mut rest = self.broken.clone();
        rest.retain(|page| page * PAGE_BYTES < position || (page + 1) * PAGE_BYTES > end);
        check(&rest, position, end)?;
        self.broken = rest;
        Ok(())
    }
}

/// Fails when a broken page lies within these bytes.
fn check(broken: &BTreeSet<u64>, start: u64, end: u64) -> io::Result<()> {
    let is_hit = |page: &u64| page * PAGE_BYTES < end && (page + 1) * PAGE_BYTES > start;
    if broken.iter().any(is_hit) { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
}
