//! Musts 6 and 7: purging the log, and a follower that needs what was purged.

use duolog_commit_log::LogError;
use duolog_replication::BrokerGroup;
use duolog_types::{FlushWish, LogIndex};

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

#[test]
fn raft_must_07_after_a_snapshot_consumers_read_below_the_purge_mark() {
    let mut nodes = Nodes::start_with(small_segments());
    nodes.make_leader(1);
    nodes.write("before");
    nodes.until_everywhere("before");
    nodes.kill(3);
    load(&nodes, 1, "missed", 100);
    nodes.until_everywhere("missed 99");
    // A follower does not know what the third one lacks: it purges, and then it leads.
    let last = LogIndex(nodes.group(2).applied().borrow().expect("applied").index);
    let purge = nodes.group(2);
    nodes.until_true("purged", || {
        release(&nodes, &purge, last.0 + 1);
        purge.log().purged().is_some_and(|(_, index)| index.0 + 1 >= last.0)
    });
    nodes.make_leader(2);
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
