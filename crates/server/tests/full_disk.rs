//! A node whose disk is nearly full takes no more records, serves what it has, and takes records again when there is room.

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use common::{Cluster, Layout, duolog, wait_for};

const TOPIC: &str = "t";
const LIMIT: Duration = Duration::from_secs(30);
const STORAGE_ERROR: i16 = 56;
const MARK_BYTES: u64 = 1 << 30;

/// A cluster whose nodes read in a file how much room their disks have; every disk has enough.
fn start(nodes: u64) -> Cluster {
    let mut cluster = Cluster::down(Layout { nodes, broker_groups: 1, tables: "" });
    for id in 0..nodes {
        let path = free_bytes_path(&cluster, id);
        cluster.node(id).configure(&format!("[testing]\ndisk_free_bytes_path = {path:?}\n"));
        set_free_bytes(&cluster, id, 10 * MARK_BYTES);
        cluster.node_mut(id).start();
    }
    cluster.wait_ready();
    cluster.node(0).client().create_topic(TOPIC, &[]);
    cluster
}

fn free_bytes_path(cluster: &Cluster, id: u64) -> PathBuf {
    cluster.node(id).config().with_file_name("free-bytes")
}

fn set_free_bytes(cluster: &Cluster, id: u64, bytes: u64) {
    fs::write(free_bytes_path(cluster, id), bytes.to_string()).expect("a small file");
}

fn says(cluster: &Cluster, id: u64, line: &str) -> bool {
    cluster.node(id).get("/metrics").is_some_and(|(_, metrics)| metrics.lines().any(|found| found == line))
}

fn produce(cluster: &Cluster, value: &str) -> i16 {
    let leader = cluster.node(0).client().leader(TOPIC).expect("a leader");
    cluster.node(leader).client().produce(TOPIC, value).expect("an answer").error_code
}

/// What `duolog cluster health` answers with, and what it says.
fn health(cluster: &Cluster) -> (Option<i32>, String) {
    let output = duolog(&["cluster", "health", "--node", &cluster.node(0).grpc_address()]);
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_nearly_full_node_is_read_only_until_there_is_room() {
    let cluster = start(1);
    assert_eq!(produce(&cluster, "before"), 0);

    set_free_bytes(&cluster, 0, MARK_BYTES - 1);
    wait_for("the node is read-only", LIMIT, || says(&cluster, 0, "duolog_node_read_only 1"));
    assert_eq!(produce(&cluster, "refused"), STORAGE_ERROR);
    assert_eq!(cluster.node(0).client().fetch_all(TOPIC), ["before"]);
    assert!(cluster.node(0).output().contains("the disk is nearly full"), "the operator is told");
    assert!(cluster.node(0).is_healthy());
    let (code, said) = health(&cluster);
    assert!(
        code == Some(2) && said.contains("is nearly full: it leads it and takes no more records"),
        "{code:?} {said}"
    );

    set_free_bytes(&cluster, 0, MARK_BYTES + MARK_BYTES / 4);
    wait_for("the node takes records again", LIMIT, || says(&cluster, 0, "duolog_node_read_only 0"));
    assert_eq!(produce(&cluster, "after"), 0);
    assert_eq!(health(&cluster), (Some(0), "healthy\n".to_owned()));
    assert_eq!(cluster.node(0).client().fetch_all(TOPIC), ["before", "after"]);
}

#[test]
fn a_follower_without_room_falls_behind_and_catches_up() {
    let mut cluster = start(3);
    assert_eq!(produce(&cluster, "0"), 0);
    let leader = cluster.node(0).client().leader(TOPIC).expect("a leader");
    let follower = (leader + 1) % 3;
    set_free_bytes(&cluster, follower, 0);
    wait_for("the follower has no room", LIMIT, || cluster.node(follower).output().contains("the disk is full"));

    let before = applied(&cluster, follower);
    for value in 1..20 {
        assert_eq!(produce(&cluster, &value.to_string()), 0, "the other two are a quorum");
    }
    wait_for("the leader has applied them", LIMIT, || applied(&cluster, leader) >= before + 19);
    assert!(applied(&cluster, follower) <= before + 1, "the follower took entries: {}", applied(&cluster, follower));
    assert!(cluster.node_mut(follower).is_running());
    let (code, said) = health(&cluster);
    assert!(code == Some(1) && said.contains("is full: it takes no entries"), "{code:?} {said}");

    set_free_bytes(&cluster, follower, 10 * MARK_BYTES);
    wait_for("the follower has caught up", LIMIT, || {
        let hashes = [leader, follower].map(|id| cluster.node(id).get("/debug/state-hash"));
        hashes[0].is_some() && hashes[0] == hashes[1]
    });
    let expected: Vec<String> = (0..20).map(|value| value.to_string()).collect();
    assert_eq!(cluster.node(leader).client().fetch_all(TOPIC), expected);
}

fn applied(cluster: &Cluster, id: u64) -> u64 {
    let (_, hashes) = cluster.node(id).get("/debug/state-hash").expect("an answer");
    let hashes: serde_json::Value = serde_json::from_str(&hashes).expect("JSON");
    hashes["groups"]["0"]["applied"].as_u64().expect("an index")
}
