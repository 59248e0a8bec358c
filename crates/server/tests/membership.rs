//! Nodes that come, rest and go, by the commands, over real processes and under load.

mod common;

use std::fs;
use std::sync::atomic::AtomicBool;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Cluster, Ending, Layout, duolog, never_within, produce_until, wait_for};
use duolog_replication::admin::{self, AdminReply, AdminRequest};

const LIMIT: Duration = Duration::from_secs(60);
const TOPIC: &str = "load";
const GROUPS: u32 = 3;
const LAYOUT: Layout = Layout { nodes: 3, broker_groups: GROUPS, tables: "" };

fn command(cluster: &Cluster, arguments: &[&str]) -> (bool, String) {
    command_at(cluster, 0, arguments)
}

fn command_at(cluster: &Cluster, node: u64, arguments: &[&str]) -> (bool, String) {
    let address = cluster.node(node).grpc_address();
    let output = duolog(&[&["cluster"], arguments, &["--node", &address]].concat());
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[track_caller]
fn succeeds(cluster: &Cluster, arguments: &[&str], sentence: &str) {
    let (done, said) = command(cluster, arguments);
    assert!(done && said.contains(sentence), "{arguments:?}: {said}");
}

#[track_caller]
fn is_refused(cluster: &Cluster, arguments: &[&str], sentence: &str) {
    let (done, said) = command(cluster, arguments);
    assert!(!done && said.contains(sentence), "{arguments:?}: {said}");
}

/// The broker groups that a node leads, as another one sees it.
fn led_by(cluster: &Cluster, node: u64) -> Option<usize> {
    let other = if node == 0 { 2 } else { 0 };
    let status = cluster.node(other).cluster_status()?;
    let groups = status["groups"].as_array()?;
    Some(groups.iter().filter(|group| group["leader"].as_u64() == Some(node)).count())
}

fn voters(cluster: &Cluster) -> Vec<u64> {
    let status = cluster.node(0).cluster_status().expect("a status");
    let of_group = |group: &serde_json::Value| {
        let replicas = group["replicas"].as_array().expect("replicas").iter();
        let voters = replicas.filter(|replica| replica["voter"] == true);
        voters.filter_map(|replica| replica["node_id"].as_u64()).collect::<Vec<_>>()
    };
    let groups: Vec<Vec<u64>> = status["groups"].as_array().expect("groups").iter().map(of_group).collect();
    assert!(groups.iter().all(|voters| *voters == groups[0]), "{groups:?}");
    groups[0].clone()
}

/// What `remove-node` does in one broker group.
fn leave(cluster: &Cluster, broker_group: u32, node: u64) {
    let request = AdminRequest::ChangeVoters { broker_group, add: None, remove: Some(node) };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    wait_for("the leader lets the node go", LIMIT, || {
        (0..4).any(|node| {
            let asked = runtime.block_on(admin::call(&cluster.node(node).grpc_address(), &request));
            matches!(asked, Ok(AdminReply::Done { .. }))
        })
    });
}

#[test]
fn nodes_come_and_go_under_load() {
    let mut cluster = Cluster::start(LAYOUT);
    cluster.node(0).client().create_topic(TOPIC, &[]);
    is_refused(&cluster, &["add-node", "--id", "3"], "no node knows node 3: start it first");
    is_refused(&cluster, &["remove-node", "--id", "9"], "node 9 is no member");
    is_refused(&cluster, &["remove-node", "--id", "1"], "2 voters: a quorum is 2");
    cluster.add(3, &[0, 1]);
    cluster.node_mut(3).start();
    let (stop, shared) = (AtomicBool::new(false), &cluster);
    let acknowledged = std::thread::scope(|scope| {
        let load = scope.spawn(|| produce_until(shared, TOPIC, &stop));
        let ending = Ending(&stop);
        wait_for("node 3 announces itself", LIMIT, || {
            let (done, said) = command(shared, &["add-node", "--id", "3"]);
            assert!(done || said.contains("no node knows node 3"), "{said}");
            done
        });
        assert_eq!(voters(shared), [0, 1, 2, 3]);
        succeeds(shared, &["add-node", "--id", "3"], "a voter of every broker group already");
        // Interrupted between two broker groups, it goes on where it stopped; also when it asks the node that has left one.
        leave(shared, 1, 1);
        let (done, said) = command_at(shared, 1, &["remove-node", "--id", "1"]);
        assert!(done && said.contains("done: node 1 is no member any more. 3 voters"), "{said}");
        assert_eq!(voters(shared), [0, 2, 3]);
        drop(ending);
        load.join().expect("the load ends")
    });
    assert!(acknowledged.len() > 10, "there was hardly any load: {} records", acknowledged.len());
    // A client that knows only one node finds the new one, and everything.
    wait_for("the new node leads what it should", LIMIT, || led_by(&cluster, 3).is_some_and(|groups| groups > 0));
    let leader = cluster.node(0).client().leader(TOPIC).expect("a leader");
    let stored = cluster.node(leader).client().fetch_all(TOPIC);
    let lost: Vec<&String> = acknowledged.iter().filter(|value| !stored.contains(value)).collect();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    // HTTP of a node that the old ones have no config for.
    let (_, report) = cluster.node(0).get("/durability").expect("a report");
    assert!(report.contains(&format!("127.0.0.1:{}", cluster.node(3).ports.http)), "{report}");

    // The removed one has ended by itself, and never returns: neither with its data nor without.
    let says = "node 1 was removed from the cluster";
    assert!(!cluster.node_mut(1).wait_for_end().success());
    assert!(cluster.node(1).output().contains(says), "{}", cluster.node(1).output());
    for emptied in [false, true] {
        if emptied {
            fs::remove_dir_all(cluster.node(1).data()).expect("the directory of a node that is down");
        }
        let before = cluster.node(1).output().len();
        cluster.node_mut(1).start();
        assert!(!cluster.node_mut(1).wait_for_end().success());
        let said = cluster.node(1).output()[before..].to_owned();
        assert!(said.contains(says) && said.contains("duolog cluster add-node --id NEW_ID"), "{said}");
    }
}

#[test]
fn a_drained_node_leads_nothing_and_clients_do_not_notice() {
    let mut cluster = Cluster::start(LAYOUT);
    cluster.node(0).client().create_topic(TOPIC, &[]);
    wait_for("leaders in their places", LIMIT, || led_by(&cluster, 1) == Some(1));
    is_refused(&cluster, &["drain", "--id", "7"], "node 7 is no member");
    succeeds(&cluster, &["drain", "--id", "1"], "node 1 is drained: it leads nothing");
    let drained = |cluster: &Cluster| led_by(cluster, 1).is_some_and(|groups| groups > 0);
    never_within("leadership comes back to a drained node", Duration::from_secs(7), || drained(&cluster));
    let (_, status) = command(&cluster, &["status"]);
    assert!(status.contains("follower, drained"), "{status}");
    assert!(cluster.node_mut(1).terminate().success());
    cluster.node_mut(1).start();
    cluster.wait_ready();
    let end = Instant::now() + Duration::from_secs(7);
    while Instant::now() < end {
        assert!(!drained(&cluster), "a restart made it lead");
        sleep(Duration::from_millis(100));
    }
    succeeds(&cluster, &["drain", "--id", "1", "--undo"], "node 1 leads again what it should");
    wait_for("leaders in their places", LIMIT, || led_by(&cluster, 1) == Some(1));
}
