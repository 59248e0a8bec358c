//! Who may use a data directory, and who may take part in a cluster, over real processes.

mod common;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use common::{Cluster, Ending, Layout, duolog, produce_until, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
const ONE: Layout = Layout { nodes: 1, broker_groups: 1, tables: "" };

/// Rewrites the config of a node that is down.
fn edit_config(cluster: &Cluster, id: u64, from: &str, to: &str) {
    let path = cluster.node(id).config();
    let text = fs::read_to_string(&path).expect("node.toml");
    assert!(text.contains(from), "{text}");
    fs::write(&path, text.replacen(from, to, 1)).expect("node.toml");
}

/// Starts a node that must end by itself with an error, and checks what it says.
fn is_refused(cluster: &mut Cluster, id: u64, sentences: &[&str]) {
    let node = cluster.node_mut(id);
    let before = node.output().len();
    node.start();
    let status = node.wait_for_end();
    let said = node.output()[before..].to_owned();
    assert!(!status.success(), "node {id} ended with {status}: {said}");
    for sentence in sentences {
        assert!(said.contains(sentence), "{sentence:?} is missing: {said}");
    }
}

#[test]
fn a_second_process_on_the_same_directory_is_refused() {
    let mut cluster = Cluster::start(ONE);
    cluster.add(1, &[]);
    let (first, second) = (cluster.node(0).data(), cluster.node(1).data());
    edit_config(&cluster, 1, &format!("data_dir = {second:?}"), &format!("data_dir = {first:?}"));
    edit_config(&cluster, 1, "node_id = 1", "node_id = 0");
    edit_config(&cluster, 1, "id = 1", "id = 0");
    let path = first.display().to_string();
    is_refused(&mut cluster, 1, &[&path, "is in use by another process", "choose another data_dir"]);
    assert!(cluster.node(0).is_healthy(), "the first process was not disturbed");
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let mut cluster = Cluster::down(ONE);
    edit_config(&cluster, 0, "[listen]", "flush_everything = true\n[listen]");
    let text = fs::read_to_string(cluster.node(0).config()).expect("node.toml");
    let line = text.lines().position(|line| line.starts_with("flush_everything")).expect("just written") + 1;
    is_refused(
        &mut cluster,
        0,
        &["node.toml", &format!("line {line}"), "unknown field `flush_everything`", "expected"],
    );
    let config = cluster.node(0).config().display().to_string();
    let again = duolog(&["start", "--config", &config]);
    assert_eq!(again.status.code(), Some(78), "a supervisor can tell that it is not worth another try: {again:?}");
}

#[test]
fn an_address_in_use_is_named_with_its_key() {
    let mut cluster = Cluster::start(ONE);
    cluster.add(1, &[]);
    let (first, second) = (cluster.node(0).ports, cluster.node(1).ports);
    for (key, used, free) in
        [("kafka", first.kafka, second.kafka), ("http", first.http, second.http), ("grpc", first.grpc, second.grpc)]
    {
        let (used, free) = (format!("{key} = \"127.0.0.1:{used}\""), format!("{key} = \"127.0.0.1:{free}\""));
        edit_config(&cluster, 1, &free, &used);
        let named = format!("(listen.{key} in node.toml)");
        is_refused(
            &mut cluster,
            1,
            &["cannot listen on 127.0.0.1:", &named, "is another process using it", "os error"],
        );
        edit_config(&cluster, 1, &used, &free);
    }
    assert!(cluster.node(0).is_healthy(), "the first process was not disturbed");
}

#[test]
fn a_directory_of_another_cluster_is_refused() {
    let mut cluster = Cluster::start(ONE);
    assert!(cluster.node_mut(0).terminate().success());
    edit_config(&cluster, 0, "cluster_name = \"test\"", "cluster_name = \"other\"");
    let sentences = ["belongs to cluster \"test\", but this is cluster \"other\"", "check cluster_name and data_dir"];
    is_refused(&mut cluster, 0, &sentences);
}

/// A newer layout of the directory, and a newer format of the log in it.
#[test]
fn what_a_newer_version_wrote_is_refused_and_not_touched() {
    /// Where the version stands in a segment's first record.
    const VERSION_POSITION: usize = 8;
    let mut cluster = Cluster::start(ONE);
    assert!(cluster.node_mut(0).terminate().success());

    let path = cluster.node(0).data().join("node.json");
    let known = fs::read_to_string(&path).expect("node.json");
    fs::write(&path, known.replacen("\"format_version\": 1", "\"format_version\": 7", 1)).expect("node.json");
    is_refused(&mut cluster, 0, &["node.json has format version 7", "understands up to 1", "use a newer duolog"]);
    fs::write(&path, known).expect("node.json");

    let log = cluster.node(0).data().join("groups/0/log");
    let mut segments = fs::read_dir(log).expect("a log").filter_map(|file| Some(file.ok()?.path()));
    let segment = segments.find(|path| path.extension().is_some_and(|ending| ending == "segment")).expect("a segment");
    let mut bytes = fs::read(&segment).expect("a segment");
    assert_eq!(bytes[VERSION_POSITION], 1);
    bytes[VERSION_POSITION] = 9;
    fs::write(&segment, &bytes).expect("a segment");
    let file = segment.display().to_string();
    is_refused(&mut cluster, 0, &[&file, "has format version 9", "at most 1: use a newer duolog"]);
    assert_eq!(fs::read(&segment).expect("a segment"), bytes, "a newer log was changed");
}

/// A directory that cannot be made, or whose identity cannot be read.
#[test]
fn a_directory_that_is_none_is_named() {
    let mut cluster = Cluster::down(ONE);
    fs::write(cluster.node(0).data(), "a file").expect("a file");
    let path = cluster.node(0).data().display().to_string();
    is_refused(&mut cluster, 0, &[&path, "data_dir"]);
    fs::remove_file(&path).expect("a file");
    fs::create_dir(&path).expect("a directory");
    fs::write(cluster.node(0).data().join("node.json"), "{garbage").expect("node.json");
    is_refused(&mut cluster, 0, &["node.json cannot be understood", "line 1"]);
}

#[test]
fn a_directory_of_another_node_is_refused() {
    let mut cluster = Cluster::start(ONE);
    assert!(cluster.node_mut(0).terminate().success());
    edit_config(&cluster, 0, "node_id = 0", "node_id = 5");
    edit_config(&cluster, 0, "[[nodes]]\nid = 0", "[[nodes]]\nid = 5");
    is_refused(&mut cluster, 0, &["belongs to node 0, but this is node 5", "check node_id and data_dir"]);
}

/// An emptied node is refused under its old identity; under a new one it takes the place of the old, under load. The
/// beginning of a log is gone by then, so that only a snapshot brings the new node's replica up.
#[test]
fn a_node_that_lost_its_disk_is_replaced_by_a_new_one() {
    const TOPIC: &str = "load";
    let tables = "[log]\nsegment_size_bytes = 1048576\n[broker]\nretention_check_interval_ms = 200\n";
    let mut cluster = Cluster::start(Layout { nodes: 3, broker_groups: 4, tables });
    cluster.node(0).client().create_topic(TOPIC, &[]);
    outlive_the_first_segment(&cluster);

    cluster.node_mut(2).kill();
    fs::remove_dir_all(cluster.node(2).data()).expect("the directory of a node that is down");
    is_refused(
        &mut cluster,
        2,
        &["must not return under its old identity", "duolog cluster replace --old 2 --new NEW_ID"],
    );

    cluster.add(3, &[0, 1]);
    cluster.node_mut(3).start();
    wait_for("the others lead every broker group", LIMIT, || [0, 1].iter().all(|id| cluster.node(*id).is_healthy()));
    let (stop, cluster_ref) = (AtomicBool::new(false), &cluster);
    let acknowledged = std::thread::scope(|scope| {
        let load = scope.spawn(|| produce_until(cluster_ref, TOPIC, &stop));
        let ending = Ending(&stop);
        let end = Instant::now() + LIMIT;
        let address = cluster_ref.node(0).grpc_address();
        // The new node makes itself known, and leaders settle: the command says when it must be run again.
        let output = loop {
            let output = duolog(&["cluster", "replace", "--node", &address, "--old", "2", "--new", "3"]);
            if output.status.success() || Instant::now() > end {
                break output;
            }
        };
        drop(ending);
        assert!(output.status.success(), "{output:?}");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("done: node 3 is in the place of node 2"),
            "{output:?}"
        );
        load.join().expect("the load ends")
    });
    assert!(acknowledged.len() > 10, "there was hardly any load: {} records", acknowledged.len());

    cluster.wait_ready();
    wait_for("the replicas of all broker groups are equal", LIMIT, || {
        let hashes = [0, 1, 3].map(|id| cluster.node(id).get("/debug/state-hash"));
        let same = |hash: &Option<(u16, String)>| matches!(hash, Some((200, _))) && *hash == hashes[0];
        hashes.iter().all(same)
    });
    assert!(installed_snapshots(&cluster, 3) > 0, "the new node caught up without a snapshot");
    let voters = &cluster.node(3).cluster_status().expect("a status")["groups"];
    for group in voters.as_array().expect("groups") {
        let replicas = group["replicas"].as_array().expect("replicas");
        let ids: Vec<Option<u64>> = replicas.iter().map(|replica| replica["node_id"].as_u64()).collect();
        assert_eq!(ids, [Some(0), Some(1), Some(3)], "{group}");
    }
    let leader = cluster.node(3).client().leader(TOPIC).expect("a leader");
    let stored = cluster.node(leader).client().fetch_all(TOPIC);
    let lost: Vec<&String> = acknowledged.iter().filter(|value| !stored.contains(value)).collect();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
}

/// Fills a topic that keeps little, until every node has deleted the first segment of the log that holds it.
fn outlive_the_first_segment(cluster: &Cluster) {
    const FORGETFUL: &str = "forgetful";
    cluster.node(0).client().create_topic(FORGETFUL, &[("retention.bytes", "100000")]);
    let value = "v".repeat(500_000);
    let fill = || {
        let leader = cluster.node(0).client().leader(FORGETFUL)?;
        cluster.node(leader).client().produce(FORGETFUL, &value).ok()
    };
    wait_for("every node deletes the first segment of a log", LIMIT, || {
        fill();
        [0, 1, 2].iter().all(|id| {
            let groups = fs::read_dir(cluster.node(*id).data().join("groups")).expect("the broker groups");
            groups.filter_map(Result::ok).any(|group| !has_first_segment(&group.path().join("log")))
        })
    });
}

/// Whether the segment lies there that begins with log index 0.
fn has_first_segment(log: &Path) -> bool {
    let names = fs::read_dir(log).expect("a log").filter_map(Result::ok).map(|file| file.file_name());
    let mut first = names.filter_map(|name| name.to_str()?.strip_suffix(".segment")?.split('-').next()?.parse().ok());
    first.any(|first: u64| first == 0)
}

fn installed_snapshots(cluster: &Cluster, id: u64) -> u64 {
    let (_, metrics) = cluster.node(id).get("/metrics").expect("metrics");
    let of_groups = metrics.lines().filter(|line| line.starts_with("duolog_broker_group_installed_snapshots_total{"));
    of_groups.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// A readiness probe takes no clients to it, a liveness probe does not end it.
#[test]
fn a_node_that_waits_for_others_says_so_and_is_alive() {
    let mut cluster = Cluster::down(Layout { nodes: 3, ..ONE });
    cluster.node_mut(0).start();
    let health = || cluster.node(0).get("/health");
    wait_for("the node answers", LIMIT, || health().is_some());
    let (status, reason) = health().expect("an answer");
    assert!(status == 503 && reason.contains("waits until its cluster is made"), "{status} {reason}");
    assert_eq!(cluster.node(0).get("/live"), Some((200, "alive\n".to_owned())));
}
