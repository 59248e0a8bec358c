//! A cluster is backed up under load, and another one is made of it.

mod common;

use std::fs;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use common::{Cluster, Ending, Layout, duolog, produce_until, wait_for};

const TOPIC: &str = "kept";
const LIMIT: Duration = Duration::from_secs(60);
const LAYOUT: Layout = Layout { nodes: 3, broker_groups: 2, tables: "[log]\nsegment_size_bytes = 1048576\n" };

fn run(arguments: &[&str]) -> (bool, String) {
    let output = duolog(arguments);
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[track_caller]
fn succeeds(arguments: &[&str]) -> String {
    let (done, said) = run(arguments);
    assert!(done, "{arguments:?}: {said}");
    said
}

#[track_caller]
fn is_refused(arguments: &[&str], sentence: &str) {
    let (done, said) = run(arguments);
    assert!(!done && said.contains(sentence), "{arguments:?}: {said}");
}

#[test]
fn a_restored_cluster_has_everything_up_to_the_backup() {
    let place = tempfile::tempdir().expect("a directory");
    let (backup, restored) = (place.path().join("backup"), place.path().join("restored"));
    let (backup_dir, restored_dir) = (backup.display().to_string(), restored.display().to_string());
    let old = Cluster::start(LAYOUT);
    old.node(0).client().create_topic(TOPIC, &[]);
    let kafka = |cluster: &Cluster| format!("127.0.0.1:{}", cluster.node(0).ports.kafka);
    let grpc = old.node(1).grpc_address();
    // Several segments before the backup, and a load while it is made.
    let value = "v".repeat(100_000);
    for i in 0..40 {
        let leader = old.node(0).client().leader(TOPIC).expect("a leader");
        let produced = old.node(leader).client().produce(TOPIC, &format!("{i} {value}")).expect("an answer");
        assert_eq!(produced.error_code, 0);
    }
    succeeds(&[
        "consume",
        TOPIC,
        "--bootstrap",
        &kafka(&old),
        "--group",
        "g",
        "--from-beginning",
        "--max-records",
        "40",
    ]);
    let leader = old.node(0).client().leader(TOPIC).expect("a leader");
    let before = old.node(leader).client().fetch_all(TOPIC);
    assert_eq!(before.len(), 40);
    is_refused(&["cluster", "backup", "--node", &grpc, "--to", "backup"], "expected an absolute path");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| produce_until(&old, TOPIC, &stop));
        let ending = Ending(&stop);
        // Nobody listens at the first address: the next one is asked.
        let nodes = format!("127.0.0.1:1,{grpc}");
        let said = succeeds(&["cluster", "backup", "--node", &nodes, "--to", &backup_dir]);
        assert!(said.contains("broker group 0: up to log index") && said.contains(&grpc), "{said}");
        drop(ending);
        assert!(!load.join().expect("the load ends").is_empty());
    });
    is_refused(&["cluster", "backup", "--node", &grpc, "--to", &backup_dir], "is not empty");

    // The old cluster runs on; the new one must not have anything to do with it.
    let mut new = Cluster::down(LAYOUT);
    let config = new.node(0).config().display().to_string();
    is_refused(&["restore", "--from", &restored_dir, "--to", &restored_dir, "--config", &config], "has no backup.json");
    let said = succeeds(&["restore", "--from", &backup_dir, "--to", &restored_dir, "--config", &config]);
    assert!(said.contains("node 2: "), "{said}");
    is_refused(&["restore", "--from", &backup_dir, "--to", &restored_dir, "--config", &config], "is not empty");
    for id in 0..3 {
        let whole = succeeds(&["verify", "--data-dir", &restored.join(format!("node-{id}")).display().to_string()]);
        assert!(whole.contains("whole"), "{whole}");
        fs::rename(restored.join(format!("node-{id}")), new.node(id).data())
            .expect("the directory of a node that is down");
        new.node_mut(id).start();
    }
    new.wait_ready();
    let leader = new.node(0).client().leader(TOPIC).expect("a leader");
    let after = new.node(leader).client().fetch_all(TOPIC);
    assert!(after.len() >= before.len() && after[..before.len()] == before[..], "{} records", after.len());
    let described = succeeds(&["group", "describe", "g", "--bootstrap", &kafka(&new), "--output", "json"]);
    let described: serde_json::Value = serde_json::from_str(&described).expect("JSON");
    assert_eq!(described["offsets"][0]["committed"], 40, "{described}");
    // It goes on as any cluster does.
    let produced = new.node(leader).client().produce(TOPIC, "after the restore").expect("an answer");
    assert_eq!((produced.error_code, produced.offset), (0, after.len() as i64));
    new.node_mut(leader).kill();
    wait_for("another leader", LIMIT, || {
        let other = (leader + 1) % 3;
        let next = new.node(other).client().leader(TOPIC);
        next.is_some_and(|next| next != leader)
    });
    let next = new.node((leader + 1) % 3).client().leader(TOPIC).expect("a leader");
    assert_eq!(new.node(next).client().fetch_all(TOPIC).last().map(String::as_str), Some("after the restore"));
    new.node_mut(leader).start();
    new.wait_ready();
    let http: Vec<String> = (0..3).map(|id| format!("127.0.0.1:{}", new.node(id).ports.http)).collect();
    let compared = succeeds(&["verify", "--http", &http.join(",")]);
    assert!(compared.contains("equal"), "{compared}");
}

#[test]
fn of_one_node_of_three_a_new_cluster_is_made_with_all_that_it_has() {
    let place = tempfile::tempdir().expect("a directory");
    let (backup, restored) = (place.path().join("backup"), place.path().join("restored"));
    let mut old = Cluster::start(LAYOUT);
    old.node(0).client().create_topic(TOPIC, &[]);
    let leader = old.node(0).client().leader(TOPIC).expect("a leader");
    let values: Vec<String> = (0..20).map(|i| format!("value {i}")).collect();
    for value in &values {
        let produced = old.node(leader).client().produce(TOPIC, value).expect("an answer");
        assert_eq!(produced.error_code, 0);
    }
    for id in 0..3 {
        old.node_mut(id).kill();
    }
    // Alone it commits nothing, so what it applies is what its state had when that was flushed last.
    old.node_mut(leader).start();
    let grpc = old.node(leader).grpc_address();
    let backup_dir = backup.display().to_string();
    let ask = ["cluster", "backup", "--node", &grpc, "--to", &backup_dir, "--with-uncommitted"];
    let mut said = (false, String::new());
    wait_for("a backup", LIMIT, || {
        said = run(&ask);
        said.0
    });
    assert!(said.1.contains("behind what this node has applied"), "{}", said.1);
    assert!(!said.1.contains("broker group 1: up to log index 0,"), "{}", said.1);
    assert!(old.node_mut(leader).is_running());

    let mut new = Cluster::down(LAYOUT);
    let config = new.node(0).config().display().to_string();
    succeeds(&["restore", "--from", &backup_dir, "--to", &restored.display().to_string(), "--config", &config]);
    for id in 0..3 {
        fs::rename(restored.join(format!("node-{id}")), new.node(id).data())
            .expect("the directory of a node that is down");
        new.node_mut(id).start();
    }
    new.wait_ready();
    let leader = new.node(0).client().leader(TOPIC).expect("a leader");
    assert_eq!(new.node(leader).client().fetch_all(TOPIC), values);
    let produced = new.node(leader).client().produce(TOPIC, "goes on").expect("an answer");
    assert_eq!((produced.error_code, produced.offset), (0, values.len() as i64));
}
