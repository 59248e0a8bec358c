//! The power-loss guard over three real processes, topic `sync/async`: what was acknowledged at *received* survives the
//! loss of power of one of the two nodes that had it. `DESIGN.md`, section 4.
//!
//! ```text
//!   A leads: 1..20 ─┬─ everywhere flushed ── copy of A's groups
//!   C down          │
//!   21..40 ─────────┴─ acknowledged: A and B have received them, A has not flushed them
//!   A loses power: the copy is put back, another boot id;  B is killed
//!   C, then C and A: nobody leads     (A voted for C: 21..40 would be lost)
//!   B returns: a leader, and 1..40
//! ```

mod common;

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Cluster, Layout, never_within, wait_for};

const TOPIC: &str = "sync-async";
/// The leader: the first choice of the system group, which holds everything here.
const A: u64 = 0;
/// The follower that received everything.
const B: u64 = 1;
/// The follower that was down.
const C: u64 = 2;

const RECORDS: usize = 20;
/// A flushes an entry of the topic a quarter of the shortest election time-out after its append, and each flush takes its delay.
const UNFLUSHED_MIN: Duration = Duration::from_millis(500 + 300);
/// Three of the longest election time-outs.
const NOBODY_LEADS: Duration = Duration::from_millis(3 * 2_500);
const LEADER_LIMIT: Duration = Duration::from_secs(30);

const TIMES: &str = "[log]\nsegment_size_bytes = 1048576\n\
                     [raft]\nheartbeat_interval_ms = 100\nelection_timeout_min_ms = 2000\nelection_timeout_max_ms = 2500\n";

#[test]
fn a_node_that_lost_power_elects_nobody_without_what_it_had_received() {
    let mut cluster = start();
    let copy = tempfile::tempdir().expect("a directory for the copy");
    let mut expected = produce(&cluster, 0);
    wait_until_flushed_everywhere(&cluster);
    let (term, groups) = (term(&cluster, A), cluster.node(A).data().join("groups"));
    copy_dir(&groups, copy.path()).expect("A is idle");

    cluster.node_mut(C).kill();
    let begin = Instant::now();
    expected.extend(produce(&cluster, RECORDS));
    cluster.node_mut(A).kill();
    assert!(begin.elapsed() < UNFLUSHED_MIN, "too slow: A may have flushed, after {:?}", begin.elapsed());
    cluster.node_mut(B).kill();

    fs::remove_dir_all(&groups).expect("A's files");
    copy_dir(copy.path(), &groups).expect("the copy is whole");
    cluster.node(A).set_boot("second boot");

    cluster.node_mut(C).start();
    never_within("C leads alone", NOBODY_LEADS, || leads_after(term, &cluster, &[C]));
    cluster.node_mut(A).start();
    wait_for("A is guarded", LEADER_LIMIT, || is_guarded(&cluster, A));
    never_within("A and C have a leader without B", NOBODY_LEADS, || leads_after(term, &cluster, &[A, C]));
    assert!([A, C].iter().all(|id| refuses_to_produce(&cluster, *id)));
    assert!(is_guarded(&cluster, A), "nothing has freed A");

    cluster.node_mut(B).start();
    cluster.wait_ready();
    wait_for("A has caught up and is free", LEADER_LIMIT, || !is_guarded(&cluster, A));
    assert!(self::term(&cluster, A) > term);
    assert_eq!(read(&cluster), expected, "every acknowledged record is there");
}

#[test]
fn a_killed_node_on_the_same_boot_votes_at_once() {
    let mut cluster = start();
    let mut expected = produce(&cluster, 0);
    cluster.node_mut(C).kill();
    expected.extend(produce(&cluster, RECORDS));
    cluster.node_mut(A).kill();
    cluster.node_mut(B).kill();

    cluster.node_mut(C).start();
    cluster.node_mut(A).start();
    cluster.wait_ready();
    assert!(!is_guarded(&cluster, A));
    assert_eq!(leader(&cluster, C), Some(A), "only A has every record");
    assert_eq!(read(&cluster), expected, "every acknowledged record is there");
}

/// Three nodes, led by A, whose disk is slow; with the topic.
fn start() -> Cluster {
    let mut cluster = Cluster::down(Layout { nodes: 3, broker_groups: 1, tables: TIMES });
    cluster.node(A).configure(&format!("{TIMES}[testing]\nflush_delay_ms = 300\n"));
    for id in [A, B, C] {
        cluster.node_mut(id).start();
    }
    cluster.wait_ready();
    let configs = [("duolog.replication", "sync"), ("duolog.flush", "async"), ("flush.ms", "60000")];
    let mut client = cluster.node(A).client();
    client.create_topic(TOPIC, &configs);
    wait_for("A leads", LEADER_LIMIT, || client.leader(TOPIC) == Some(A));
    cluster
}

/// Produces the next records at A, and gives them when all are acknowledged.
fn produce(cluster: &Cluster, first: usize) -> Vec<String> {
    let produced = cluster.node(A).client().produce_steadily(TOPIC, first..first + RECORDS, Duration::ZERO);
    for (i, produced) in produced.iter().enumerate() {
        assert_eq!((produced.error_code, produced.offset), (0, (first + i) as i64), "{produced:?}");
    }
    (first..first + RECORDS).map(|i| i.to_string()).collect()
}

fn read(cluster: &Cluster) -> Vec<String> {
    let leader = leader(cluster, C).expect("somebody leads");
    cluster.node(leader).client().fetch_all(TOPIC)
}

/// The broker group as a node sees it; null while the node does not answer.
fn group(cluster: &Cluster, asked: u64) -> serde_json::Value {
    cluster.node(asked).cluster_status().map_or(serde_json::Value::Null, |status| status["groups"][0].clone())
}

fn leader(cluster: &Cluster, asked: u64) -> Option<u64> {
    group(cluster, asked)["leader"].as_u64()
}

fn term(cluster: &Cluster, asked: u64) -> u64 {
    group(cluster, asked)["term"].as_u64().expect("a term")
}

fn replicas(cluster: &Cluster, asked: u64) -> Vec<serde_json::Value> {
    group(cluster, asked)["replicas"].as_array().cloned().unwrap_or_default()
}

fn is_guarded(cluster: &Cluster, asked: u64) -> bool {
    replicas(cluster, asked).iter().any(|replica| replica["node_id"] == asked && replica["guarded"] == true)
}

/// Whether one of the nodes is ready, or knows a leader of a later term than `term`. A restarted node still names the
/// leader of its last term, but nobody leads a term twice, so only a later one is an election's.
fn leads_after(term: u64, cluster: &Cluster, ids: &[u64]) -> bool {
    ids.iter().any(|id| {
        let group = group(cluster, *id);
        let is_elected = group["leader"].is_u64() && group["term"].as_u64().is_some_and(|now| now > term);
        is_elected || cluster.node(*id).is_healthy()
    })
}

/// A node that does not lead acknowledges nothing.
fn refuses_to_produce(cluster: &Cluster, id: u64) -> bool {
    let produced = cluster.node(id).client().produce(TOPIC, "refused");
    produced.is_ok_and(|produced| produced.error_code != 0)
}

fn wait_until_flushed_everywhere(cluster: &Cluster) {
    wait_for("every replica has flushed and applied everything", LEADER_LIMIT, || {
        let replicas = replicas(cluster, A);
        let Some(last) = replicas.first().map(|replica| &replica["last_index"]) else { return false };
        let next = last.as_u64().map(|last| last + 1);
        replicas.iter().all(|replica| {
            &replica["last_index"] == last
                && &replica["flushed_index"] == last
                && replica["applied_next"].as_u64() == next
        })
    });
}

fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
