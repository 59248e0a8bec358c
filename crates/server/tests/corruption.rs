//! A damaged byte in the middle of the log is found, named, not served and not cut away.

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use common::{Cluster, Layout, wait_for};

const TOPIC: &str = "t";
const RECORDS: usize = 8;
const RECORD_BYTES: usize = 300_000;
const STORAGE_ERROR: i16 = 56;
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_damaged_batch_is_named_and_neither_served_nor_cut_away() {
    let tables = "[log]\nsegment_size_bytes = 1048576\n[memory]\nlog_tail_bytes = 65536\n";
    let mut cluster = Cluster::start(Layout { nodes: 1, broker_groups: 1, tables });
    cluster.node(0).client().create_topic(TOPIC, &[]);
    for i in 0..RECORDS {
        let produced = cluster.node(0).client().produce(TOPIC, &value(i)).expect("an answer");
        assert_eq!(produced.error_code, 0);
    }
    // The third record, so that what lies around it is intact.
    let (damaged, _) = damage(&cluster, 0, &value(2));
    let before = fs::read(&damaged).expect("a segment");

    for _ in ["running", "restarted"] {
        let mut client = cluster.node(0).client();
        let mut fetch = |offset| client.fetch(TOPIC, offset, Duration::ZERO).expect("an answer");
        assert_eq!(fetch(0).values, [value(0), value(1)], "what lies before it is served");
        let refused = fetch(2);
        assert_eq!((refused.error_code, refused.values.len()), (STORAGE_ERROR, 0));
        assert_eq!(fetch(3).values[0], value(3), "what lies behind it is served");
        let file = damaged.display().to_string();
        let said = cluster.node(0).output();
        assert!(said.contains(&format!("{file} is corrupt at byte")), "{said}");
        assert_eq!(fs::read(&damaged).expect("a segment"), before, "nothing is cut away");

        assert!(cluster.node_mut(0).terminate().success());
        cluster.node_mut(0).start();
        cluster.wait_ready();
        wait_for("the node leads again", LIMIT, || cluster.node(0).client().leader(TOPIC) == Some(0));
    }
}

/// With other nodes the same damage is put back, by the first consumer that meets it.
#[test]
fn a_damaged_batch_is_put_back_from_another_node() {
    let tables = "[log]\nsegment_size_bytes = 1048576\n[memory]\nlog_tail_bytes = 65536\n";
    let cluster = Cluster::start(Layout { nodes: 3, broker_groups: 1, tables });
    cluster.node(0).client().create_topic(TOPIC, &[]);
    for i in 0..RECORDS {
        let leader = cluster.node(0).client().leader(TOPIC).expect("a leader");
        let produced = cluster.node(leader).client().produce(TOPIC, &value(i)).expect("an answer");
        assert_eq!(produced.error_code, 0);
    }
    let leader = cluster.node(0).client().leader(TOPIC).expect("a leader");
    let (file, whole) = damage(&cluster, leader, &value(2));
    let mut client = cluster.node(leader).client();
    wait_for("the damaged record is served", LIMIT, || {
        let fetched = client.fetch(TOPIC, 2, Duration::ZERO).expect("an answer");
        assert!(fetched.error_code == 0 || fetched.error_code == STORAGE_ERROR, "{fetched:?}");
        fetched.values.first().is_some_and(|found| *found == value(2))
    });
    assert!(fs::read(&file).expect("a segment") == whole, "byte for byte");
    let said = cluster.node(leader).output();
    assert!(said.contains("the damaged entry is whole again"), "{said}");
    let (_, metrics) = cluster.node(leader).get("/metrics").expect("metrics");
    assert!(metrics.contains("duolog_broker_group_repaired_entries_total{broker_group=\"0\"} 1"), "{metrics}");
}

fn value(i: usize) -> String {
    format!("record {i} ").repeat(RECORD_BYTES / 9)
}

/// Flips a bit in the middle of the record with this value, in the file of a node's log that holds it. Gives the file, and its bytes
/// before.
fn damage(cluster: &Cluster, id: u64, value: &str) -> (PathBuf, Vec<u8>) {
    let log = cluster.node(id).data().join("groups/0/log");
    let segments = fs::read_dir(log).expect("a log").map(|file| file.expect("a file").path());
    for path in segments.filter(|path| path.extension().is_some_and(|extension| extension == "segment")) {
        let mut bytes = fs::read(&path).expect("a segment");
        let start = &value.as_bytes()[..64];
        if let Some(at) = bytes.windows(start.len()).position(|window| window == start) {
            let whole = bytes.clone();
            bytes[at + RECORD_BYTES / 2] ^= 1;
            fs::write(&path, bytes).expect("a segment");
            return (path, whole);
        }
    }
    panic!("the record is in no segment");
}
