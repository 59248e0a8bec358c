//! Must 14, and what an emptied node is replaced with.

use std::collections::{BTreeMap, BTreeSet};

use duolog_replication::admin::{AdminReply, AdminRequest, call};
use duolog_replication::{Mark, quorum_received_next};
use duolog_types::{FlushWish, LogIndex};

use crate::common::disk::Door;
use crate::common::nodes::body;
use crate::common::{GROUP, Nodes};

fn ask(nodes: &Nodes, id: u64, request: &AdminRequest) -> AdminReply {
    nodes.runtime.block_on(call(&nodes.address(id), request)).unwrap()
}

#[test]
fn raft_must_14_an_emptied_node_is_refused_under_its_old_identity() {
    let mut nodes = Nodes::start();
    nodes.make_leader(1);
    nodes.write("before");
    nodes.until_everywhere("before");
    // It has acknowledged what it is about to forget.
    nodes.stop(3);
    nodes.empty(3);
    nodes.start_node(3);
    let fatal = nodes.node(3).fatal();
    let reason = nodes.until("it is told to stop", || fatal.borrow().clone());
    assert!(
        reason.contains("must not return under its old identity") && reason.contains("duolog cluster replace"),
        "{reason}"
    );
    // Nor does the leader feed it: later writes go on without it.
    for number in 0..20 {
        nodes.node(1);
        let (index, answer) = nodes.append(1, body(&format!("without it {number}"), 0), FlushWish::Now);
        assert_eq!(nodes.answer(answer).unwrap().0, index);
    }
    let log = nodes.group(3).log().clone();
    assert_eq!((log.last(), log.vote()), (None, None), "nothing was taken from it and nothing given to it");
}

#[test]
fn an_emptied_node_is_replaced_by_a_new_one() {
    let mut nodes = Nodes::start();
    nodes.make_leader(1);
    nodes.write("before");
    nodes.until_everywhere("before");
    nodes.kill(3);
    nodes.start_node(4);
    let member =
        nodes.until("node 4 announces itself", || match ask(&nodes, 1, &AdminRequest::Announced { node: 4 }) {
            AdminReply::Announced { member } => member,
            other => panic!("{other:?}"),
        });
    let replace = AdminRequest::ReplaceHere { old: 3, new: 4, member: member.clone() };
    let done = ask(&nodes, 1, &replace);
    assert!(
        matches!(&done, AdminReply::Done { lines } if lines.len() == 1 && lines[0].contains("took the place of 3")),
        "{done:?}"
    );
    nodes.write("after");
    nodes.until_everywhere("after");
    assert_eq!(nodes.recorder(4).texts(GROUP), ["before", "after"]);
    let voters: BTreeSet<u64> =
        nodes.group(1).members().iter().filter(|view| view.voter).map(|view| view.node_id.0).collect();
    assert_eq!(voters, BTreeSet::from([1, 2, 4]));
    // Asked again, there is nothing left to do; the new one votes: with it alone there is a majority.
    assert!(matches!(ask(&nodes, 1, &replace), AdminReply::Done { lines } if lines[0].contains("already")));
    nodes.kill(2);
    nodes.write("by 1 and 4");
    nodes.until_everywhere("by 1 and 4");
    // The old one comes back and is nobody any more.
    nodes.start_node(3);
    nodes.write("the end");
    assert!(!nodes.recorder(3).texts(GROUP).contains(&"the end".to_owned()));
}

#[test]
fn raft_must_14_a_mark_of_another_term_never_counts() {
    let voters = [BTreeSet::from([1, 2, 3])];
    let marks =
        |follower_term| BTreeMap::from([(1, Mark { term: 7, index: 9 }), (2, Mark { term: follower_term, index: 9 })]);
    assert_eq!(quorum_received_next(&voters, &marks(7), 7), 10);
    assert_eq!(quorum_received_next(&voters, &marks(6), 7), 0);
    assert_eq!(quorum_received_next(&voters, &marks(8), 7), 0);
}

#[test]
fn raft_must_14_received_starts_anew_with_each_term() {
    let nodes = Nodes::start();
    nodes.make_leader(1);
    nodes.write("before");
    nodes.until_everywhere("before");
    // A long tail that only the leader has.
    nodes.links.isolate(1);
    let mut last = LogIndex(0);
    for number in 0..50 {
        (last, _) = nodes.append(1, body(&format!("lost {number}"), 0), FlushWish::Now);
    }
    let new =
        nodes.until("another leader", || [2, 3].into_iter().find(|id| nodes.group(*id).leadership().borrow().is_self));
    let third = 5 - new;
    // Of the three only the new leader writes: the old one's tail, of another term, and the third one's log count nothing.
    nodes.until_true("its first entry is committed", || {
        let watermarks = *nodes.group(new).watermarks().borrow();
        watermarks.committed_next == watermarks.appended_next && watermarks.committed_next > 0
    });
    nodes.gate(third).hold(Door::Write);
    nodes.links.rejoin(1);
    nodes.until_true("the old leader follows", || {
        nodes.group(1).leadership().borrow().leader.is_some_and(|id| id.0 == new)
    });
    let (index, answer) = nodes.append(new, body("after", 0), FlushWish::Now);
    nodes.answer(answer).unwrap();
    nodes.until_received(new, LogIndex(index.0 + 1));
    let watermarks = *nodes.group(new).watermarks().borrow();
    assert!(index < last, "the test is about a longer tail of an older term");
    assert_eq!(watermarks.received_next, index.0 + 1, "never more than the leader itself has: {watermarks:?}");
    nodes.gate(third).release(Door::Write);
    nodes.until_everywhere("after");
    for id in nodes.running() {
        assert_eq!(nodes.recorder(id).texts(GROUP), ["before", "after"], "node {id}");
    }
}
