//! Damage on a node's simulated disk.

use std::path::{Path, PathBuf};

use duolog_commit_log::SegmentRole;

use super::Nodes;

/// The second sealed segment of a node's log.
pub fn sealed_segment(nodes: &Nodes, id: u64) -> PathBuf {
    let segments = nodes.group(id).log().segments();
    segments.into_iter().filter(|segment| segment.role == SegmentRole::Sealed).nth(1).expect("several segments").path
}

/// Flips bits of two entries in the middle: in a body, and the index in a header. Gives the file as it was.
pub fn damage(nodes: &Nodes, id: u64, path: &Path) -> Vec<u8> {
    /// Of an entry, in byte 9; marks and votes lie between entries.
    const ENTRY: u8 = 2;
    let whole = nodes.disk(id).file(path);
    let is_entry = |at: &usize| whole[*at..].starts_with(b"DLOG") && whole[at + 9] == ENTRY;
    let entries: Vec<usize> = (0..whole.len() - 64).step_by(8).filter(is_entry).collect();
    let middle = entries.len() / 2;
    let mut bytes = whole.clone();
    bytes[entries[middle] + 64 + 100] ^= 4;
    bytes[entries[middle + 1] + 24] ^= 0x40;
    nodes.disk(id).set_file(path, &bytes);
    whole
}

/// Flips a bit of the entry whose body begins with this text.
pub fn damage_entry(nodes: &Nodes, id: u64, text: &str) {
    let disk = nodes.disk(id);
    let begin = [text.as_bytes(), &[0]].concat();
    let find = |path: &PathBuf| disk.file(path).windows(begin.len()).position(|bytes| bytes == begin);
    let found = disk.paths().into_iter().find_map(|path| Some((find(&path)?, path)));
    let (position, path) = found.expect("such an entry");
    disk.flip_bit(&path, position as u64 + 100, 2);
}
