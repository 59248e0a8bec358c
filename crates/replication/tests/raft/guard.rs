//! The power-loss guard over three nodes, and must 13: who has forgotten something does not vote.

use std::time::Duration;

use duolog_replication::admin::{AdminReply, AdminRequest, call};
use duolog_replication::testing::{Ballot, ask};
use duolog_types::{FlushWish, NodeId};

use crate::common::disk::Door;
use crate::common::nodes::body;
use crate::common::{GROUP, Nodes, Settings};

const LATER: FlushWish = FlushWish::WithinMs(1_000);
/// So many pages that no power loss keeps them all.
const BODY_BYTES: usize = 256 << 10;
const SEED: u64 = 7;

/// Leader, the follower that has an acknowledged record in its page cache only, and the one without it.
fn acknowledge_on_two_of_three(nodes: &Nodes) -> (u64, u64, u64) {
    let leader = nodes.leader();
    let (holder, without) = (nodes.others(leader)[0], nodes.others(leader)[1]);
    nodes.write("before");
    nodes.until_everywhere("before");
    nodes.links.cut(leader, without);
    nodes.gate(holder).hold(Door::Flush);
    let (index, _answer) = nodes.append(leader, body("acknowledged", BODY_BYTES), LATER);
    nodes.until_received(leader, duolog_types::LogIndex(index.0 + 1));
    (leader, holder, without)
}

/// Asks until the answer is Raft's own, or a refusal for another reason than the fresh start.
fn ask_after_the_lease(nodes: &Nodes, from: u64, to: u64, ballot: Ballot) -> Result<bool, String> {
    let term = nodes.term(from) + 1;
    nodes.until("an answer after the lease", || {
        let answer = nodes.runtime.block_on(ask(nodes.node(from), GROUP, NodeId(to), term, ballot));
        (!answer.as_ref().is_err_and(|reason| reason.contains("has just started"))).then_some(answer)
    })
}

#[test]
fn raft_must_13_every_way_into_an_election_is_guarded_until_nothing_can_be_lost() {
    let mut nodes = Nodes::start();
    let (leader, holder, without) = acknowledge_on_two_of_three(&nodes);
    let term = nodes.term(leader);
    nodes.lose_power(holder, SEED);
    nodes.kill(leader);
    nodes.links.mend(leader, without);
    nodes.start_node(holder);
    let elections = nodes.elections();
    let lost = nodes.group(holder).log().last() <= nodes.group(without).log().last();
    assert!(lost, "the test is about a lost record");
    assert_eq!(nodes.node(holder).guard().guarded(), [GROUP]);
    // The two that run are a majority, and neither has the record: nobody may lead.
    for ballot in [Ballot::PreVote, Ballot::Vote, Ballot::Transfer] {
        let refused = ask_after_the_lease(&nodes, without, holder, ballot).unwrap_err();
        assert!(refused.contains("guarded"), "{ballot:?}: {refused}");
    }
    let refused = nodes.links.refused(without, holder);
    assert_eq!(*refused.borrow(), 0, "the two reach each other");
    assert!(elections.lock().iter().all(|(_, seen)| seen.term.0 <= term && !seen.is_self), "{elections:?}");
    nodes.start_node(leader);
    nodes.until_everywhere("acknowledged");
    nodes.until_true("the guard is released", || nodes.node(holder).guard().guarded().is_empty());
    // Free, it is good for every election again.
    nodes.make_leader(holder);
}

#[test]
fn nodes_that_an_operator_has_released_elect_a_leader() {
    // At different moments of a look around.
    for wait_ms in [0, 150, 300, 450] {
        release_two_of_three(Duration::from_millis(wait_ms));
    }
}

fn release_two_of_three(wait: Duration) {
    let mut nodes = Nodes::start();
    let leader = nodes.leader();
    let (index, _answer) = nodes.append(leader, body("exposes", 0), LATER);
    nodes.until_true("written by all", || {
        nodes.running().iter().all(|id| nodes.group(*id).log().written().is_some_and(|(_, i)| i >= index))
    });
    let back = nodes.others(leader);
    nodes.lose_power(back[0], SEED);
    nodes.lose_power(back[1], SEED);
    nodes.kill(leader);
    // It is silent rather than gone, so that the others are always in the middle of asking it.
    let _silent = std::net::TcpListener::bind(nodes.address(leader)).unwrap();
    for id in &back {
        nodes.start_node(*id);
        assert_eq!(nodes.node(*id).guard().guarded(), [GROUP]);
    }
    std::thread::sleep(wait);
    for id in &back {
        let reply = nodes.runtime.block_on(call(&nodes.address(*id), &AdminRequest::RecoverAcceptLoss)).unwrap();
        assert!(matches!(reply, AdminReply::Done { .. }), "{reply:?}");
        assert_eq!(nodes.node(*id).guard().guarded(), []);
    }
    assert!(back.contains(&nodes.leader()));
    nodes.write("after");
    nodes.until_everywhere("after");
}

#[test]
fn a_guarded_node_is_released_under_load() {
    let mut nodes = Nodes::start();
    nodes.make_leader(1);
    let leader = nodes.leader();
    let (index, _answer) = nodes.append(leader, body("exposes", 0), LATER);
    nodes.until_received(leader, duolog_types::LogIndex(index.0 + 1));
    let follower = nodes.others(leader)[1];
    nodes.until_true("written by all", || nodes.group(follower).log().written().is_some_and(|(_, i)| i >= index));
    nodes.lose_power(follower, SEED);
    // Always something on its way that the follower has not flushed.
    nodes.disk(follower).set_flush_delay(Duration::from_millis(150));
    nodes.start_node(follower);
    assert_eq!(nodes.node(follower).guard().guarded(), [GROUP]);
    nodes.until_true("the guard is released under load", || {
        // One proposal for each look.
        drop(nodes.propose(leader, body("load", 0), LATER));
        nodes.node(follower).guard().guarded().is_empty()
    });
}

#[test]
fn kill_9_on_the_same_boot_needs_no_guard() {
    let mut nodes = Nodes::start();
    let (leader, holder, without) = acknowledge_on_two_of_three(&nodes);
    nodes.kill(holder);
    nodes.kill(leader);
    nodes.start_node(holder);
    assert_eq!(nodes.node(holder).guard().guarded(), []);
    assert_eq!(nodes.leader(), holder, "node {without} lacks the record");
    nodes.until_everywhere("acknowledged");
}

#[test]
fn raft_must_13_a_restarted_node_refuses_votes_for_one_election_timeout() {
    let mut nodes = Nodes::start_with(Settings::patient());
    let leader = nodes.leader();
    nodes.write("before");
    nodes.until_everywhere("before");
    let (candidate, restarted) = (nodes.others(leader)[0], nodes.others(leader)[1]);
    nodes.kill(restarted);
    nodes.kill(leader);
    let started = std::time::Instant::now();
    nodes.start_node(restarted);
    let term = nodes.term(candidate) + 1;
    for ballot in [Ballot::PreVote, Ballot::Vote] {
        let answer = nodes.runtime.block_on(ask(nodes.node(candidate), GROUP, NodeId(restarted), term, ballot));
        let refused = answer.expect_err("a lease of the life before may hold");
        assert!(refused.contains("has just started"), "{ballot:?}: {refused}");
    }
    // Nobody can be elected without its vote, and it grants none before a lease would have ended.
    let elected = nodes.leader();
    let waited_ms = started.elapsed().as_millis();
    assert!(
        waited_ms >= u128::from(Settings::patient().times.election_timeout_max_ms),
        "node {elected} after {waited_ms} ms"
    );
}

/// The Raft core and the log's watcher both hear of it, in any order, and the process ends with the first.
#[test]
fn an_io_error_is_recorded_before_the_node_is_told_to_end() {
    let mut nodes = Nodes::start();
    nodes.write("before");
    nodes.until_everywhere("before");
    let failed = nodes.others(nodes.leader())[0];
    let fatal = nodes.node(failed).fatal();
    nodes.disk(failed).fail_sync(0);
    let leader = nodes.leader();
    drop(nodes.propose(leader, body("meets the failure", 0), FlushWish::Now));
    nodes.until_true("the node must end", || fatal.borrow().is_some());
    let guard = nodes.data_dir(failed).join("guard.json");
    let recorded: serde_json::Value = duolog_replication::files::read_json(&guard).unwrap().unwrap();
    assert_eq!(recorded["io_error"], true, "{fatal:?}");
    nodes.kill(failed);
    nodes.disk(failed).end_faults();
    nodes.start_node(failed);
    assert_eq!(nodes.node(failed).guard().guarded(), [GROUP]);
    nodes.until_true("the guard is released", || nodes.node(failed).guard().guarded().is_empty());
}
