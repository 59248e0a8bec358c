//! Musts 6 and 7: purging the log, and a follower that needs what was purged.

use duolog_commit_log::LogError;
use duolog_replication::{BrokerGroup, ScrubOptions, testing};
use duolog_types::{FlushWish, LogIndex, NodeId};

use crate::common::damage::{damage, sealed_segment};
use crate::common::nodes::body;
use crate::common::{GROUP, Nodes, Settings};

const RECORD_BYTES: usize = 4 << 10;

fn small_segments() -> Settings {
    let mut settings = Settings::default();
    settings.log.segment_size_bytes = 64 << 10;
    settings.log.allocation_step_bytes = 64 << 10;
    settings.log.tail_cache_bytes = 32 << 10;
    settings
}

/// Writes so many records, and waits for the last.
fn load(nodes: &Nodes, leader: u64, name: &str, count: u64) -> LogIndex {
    let answers: Vec<_> = (0..count)
        .map(|number| nodes.propose(leader, body(&format!("{name} {number}"), RECORD_BYTES), FlushWish::WithinMs(20)))
        .collect();
    let applied = answers.into_iter().map(|answer| nodes.answer(answer).unwrap().0);
    applied.max().expect("at least one record")
}

fn release(nodes: &Nodes, group: &BrokerGroup, wanted: u64) {
    nodes.runtime.block_on(group.release_log_below(LogIndex(wanted))).unwrap();
}

/// Raft may not read it any more, a consumer may.
fn assert_purged_but_readable(nodes: &Nodes, id: u64, upto: LogIndex) {
    let log = nodes.group(id).log().clone();
    for index in (0..=upto.0).map(LogIndex) {
        let refused = log.read(index..LogIndex(index.0 + 1), usize::MAX).unwrap_err();
        assert!(matches!(refused, LogError::Purged { .. }), "node {id}, index {index}: {refused}");
        let entry = log.read_any(index).unwrap();
        assert_eq!(entry.map(|entry| entry.index), Some(index), "node {id}");
    }
}

#[test]
fn raft_must_06_a_purge_is_a_mark_and_deletes_nothing() {
    let nodes = Nodes::start_with(small_segments());
    nodes.make_leader(1);
    let last = load(&nodes, 1, "record", 60);
    nodes.until_everywhere("record 59");
    let group = nodes.group(1);
    let segments = group.log().segments();
    assert!(segments.len() >= 3, "{segments:?}");
    assert_eq!(group.log().purged(), None, "no snapshot and no purge unless asked for");
    nodes.until_true("the slowest voter has it", || {
        release(&nodes, &group, last.0 + 1);
        group.log().purged().is_some_and(|(_, index)| index.0 + 1 == last.0)
    });
    let paths = |segments: Vec<duolog_commit_log::SegmentInfo>| -> Vec<_> {
        segments.into_iter().map(|info| info.path).collect()
    };
    assert_eq!(paths(group.log().segments()), paths(segments), "segments are retention's");
    assert_purged_but_readable(&nodes, 1, LogIndex(last.0 - 1));
    nodes.write("after");
    nodes.until_everywhere("after");
}

#[test]
fn raft_must_06_the_mark_stays_below_the_slowest_voter() {
    let mut nodes = Nodes::start_with(small_segments());
    nodes.make_leader(1);
    nodes.write("before");
    nodes.until_everywhere("before");
    nodes.kill(3);
    let has = LogIndex(nodes.group(1).applied().borrow().expect("applied").index);
    let last = load(&nodes, 1, "record", 30);
    let group = nodes.group(1);
    // Snapshots are made in the background: asked for again and again, they would long have purged everything.
    for number in 0..20 {
        release(&nodes, &group, last.0 + 1);
        nodes.write(&format!("after {number}"));
        assert!(
            group.log().purged().is_none_or(|(_, index)| index <= has),
            "node 3 has {has}: {:?}",
            group.log().purged()
        );
    }
    nodes.write("after");
    nodes.start_node(3);
    nodes.until_everywhere("after");
    assert_eq!(nodes.group(3).installed_snapshots(), 0);
    // Nor above what was wanted, when everybody has everything.
    nodes.until_true("purged as wanted", || {
        release(&nodes, &group, 10);
        group.log().purged().is_some_and(|(_, index)| index.0 == 9)
    });
    for number in 0..5 {
        release(&nodes, &group, 10);
        nodes.write(&format!("later {number}"));
    }
    assert_eq!(group.log().purged().map(|(_, index)| index.0), Some(9));
}

/// Three nodes, of which the third does not run and needs what `purger`, which leads, has purged; and how far that goes.
fn nodes_that_need_a_snapshot(settings: Settings, [first, purger]: [u64; 2]) -> (Nodes, LogIndex) {
    let mut nodes = Nodes::start_with(settings);
    nodes.make_leader(first);
    nodes.write("before");
    nodes.until_everywhere("before");
    nodes.kill(3);
    load(&nodes, first, "missed", 100);
    nodes.until_everywhere("missed 99");
    // A follower does not know what the third one lacks: it purges, and then it leads.
    let purge = nodes.group(purger);
    let last = LogIndex(purge.applied().borrow().expect("applied").index);
    nodes.until_true("purged", || {
        release(&nodes, &purge, last.0 + 1);
        purge.log().purged().is_some_and(|(_, index)| index.0 + 1 >= last.0)
    });
    nodes.make_leader(purger);
    (nodes, last)
}

/// Consumers find every entry that was applied.
fn assert_no_holes(nodes: &Nodes, id: u64) {
    let applied = || nodes.group(id).applied().borrow().map(|mark| mark.index);
    nodes.until_true("applied", || applied().is_some());
    let applied = applied().unwrap();
    for index in (0..=applied).map(LogIndex) {
        let entry = nodes.group(id).log().read_any(index).unwrap();
        assert_eq!(entry.map(|entry| entry.index), Some(index), "node {id}");
    }
}

#[test]
fn raft_must_07_after_a_snapshot_consumers_read_below_the_purge_mark() {
    let (mut nodes, last) = nodes_that_need_a_snapshot(small_segments(), [1, 2]);
    nodes.start_node(3);
    // Under load, for the log goes on while the snapshot is on its way.
    let group = nodes.group(3);
    let mut number = 0;
    nodes.until_true("a snapshot", || {
        drop(nodes.propose(2, body(&format!("load {number}"), RECORD_BYTES), FlushWish::WithinMs(20)));
        number += 1;
        group.installed_snapshots() > 0
    });
    nodes.write("after");
    nodes.until_everywhere("after");
    let purged = group.log().purged().expect("a snapshot purges").1;
    assert!(purged >= last);
    assert_purged_but_readable(&nodes, 3, purged);
    for id in [1, 3] {
        assert_eq!(nodes.recorder(id).seen(GROUP), nodes.recorder(2).seen(GROUP), "node {id}");
    }
    // And again after a restart, from the disk alone.
    nodes.stop(3);
    nodes.start_node(3);
    assert_purged_but_readable(&nodes, 3, purged);
    nodes.write("the end");
    nodes.until_everywhere("the end");
}

#[test]
fn raft_must_07_what_is_damaged_at_the_sender_is_repaired_on_the_way() {
    let settings = Settings { scrub: ScrubOptions { bytes_per_second: 0, interval_ms: 0 }, ..small_segments() };
    let (mut nodes, _) = nodes_that_need_a_snapshot(settings, [2, 1]);
    let path = sealed_segment(&nodes, 1);
    let whole = damage(&nodes, 1, &path);
    nodes.start_node(3);
    let receiver = nodes.group(3);
    nodes.until_true("a snapshot", || receiver.installed_snapshots() > 0);
    nodes.write("after");
    nodes.until_everywhere("after");
    assert_no_holes(&nodes, 3);
    assert!(nodes.disk(1).file(&path) == whole);
    assert_eq!(nodes.group(1).scrub_counts().repaired(), 2);
    assert_eq!(nodes.recorder(3).texts(GROUP), nodes.recorder(1).texts(GROUP));
}

#[test]
fn raft_must_07_a_snapshot_that_breaks_off_leaves_no_holes() {
    let settings = Settings { scrub: ScrubOptions { bytes_per_second: 0, interval_ms: 0 }, ..small_segments() };
    let (mut nodes, _) = nodes_that_need_a_snapshot(settings, [2, 1]);
    let path = sealed_segment(&nodes, 1);
    damage(&nodes, 1, &path);
    // Nobody has the damaged entries now.
    nodes.kill(2);
    nodes.start_node(3);
    let (sender, receiver) = (nodes.group(1), nodes.group(3));
    nodes.until_true("attempts that broke off", || nodes.recorder(1).checkpoints(GROUP) > 2);
    assert_eq!(receiver.installed_snapshots(), 0);
    assert_eq!((sender.scrub_counts().damaged(), sender.scrub_counts().repaired()), (1, 0), "up to the first");
    nodes.start_node(2);
    nodes.write("after");
    nodes.until_everywhere("after");
    assert_no_holes(&nodes, 3);
    assert_eq!(nodes.recorder(3).texts(GROUP), nodes.recorder(2).texts(GROUP));
}

/// Entries are refused before the disk is full; a snapshot is many of them, and a state.
#[test]
fn a_node_with_a_full_disk_takes_no_snapshot() {
    const FREE_BYTES_MIN: u64 = 1 << 20;
    let settings = Settings { disk_free_bytes_min: FREE_BYTES_MIN, ..small_segments() };
    let (mut nodes, _) = nodes_that_need_a_snapshot(settings, [2, 1]);
    nodes.gate(3).set_free_bytes(Some(FREE_BYTES_MIN / 2 - 1));
    nodes.start_node(3);
    let receiver = nodes.group(3);
    let sent = nodes.runtime.block_on(testing::send_snapshot(nodes.node(1), GROUP, NodeId(3)));
    assert_eq!(sent, Err("the disk of this node is full".to_owned()));
    assert_eq!(receiver.installed_snapshots(), 0);
    assert_eq!(*nodes.node(3).fatal().borrow(), None);
    nodes.write("meanwhile");
    nodes.gate(3).set_free_bytes(None);
    nodes.until_true("a snapshot", || receiver.installed_snapshots() > 0);
    nodes.until_everywhere("meanwhile");
    assert_no_holes(&nodes, 3);
}
