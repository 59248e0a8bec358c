//! Flipped bits in a replica's tables: found without anybody reading them, and the tables come back, from another node or from the log.

mod common;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use common::{Cluster, Layout, wait_for};

const TOPIC: &str = "t";
const RECORDS: usize = 200;
const LIMIT: Duration = Duration::from_secs(60);
const SCRUB: &str = "[log]\nscrub_interval_ms = 200\nscrub_bytes_per_second = 100000000\n";

fn cluster_with_records(nodes: u64) -> Cluster {
    let cluster = Cluster::start(Layout { nodes, broker_groups: 1, tables: SCRUB });
    cluster.node(0).client().create_topic(TOPIC, &[]);
    let leader = cluster.node(0).client().leader(TOPIC).expect("a leader");
    let mut client = cluster.node(leader).client();
    for number in 0..RECORDS {
        let produced = client.produce(TOPIC, &format!("record {number}")).expect("an answer");
        assert_eq!(produced.error_code, 0);
    }
    cluster
}

/// Flips a bit at the beginning of each table file of a node that does not run.
fn damage(cluster: &Cluster, node: u64) {
    let state = cluster.node(node).data().join("groups/0/state");
    let current = fs::read_to_string(state.join("CURRENT")).expect("CURRENT");
    let files = fs::read_dir(state.join(current.trim())).expect("the tables").map(|file| file.expect("a file").path());
    let tables: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|name| name == "sst")).collect();
    assert!(!tables.is_empty(), "nothing was flushed to {}", state.display());
    for table in tables {
        let mut bytes = fs::read(&table).expect("a table");
        bytes[20] ^= 1;
        fs::write(&table, bytes).expect("the table again");
    }
}

/// Starts the node until it has repaired itself; it may end once, when it finds the damage.
fn start_until_it_says(cluster: &mut Cluster, node: u64, sentence: &str) {
    for _ in 0..2 {
        cluster.node_mut(node).start();
        wait_for("the node repairs itself, or ends", LIMIT, || {
            cluster.node(node).output().contains(sentence) || !cluster.node_mut(node).is_running()
        });
        if cluster.node(node).output().contains(sentence) {
            return;
        }
        assert!(!cluster.node_mut(node).wait_for_end().success());
        assert!(cluster.node(node).output().contains("is damaged"), "{}", cluster.node(node).output());
    }
    panic!("the node does not say {sentence:?}:\n{}", cluster.node(node).output());
}

#[test]
fn damaged_tables_are_copied_from_another_node() {
    let mut cluster = cluster_with_records(3);
    let leader = cluster.node(0).client().leader(TOPIC).expect("a leader");
    let (damaged, other) = ((leader + 1) % 3, (leader + 2) % 3);
    assert!(cluster.node_mut(damaged).terminate().success());
    damage(&cluster, damaged);
    start_until_it_says(&mut cluster, damaged, "copied the state");
    cluster.wait_ready();
    // Its vote counts, and it has everything.
    assert!(cluster.node_mut(other).terminate().success());
    assert!(cluster.node_mut(leader).terminate().success());
    cluster.node_mut(other).start();
    cluster.wait_ready();
    wait_for("one of the two leads", LIMIT, || {
        cluster.node(damaged).client().leader(TOPIC).is_some_and(|leads| leads != leader)
    });
    let leads = cluster.node(damaged).client().leader(TOPIC).expect("a leader");
    let stored = cluster.node(leads).client().fetch_all(TOPIC);
    assert_eq!(stored, (0..RECORDS).map(|number| format!("record {number}")).collect::<Vec<_>>());
}

#[test]
fn alone_a_node_makes_damaged_tables_anew_from_its_log() {
    let mut cluster = cluster_with_records(1);
    assert!(cluster.node_mut(0).terminate().success());
    damage(&cluster, 0);
    start_until_it_says(&mut cluster, 0, "makes it anew from the log");
    cluster.wait_ready();
    wait_for("the node leads again", LIMIT, || cluster.node(0).client().leader(TOPIC) == Some(0));
    let stored = cluster.node(0).client().fetch_all(TOPIC);
    assert_eq!(stored, (0..RECORDS).map(|number| format!("record {number}")).collect::<Vec<_>>());
}
