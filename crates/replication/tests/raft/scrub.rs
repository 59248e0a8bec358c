//! Damage on a disk: found, and put back from another replica while everything goes on.

use duolog_commit_log::SegmentRole;
use duolog_replication::ScrubOptions;
use duolog_types::{FlushWish, LogIndex};

use crate::common::damage::{damage, damage_entry, sealed_segment};
use crate::common::nodes::body;
use crate::common::{GROUP, Nodes, Settings};

const RECORDS: u64 = 80;
const RECORD_BYTES: usize = 4 << 10;

fn settings(scrub: ScrubOptions) -> Settings {
    let mut settings = Settings { scrub, ..Settings::default() };
    settings.log.segment_size_bytes = 64 << 10;
    settings.log.allocation_step_bytes = 64 << 10;
    settings.log.tail_cache_bytes = 32 << 10;
    settings
}

fn load(nodes: &Nodes, leader: u64) {
    let propose =
        |number| nodes.propose(leader, body(&format!("record {number}"), RECORD_BYTES), FlushWish::WithinMs(20));
    let answers: Vec<_> = (0..RECORDS).map(propose).collect();
    answers.into_iter().for_each(|answer| {
        nodes.answer(answer).unwrap();
    });
}

#[test]
fn the_scrubber_puts_damaged_entries_back() {
    let nodes = Nodes::start_with(settings(ScrubOptions { bytes_per_second: 1 << 30, interval_ms: 20 }));
    nodes.make_leader(1);
    load(&nodes, 1);
    nodes.until_everywhere(&format!("record {}", RECORDS - 1));
    for id in [1, 2] {
        let path = sealed_segment(&nodes, id);
        let whole = damage(&nodes, id, &path);
        nodes.until_true("the file is as it was", || nodes.disk(id).file(&path) == whole);
        let group = nodes.group(id);
        nodes.until_true("it is counted", || group.scrub_counts().repaired() == 2);
        assert_eq!(group.scrub_counts().damaged(), 2);
        assert!(group.scrub_counts().verified_bytes() > RECORD_BYTES as u64);
    }
    nodes.write("service goes on");
    nodes.until_everywhere("service goes on");
}

/// openraft ends a node whose log cannot be read: Raft's reader waits for the repair.
#[test]
fn a_node_repairs_what_it_needs_itself_and_what_it_sends() {
    let mut nodes = Nodes::start_with(settings(ScrubOptions { bytes_per_second: 0, interval_ms: 0 }));
    nodes.make_leader(1);
    nodes.write("before");
    nodes.until_everywhere("before");
    nodes.kill(3);
    load(&nodes, 1);
    // The header behind them says that they were flushed: else damage is a torn tail.
    nodes.group(1).log().flush_and_wait().unwrap();
    nodes.write("flushed");
    nodes.until_everywhere("flushed");
    let path = sealed_segment(&nodes, 1);
    nodes.kill(1);
    let whole = damage(&nodes, 1, &path);
    // Its state is behind its log: it applies all of it once more.
    nodes.start_node(1);
    nodes.until_everywhere("flushed");
    assert!(nodes.disk(1).file(&path) == whole);
    assert_eq!(nodes.group(1).scrub_counts().repaired(), 2);
    nodes.start_node(3);
    nodes.until_everywhere("flushed");
    for id in nodes.running() {
        assert_eq!(*nodes.node(id).fatal().borrow(), None, "node {id}");
        assert_eq!(nodes.recorder(id).texts(GROUP).len() as u64, RECORDS + 2, "node {id}");
    }
}

#[test]
fn what_no_other_node_has_stays_as_it_is_and_is_told() {
    let mut nodes = Nodes::start_with(settings(ScrubOptions { bytes_per_second: 1 << 30, interval_ms: 20 }));
    nodes.make_leader(1);
    load(&nodes, 1);
    nodes.until_everywhere(&format!("record {}", RECORDS - 1));
    nodes.kill(2);
    nodes.kill(3);
    let path = sealed_segment(&nodes, 1);
    damage(&nodes, 1, &path);
    let damaged = nodes.disk(1).file(&path);
    let group = nodes.group(1);
    nodes.until_true("it is counted", || group.scrub_counts().damaged() == 2);
    let verified = group.scrub_counts().verified_bytes();
    nodes.until_true("two more passes", || {
        group.scrub_counts().verified_bytes() > verified + 3 * RECORDS * RECORD_BYTES as u64
    });
    assert_eq!((group.scrub_counts().damaged(), group.scrub_counts().repaired()), (2, 0), "told once");
    assert!(nodes.disk(1).file(&path) == damaged, "nothing was cut away");
    // The others come back, and so does the entry.
    nodes.start_node(2);
    nodes.until_true("it is whole again", || group.scrub_counts().repaired() == 2);
}

/// One node does not answer, and what another one has is damaged, too: each search takes as long as the first is waited for.
#[test]
fn an_entry_that_nobody_has_holds_up_no_other() {
    let nodes = Nodes::start_with(settings(ScrubOptions { bytes_per_second: 0, interval_ms: 0 }));
    nodes.make_leader(1);
    load(&nodes, 1);
    nodes.until_everywhere(&format!("record {}", RECORDS - 1));
    for (id, text) in [(1, "record 10"), (3, "record 10"), (1, "record 20")] {
        damage_entry(&nodes, id, text);
    }
    let seen = nodes.recorder(1).seen(GROUP);
    let index = |text: &str| LogIndex(seen.iter().find(|seen| seen.text == text).expect("applied").index);
    nodes.links.silence(1, 2);
    let group = nodes.group(1);
    // As consumers do that wait for it.
    (0..20).for_each(|_| group.suspect(index("record 10")));
    group.suspect(index("record 20"));
    nodes.until_true("the other one is whole", || group.scrub_counts().repaired() == 1);
    assert!(group.log().verify_stored(index("record 20")).is_ok());
    assert!(group.log().verify_stored(index("record 10")).is_err());
    assert_eq!(group.scrub_counts().damaged(), 2, "told once");
}

#[test]
fn what_the_disk_cannot_read_ends_no_pass() {
    let nodes = Nodes::start_with(settings(ScrubOptions { bytes_per_second: 1 << 30, interval_ms: 20 }));
    nodes.make_leader(1);
    load(&nodes, 1);
    nodes.until_everywhere(&format!("record {}", RECORDS - 1));
    let segments = nodes.group(1).log().segments();
    let first = segments.into_iter().find(|segment| segment.role == SegmentRole::Sealed).expect("several segments");
    // A page that two records share: neither can be put back.
    nodes.disk(1).break_page(&first.path, 20_480);
    let later = sealed_segment(&nodes, 1);
    let whole = damage(&nodes, 1, &later);
    nodes.until_true("what lies behind it is repaired", || nodes.disk(1).file(&later) == whole);
    let group = nodes.group(1);
    nodes.until_true("it is counted", || group.scrub_counts().damaged() > 2);
    nodes.write("service goes on");
    nodes.until_everywhere("service goes on");
}
