//! A state that is damaged, and a log that is whole: what was acknowledged stays, and the state comes from another node.

use duolog_replication::admin::{AdminReply, AdminRequest};
use duolog_types::{FlushWish, LogIndex};

use crate::common::nodes::{ask, body};
use crate::common::{GROUP, Nodes};

/// Spoils the state of a node that does not run.
fn damage(nodes: &Nodes, id: u64) {
    let state = nodes.data_dir(id).join("groups").join(GROUP.to_string()).join("state");
    let current = std::fs::read_to_string(state.join("CURRENT")).unwrap();
    let dir = state.join(current.trim());
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("state.json"), "no JSON").unwrap();
}

/// All replicas have applied the same, and have every entry of it.
fn assert_whole(nodes: &Nodes, texts: &[&str]) {
    for id in nodes.running() {
        assert_eq!(nodes.recorder(id).texts(GROUP), texts, "node {id}");
        let applied = nodes.group(id).applied().borrow().expect("applied").index;
        for index in (0..=applied).map(LogIndex) {
            let entry = nodes.group(id).log().read_any(index).unwrap();
            assert_eq!(entry.map(|entry| entry.index), Some(index), "node {id}");
        }
    }
}

/// Three nodes that have applied these records.
fn nodes_with<T: AsRef<str>>(texts: &[T]) -> Nodes {
    let nodes = Nodes::start();
    for text in texts {
        nodes.write(text.as_ref());
        nodes.until_everywhere(text.as_ref());
    }
    nodes
}

fn records(number: u32) -> Vec<String> {
    (0..number).map(|number| format!("record {number}")).collect()
}

fn kill_all(nodes: &mut Nodes) {
    nodes.running().into_iter().for_each(|id| nodes.kill(id));
}

#[test]
fn a_damaged_state_is_copied_with_what_happened_meanwhile() {
    let mut nodes = nodes_with(&["before"]);
    let old = nodes.others(nodes.leader())[0];
    nodes.kill(old);
    nodes.write("meanwhile");
    damage(&nodes, old);
    nodes.start_node(old);
    assert!(nodes.recorder(old).opened_with(GROUP) > 0, "nothing was copied");
    nodes.write("after");
    nodes.until_everywhere("after");
    assert_whole(&nodes, &["before", "meanwhile", "after"]);
    // It is a member as before: its vote counts.
    let other = nodes.others(old)[0];
    nodes.kill(other);
    nodes.write("with its vote");
    nodes.start_node(other);
    nodes.until_everywhere("with its vote");
    // And what was copied lasts.
    nodes.kill(old);
    nodes.start_node(old);
    nodes.until_everywhere("with its vote");
    assert_whole(&nodes, &["before", "meanwhile", "after", "with its vote"]);
}

#[test]
fn entries_that_never_counted_are_cut_off_first() {
    let mut nodes = nodes_with(&["before"]);
    let old = nodes.leader();
    nodes.links.isolate(old);
    for number in 0..20 {
        nodes.append(old, body(&format!("lost {number}"), 0), FlushWish::Now);
    }
    nodes.until("another leader", || {
        nodes.others(old).into_iter().find(|id| nodes.group(*id).leadership().borrow().is_self)
    });
    nodes.kill(old);
    nodes.write("instead");
    damage(&nodes, old);
    nodes.links.rejoin(old);
    nodes.start_node(old);
    nodes.until_everywhere("instead");
    assert_whole(&nodes, &["before", "instead"]);
}

/// As after a `kill -9` of all: nobody has applied more than this node has in its log.
#[test]
fn a_log_that_is_longer_than_what_others_applied_stays() {
    let texts = records(50);
    let mut nodes = nodes_with(&texts);
    kill_all(&mut nodes);
    damage(&nodes, 2);
    // Alone it cannot go on, and the others have only what they keep of the state.
    for id in [1, 3] {
        nodes.start_node(id);
    }
    nodes.start_node(2);
    nodes.until_everywhere("record 49");
    assert_whole(&nodes, &texts.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Without the vote of this node nobody could say what is committed, so nobody would have a state to copy.
#[test]
fn with_nobody_to_copy_from_the_log_is_enough() {
    let mut nodes = nodes_with(&["before"]);
    kill_all(&mut nodes);
    damage(&nodes, 2);
    for id in [1, 2] {
        nodes.start_node(id);
    }
    nodes.until_everywhere("before");
    nodes.write("after");
    nodes.until_everywhere("after");
    assert_whole(&nodes, &["before", "after"]);
}

/// Nobody helps it, and its log has no beginning: it must not wait for ever.
#[test]
fn a_node_that_was_removed_meanwhile_ends() {
    let mut nodes = nodes_with(&records(10));
    nodes.make_leader(1);
    let group = nodes.group(3);
    nodes.until_true("purged", || {
        nodes.runtime.block_on(group.release_log_below(LogIndex(8))).unwrap();
        group.log().purged().is_some()
    });
    drop(group);
    nodes.kill(3);
    assert!(matches!(ask(&nodes, 2, &AdminRequest::Retire { node: 3 }), AdminReply::Done { .. }));
    let reply = ask(&nodes, 1, &AdminRequest::ChangeVoters { broker_group: 0, add: None, remove: Some(3) });
    assert!(matches!(reply, AdminReply::Done { .. }), "{reply:?}");
    damage(&nodes, 3);
    let refused = format!("{:?}", nodes.try_start(3).unwrap_err());
    assert!(refused.contains("node 3 was removed from the cluster") && refused.contains("add-node"), "{refused}");
}
