//! Musts 8 and 9: what is applied, and when.

use std::time::{Duration, Instant};

use duolog_types::{FlushWish, LogIndex};

use crate::common::disk::Door;
use crate::common::nodes::{PATIENCE, body};
use crate::common::{GROUP, Nodes};

#[test]
fn raft_must_09_apply_waits_for_the_local_flush() {
    let nodes = Nodes::start();
    let leader = nodes.leader();
    nodes.write("before");
    nodes.until_everywhere("before");
    nodes.gate(leader).hold(Door::Flush);
    let group = nodes.group(leader);
    let applied = group.applied();
    let mut answers = Vec::new();
    let mut last = LogIndex(0);
    for number in 0..20 {
        let (index, answer) = nodes.append(leader, body(&format!("record {number}"), 0), FlushWish::Now);
        let watermarks = group.watermarks();
        nodes.until_true("committed by the followers", || watermarks.borrow().committed_next > index.0);
        for follower in nodes.others(leader) {
            let follower = nodes.group(follower).applied();
            nodes.until_true("applied by a follower", || follower.borrow().is_some_and(|mark| mark.index >= index.0));
        }
        answers.push(answer);
        last = index;
    }
    let flushed = group.log().flushed().map(|(_, index)| index.0);
    assert!(flushed < Some(last.0), "the leader's flush is held");
    assert_eq!(nodes.recorder(leader).texts(GROUP), ["before"], "nothing is applied that is not flushed here");
    assert!(applied.borrow().map(|mark| mark.index) <= flushed);
    nodes.gate(leader).release(Door::Flush);
    for answer in answers {
        nodes.answer(answer).unwrap();
    }
    assert!(applied.borrow().is_some_and(|mark| mark.index >= last.0));
}

/// What was flushed at the same indexes before does not count.
#[test]
fn raft_must_09_apply_waits_for_the_flush_of_what_replaces_a_tail() {
    let nodes = Nodes::start();
    let old = nodes.leader();
    let group = nodes.group(old);
    nodes.write("before");
    nodes.until_everywhere("before");
    nodes.links.isolate(old);
    for number in 0..20 {
        nodes.append(old, body(&format!("lost {number}"), 0), FlushWish::Now);
    }
    nodes.until_true("the tail is flushed", || group.log().flushed() == group.log().last());
    let new = nodes.until("another leader", || {
        nodes.others(old).into_iter().find(|id| nodes.group(*id).leadership().borrow().is_self)
    });
    let write = nodes.node(new).propose(GROUP, body("instead", 0), FlushWish::Now, Instant::now() + PATIENCE);
    nodes.runtime.block_on(write).unwrap();
    nodes.disk(old).set_flush_delay(Duration::from_millis(300));
    nodes.links.rejoin(old);
    nodes.until_true("applied", || {
        let applied = group.applied().borrow().map(|mark| mark.index);
        // Looked at later: it never goes back below what is applied.
        let flushed = group.log().flushed().map(|(_, index)| index.0);
        assert!(applied <= flushed, "applied {applied:?}, flushed {flushed:?}");
        nodes.recorder(old).texts(GROUP).iter().any(|text| text == "instead")
    });
    assert_eq!(nodes.recorder(old).texts(GROUP), ["before", "instead"]);
}

#[test]
fn raft_must_08_a_state_behind_its_log_catches_up_before_it_serves() {
    let mut nodes = Nodes::start();
    let texts: Vec<String> = (0..30).map(|number| format!("record {number}")).collect();
    texts.iter().for_each(|text| {
        nodes.write(text);
    });
    nodes.until_everywhere("record 29");
    for id in nodes.running() {
        nodes.kill(id);
    }
    for id in [1, 2, 3] {
        nodes.start_node(id);
        assert_eq!(nodes.recorder(id).opened_with(GROUP), 0, "the state was not made durable");
        let caught_up = nodes.group(id).has_caught_up();
        assert!(!caught_up || !nodes.recorder(id).texts(GROUP).is_empty(), "node {id} says it has caught up");
    }
    // Whoever says that it has caught up has everything that was acknowledged.
    for id in nodes.running() {
        nodes.until_true("caught up", || nodes.group(id).has_caught_up());
        assert_eq!(nodes.recorder(id).texts(GROUP), texts, "node {id}");
    }
    nodes.write("after");
    nodes.until_everywhere("after");
    for id in nodes.running() {
        assert_eq!(nodes.recorder(id).texts(GROUP)[..30], texts, "node {id}");
    }
}

/// As retention asks for it.
#[test]
fn entries_are_applied_while_the_state_is_made_durable() {
    let nodes = Nodes::start();
    let leader = nodes.leader();
    nodes.write("before");
    nodes.until_everywhere("before");
    let (group, gate) = (nodes.group(leader), nodes.recorder(leader).gate());
    gate.hold(Door::Flush);
    let releasing = nodes.runtime.spawn(async move { group.release_log_below(LogIndex(2)).await });
    gate.wait_until_somebody_waits();
    for number in 0..10 {
        nodes.write(&format!("meanwhile {number}"));
    }
    nodes.until_everywhere("meanwhile 9");
    gate.release(Door::Flush);
    nodes.runtime.block_on(releasing).unwrap().unwrap();
}
