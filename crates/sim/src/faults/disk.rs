//! Faults of disks: those that end a node, one that fills, and a bit that flips.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Ending, World};
use crate::node::DISK_FREE_BYTES_MIN;

/// What a slow disk adds to each flush.
const SLOW_MS: std::ops::Range<u64> = 50..300;

impl World {
    /// A flush or a write fails, or the machine stops in the middle of one. The node must end, and never say that it has what it has not.
    pub(super) fn hurt_disk(&mut self, node: u32) {
        // A node whose disk has failed does not vote before it has heard of every voter.
        if !self.reach.is_up(node) || self.is_voter_lost() {
            return;
        }
        let disk = self.node_disk(node);
        let number = self.random.below(40);
        match self.random.below(3) {
            0 => disk.fail_sync(number),
            1 => disk.fail_write(number),
            _ => disk.crash_at_operation(number),
        }
        self.count("fault: failing disk");
        self.tell(&format!("the disk of node {node} fails soon"));
        self.clients.cluster.nodes[node as usize].expect_end();
    }

    /// Hardly any room is left for a while: the node takes no more records, and serves those that it has.
    pub(super) fn fill_disk(&mut self, node: u32) {
        if !self.reach.is_up(node) || self.is_under_way(|ending| matches!(ending, Ending::Full(_))) {
            return;
        }
        let free_bytes = self.random.within(DISK_FREE_BYTES_MIN / 4..DISK_FREE_BYTES_MIN);
        let disk = self.node_disk(node);
        disk.set_space_bytes_max(Some(disk.used_bytes() + free_bytes));
        let time = self.random.ms(500..4_000);
        self.count("fault: full disk");
        self.tell(&format!("the disk of node {node} has room for {free_bytes} bytes, for {time:?}"));
        self.end_after(time, Ending::Full(node));
    }

    pub(super) fn empty_disk(&mut self, node: u32) {
        self.node_disk(node).set_space_bytes_max(None);
    }

    /// Each flush takes longer for a while. Nobody loses its leadership by that.
    pub(super) fn slow_disk(&mut self, node: u32) {
        let (added, time) = (self.random.ms(SLOW_MS), self.random.ms(500..4_000));
        self.slow_for(node, added, time);
    }

    pub(super) fn slow_for(&mut self, node: u32, added: Duration, time: Duration) {
        if self.is_under_way(|ending| matches!(ending, Ending::Slow(_))) {
            return;
        }
        self.count("fault: slow disk");
        self.tell(&format!("each flush of node {node} takes {added:?} longer, for {time:?}"));
        self.clients.cluster.nodes[node as usize].slow_down(added);
        self.end_after(time, Ending::Slow(node));
    }

    pub(super) fn hasten(&mut self, node: u32) {
        self.clients.cluster.nodes[node as usize].slow_down(Duration::ZERO);
    }

    /// A bit of a sealed segment flips, and some time later back. Meanwhile nobody may be given the record, and the node may refuse to
    /// work with it.
    pub(super) fn flip_bit(&mut self, node: u32) {
        if self.is_under_way(|ending| matches!(ending, Ending::Flipped { .. })) || self.is_voter_lost() {
            return;
        }
        let disk = self.node_disk(node);
        let segments: Vec<_> =
            disk.paths().into_iter().filter(|path| path.extension().is_some_and(|name| name == "segment")).collect();
        let is_sealed = |path: &&PathBuf| segments.iter().any(|other| other > *path && other.parent() == path.parent());
        let sealed: Vec<_> = segments.iter().filter(is_sealed).collect();
        if sealed.is_empty() {
            return;
        }
        let path = sealed[self.random.below(sealed.len() as u64) as usize].clone();
        let length_bytes = disk.file(&path).len() as u64;
        let (position_bytes, bit) = (self.random.below(length_bytes), self.random.below(8) as u8);
        let time = self.random.ms(500..5_000);
        self.tell(&format!("bit {bit} of byte {position_bytes} of {} flips for {time:?}", path.display()));
        self.count("fault: flipped bit");
        disk.flip_bit(&path, position_bytes, bit);
        let flipped = disk.file(&path)[position_bytes as usize];
        self.clients.cluster.nodes[node as usize].expect_corruption();
        self.end_after(time, Ending::Flipped { node, path, position_bytes, bit, flipped });
        // What lies in sealed segments is read most of all by a node that starts.
        if self.random.one_in(2) {
            self.kill(node);
        }
    }

    /// Only what is still as the fault has left it: the segment may have been repaired or deleted meanwhile.
    pub(super) fn unflip(&mut self, node: u32, path: &Path, position_bytes: u64, (bit, flipped): (u8, u8)) {
        let disk = self.node_disk(node);
        let is_there = disk.paths().iter().any(|other| other == path);
        if is_there && disk.file(path).get(position_bytes as usize) == Some(&flipped) {
            disk.flip_bit(path, position_bytes, bit);
        }
        self.clients.cluster.nodes[node as usize].expect_no_corruption();
    }

    /// No disk fails any more. A node whose disk was to fail and did not goes on.
    pub(super) fn calm_disks(&mut self) {
        for node in 0..self.node_count() {
            self.node_disk(node).end_faults();
            self.clients.cluster.nodes[node as usize].spoil();
        }
    }

    /// A disk fails soon, or is damaged.
    pub(super) fn is_disk_failing(&self) -> bool {
        let nodes = &self.clients.cluster.nodes;
        nodes.iter().any(|node| node.is_disk_failing())
            || self.is_under_way(|ending| matches!(ending, Ending::Flipped { .. }))
    }

    fn node_disk(&self, node: u32) -> duolog_commit_log::SimDisk {
        self.clients.cluster.nodes[node as usize].own_disk()
    }
}
