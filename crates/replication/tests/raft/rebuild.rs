//! A state that is damaged, and a log that is whole: what was acknowledged stays, and the state comes from another node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use duolog_replication::ScrubOptions;
use duolog_replication::admin::{AdminReply, AdminRequest};
use duolog_types::{FlushWish, LogIndex};

use crate::common::damage as disk_damage;
use crate::common::nodes::{PATIENCE, ask, body};
use crate::common::{GROUP, Nodes, Settings};

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

/// The peer has not applied anything at the index of the tail when logs are compared, and goes on before its state is copied.
#[test]
fn entries_that_never_counted_are_cut_off_although_the_peer_went_on_meanwhile() {
    let mut nodes = Nodes::start();
    nodes.make_leader(3);
    nodes.write("before");
    nodes.until_everywhere("before");
    // Without the third, neither can be elected.
    nodes.links.cut(1, 2);
    nodes.links.cut(2, 1);
    nodes.links.isolate(3);
    let (lost, _) = nodes.append(3, body("lost", 0), FlushWish::Now);
    nodes.kill(3);
    damage(&nodes, 3);
    nodes.links.rejoin(3);
    let (links, handle) = (nodes.links.clone(), nodes.runtime.handle().clone());
    let peers = [nodes.group(1), nodes.group(2)];
    nodes.hooks.before_copy = Some(Arc::new(move || {
        links.mend(1, 2);
        links.mend(2, 1);
        let (peers, handle) = (peers.clone(), handle.clone());
        // Not on the runtime that calls this.
        let go_on = std::thread::spawn(move || {
            let deadline = Instant::now() + PATIENCE;
            while peers[0].applied().borrow().is_none_or(|mark| mark.index <= lost.0) {
                assert!(Instant::now() < deadline, "nothing was applied instead");
                for peer in &peers {
                    // Refused by the one that does not lead, and by the leader until it has heard from the other.
                    let _ = handle.block_on(peer.propose_command(body("instead", 0), FlushWish::Now));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        go_on.join().unwrap();
    }));
    nodes.start_node(3);
    nodes.write("after");
    nodes.until_everywhere("after");
    for id in nodes.running() {
        assert_eq!(nodes.recorder(id).texts(GROUP), nodes.recorder(1).texts(GROUP), "node {id}");
        assert!(!nodes.recorder(id).texts(GROUP).contains(&"lost".to_owned()), "node {id}");
        for seen in nodes.recorder(id).seen(GROUP) {
            let entry = nodes.group(id).log().read_any(LogIndex(seen.index)).unwrap();
            assert_eq!(entry.map(|entry| entry.term.0), Some(seen.term), "node {id}: {seen:?}");
        }
    }
}

#[test]
fn what_is_damaged_at_the_peer_is_repaired_before_it_is_copied() {
    let mut settings = Settings { scrub: ScrubOptions { bytes_per_second: 0, interval_ms: 0 }, ..Settings::default() };
    settings.log.segment_size_bytes = 64 << 10;
    settings.log.allocation_step_bytes = 64 << 10;
    settings.log.tail_cache_bytes = 32 << 10;
    let mut nodes = Nodes::start_with(settings);
    nodes.make_leader(1);
    nodes.write("before");
    nodes.until_everywhere("before");
    nodes.kill(3);
    let texts: Vec<String> = std::iter::once("before".to_owned()).chain(records(80)).collect();
    for text in &texts[1..] {
        let answer = nodes.propose(1, body(text, 4 << 10), FlushWish::Now);
        nodes.answer(answer).unwrap();
    }
    nodes.until_everywhere("record 79");
    // The first that is asked.
    let path = disk_damage::sealed_segment(&nodes, 1);
    let whole = disk_damage::damage(&nodes, 1, &path);
    damage(&nodes, 3);
    nodes.start_node(3);
    assert!(nodes.recorder(3).opened_with(GROUP) > 0, "nothing was copied");
    assert!(nodes.disk(1).file(&path) == whole);
    nodes.until_everywhere("record 79");
    assert_whole(&nodes, &texts.iter().map(String::as_str).collect::<Vec<_>>());
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
