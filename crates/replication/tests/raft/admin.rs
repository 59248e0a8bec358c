//! Must 14, and what an emptied node is replaced with.

use std::collections::{BTreeMap, BTreeSet};

use duolog_replication::admin::{AdminReply, AdminRequest, call};
use duolog_replication::{Mark, Member, quorum_received_next};
use duolog_types::{FlushWish, LogIndex};

use crate::common::disk::Door;
use crate::common::nodes::{ask, body};
use crate::common::{GROUP, Nodes, Settings};

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

/// Waits until a node is known, and gives what it announced.
fn announced(nodes: &Nodes, id: u64) -> Member {
    nodes.until("the node announces itself", || match ask(nodes, 1, &AdminRequest::Announced { node: id }) {
        AdminReply::Announced { member } => member,
        other => panic!("{other:?}"),
    })
}

fn add_learner(nodes: &Nodes, leader: u64, node: u64) -> AdminReply {
    let member = announced(nodes, node);
    ask(nodes, leader, &AdminRequest::AddLearner { broker_group: 0, node, member })
}

fn change(nodes: &Nodes, leader: u64, add: Option<u64>, remove: Option<u64>) -> AdminReply {
    ask(nodes, leader, &AdminRequest::ChangeVoters { broker_group: 0, add, remove })
}

fn said(reply: &AdminReply) -> &str {
    match reply {
        AdminReply::Done { lines } => &lines[0],
        AdminReply::Failed { reason } => reason,
        other => panic!("{other:?}"),
    }
}

fn voters(nodes: &Nodes, id: u64) -> BTreeSet<u64> {
    nodes.group(id).members().iter().filter(|view| view.voter).map(|view| view.node_id.0).collect()
}

#[test]
fn an_emptied_node_is_replaced_by_a_new_one() {
    let mut nodes = Nodes::start();
    nodes.make_leader(1);
    nodes.write("before");
    nodes.until_everywhere("before");
    nodes.kill(3);
    nodes.start_node(4);
    assert_eq!(
        ask(&nodes, 2, &AdminRequest::ChangeVoters { broker_group: 0, add: Some(4), remove: Some(3) }),
        AdminReply::NotLeader { leader: Some(1) }
    );
    assert!(said(&change(&nodes, 1, Some(4), Some(3))).contains("must be a learner first"));
    assert!(said(&add_learner(&nodes, 1, 4)).contains("copies what it lacks"));
    assert!(said(&add_learner(&nodes, 1, 4)).contains("is a member already"));
    assert_eq!(voters(&nodes, 1), BTreeSet::from([1, 2, 3]), "it does not vote yet");
    nodes.until_everywhere("before");
    assert!(said(&change(&nodes, 1, Some(4), Some(3))).contains("its voters are 1, 2, 4"));
    nodes.write("after");
    nodes.until_everywhere("after");
    assert_eq!(nodes.recorder(4).texts(GROUP), ["before", "after"]);
    assert_eq!(voters(&nodes, 1), BTreeSet::from([1, 2, 4]));
    // Asked again, there is nothing left to do; the new one votes: with it alone there is a majority.
    assert!(said(&change(&nodes, 1, Some(4), Some(3))).contains("already"));
    nodes.kill(2);
    nodes.write("by 1 and 4");
    nodes.until_everywhere("by 1 and 4");
    // The old one comes back and is nobody any more.
    nodes.start_node(3);
    nodes.write("the end");
    assert!(!nodes.recorder(3).texts(GROUP).contains(&"the end".to_owned()));
}

#[test]
fn a_node_is_let_in_only_with_the_data_directory_that_it_has_now() {
    let mut nodes = Nodes::start();
    nodes.make_leader(1);
    nodes.write("before");
    nodes.start_node(4);
    let before = announced(&nodes, 4);
    // What it had announced is remembered, but it is another one now, and may be none.
    nodes.stop(4);
    nodes.empty(4);
    let add = AdminRequest::AddLearner { broker_group: 0, node: 4, member: before.clone() };
    let reply = ask(&nodes, 1, &add);
    assert!(matches!(&reply, AdminReply::Failed { reason } if reason.contains("node 4 does not answer")), "{reply:?}");
    nodes.start_node(4);
    let reply = nodes.until("it answers", || {
        let reply = ask(&nodes, 1, &add);
        (!said(&reply).contains("does not answer")).then_some(reply)
    });
    assert!(matches!(&reply, AdminReply::Failed { reason } if reason.contains("another data directory")), "{reply:?}");
    assert_eq!(nodes.group(1).members().len(), 3, "nothing was changed");
    nodes.until_true("its new directory is known", || announced(&nodes, 4) != before);
    assert!(said(&add_learner(&nodes, 1, 4)).contains("copies what it lacks"));
    nodes.until_everywhere("before");
}

#[test]
fn a_change_is_made_already_only_when_it_is_committed() {
    let mut nodes = Nodes::start();
    nodes.make_leader(1);
    nodes.write("before");
    nodes.start_node(4);
    let member = announced(&nodes, 4);
    // The leader knows the change, and no other voter does.
    for voter in [2, 3] {
        nodes.links.cut(1, voter);
        nodes.links.cut(voter, 1);
    }
    let (address, first) = (nodes.address(1), AdminRequest::AddLearner { broker_group: 0, node: 4, member });
    let second = first.clone();
    let waiting = nodes.runtime.spawn(async move { call(&address, &first).await });
    nodes.until_true("the change is in the log", || nodes.group(1).members().len() == 4);
    let reply = ask(&nodes, 1, &second);
    assert!(!matches!(reply, AdminReply::Done { .. }), "{reply:?}");
    waiting.abort();
}

#[test]
fn voters_are_not_changed_to_some_that_could_not_elect_a_leader() {
    let mut nodes = Nodes::start();
    nodes.make_leader(1);
    nodes.write("before");
    nodes.until_everywhere("before");
    nodes.kill(3);
    let reply = change(&nodes, 1, None, Some(2));
    assert!(said(&reply).contains("with the voters 1, 3 a quorum is 2, but only 1 answer"), "{reply:?}");
    assert_eq!(voters(&nodes, 1), BTreeSet::from([1, 2, 3]));
    nodes.write("still there");
}

#[test]
fn a_node_that_was_removed_finds_out_and_never_returns() {
    let mut nodes = Nodes::start();
    nodes.make_leader(1);
    nodes.write("before");
    nodes.until_everywhere("before");
    nodes.start_node(4);
    add_learner(&nodes, 1, 4);
    nodes.until_everywhere("before");
    assert!(said(&change(&nodes, 1, Some(4), None)).contains("its voters are 1, 2, 3, 4"));
    assert!(matches!(ask(&nodes, 2, &AdminRequest::Retire { node: 1 }), AdminReply::Done { .. }));
    // A leader does not take itself out: it hands over, and the next one does it.
    let AdminReply::NotLeader { leader: Some(next) } = change(&nodes, 1, None, Some(1)) else { panic!("it leads on") };
    nodes.until_true("the next one leads", || nodes.group(next).leadership().borrow().is_self);
    let removed = nodes.until("it takes the old one out", || match change(&nodes, next, None, Some(1)) {
        AdminReply::NotLeader { .. } => None,
        reply => Some(reply),
    });
    assert!(said(&removed).contains("its voters are 2, 3, 4"), "{removed:?}");
    let fatal = nodes.node(1).fatal();
    let reason = nodes.until("it is told to stop", || fatal.borrow().clone());
    assert!(reason.contains("node 1 was removed from the cluster") && reason.contains("add-node"), "{reason}");
    // Started again, with its data or without, it is told the same.
    nodes.kill(1);
    nodes.start_node(1);
    let fatal = nodes.node(1).fatal();
    nodes.until("it is told to stop again", || fatal.borrow().clone());
    nodes.kill(1);
    nodes.empty(1);
    nodes.start_node(1);
    let fatal = nodes.node(1).fatal();
    let reason = nodes.until("it is told to stop without data", || fatal.borrow().clone());
    assert!(reason.contains("node 1 was removed from the cluster"), "{reason}");
    let member = Member { host: "127.0.0.1".to_owned(), incarnation: "x".to_owned(), ..Member::default() };
    let again = AdminRequest::AddLearner { broker_group: 0, node: 1, member };
    let leader = nodes.others(1).into_iter().find(|id| nodes.group(*id).leadership().borrow().is_self).unwrap();
    assert!(said(&ask(&nodes, leader, &again)).contains("never used again"));
}

#[test]
fn a_drained_node_leads_nothing_until_it_may_again() {
    let mut nodes = Nodes::start_with(Settings { broker_groups: 3, ..Settings::default() });
    nodes.until_led_by(&[1, 2, 3]);
    let drained = ask(&nodes, 2, &AdminRequest::Drain { on: true });
    assert!(said(&drained).contains("node 2 is drained: it leads nothing"), "{drained:?}");
    let leads = |nodes: &Nodes| nodes.node(2).groups().any(|group| group.leadership().borrow().is_self);
    assert!(!leads(&nodes));
    // A restart keeps it drained, and what it gets by an election goes on.
    nodes.kill(2);
    nodes.start_node(2);
    nodes.kill(1);
    nodes.kill(3);
    nodes.start_node(1);
    nodes.start_node(3);
    nodes.until_led_by(&[1, 3, 3]);
    assert!(matches!(ask(&nodes, 2, &AdminRequest::Drain { on: false }), AdminReply::Done { .. }));
    nodes.until_led_by(&[1, 2, 3]);
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
