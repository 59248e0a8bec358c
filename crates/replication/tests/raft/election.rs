//! Must 3: pre-vote, and what an unreachable peer is taken for.

use crate::common::Nodes;

/// Rounds of elections that are watched: each tries to connect once.
const ROUNDS: u64 = 4;

#[test]
fn raft_must_03_a_node_cut_off_raises_no_term() {
    let nodes = Nodes::start();
    let leader = nodes.leader();
    let (cut_off, other) = (nodes.others(leader)[0], nodes.others(leader)[1]);
    nodes.write("before");
    nodes.until_everywhere("before");
    let term = nodes.term(leader);
    let elections = nodes.elections();
    nodes.links.isolate(cut_off);
    // It asks for pre-votes again and again. A peer that it cannot reach grants none, or its term would rise.
    for peer in [leader, other] {
        let attempts = nodes.links.refused(cut_off, peer);
        nodes.until_true("attempts to be elected", || *attempts.borrow() >= ROUNDS);
    }
    assert_eq!(nodes.term(cut_off), term);
    nodes.links.rejoin(cut_off);
    nodes.write("after");
    nodes.until_everywhere("after");
    assert_eq!((nodes.leader(), nodes.term(leader)), (leader, term), "its return disturbs nobody");
    assert!(elections.lock().iter().all(|(_, seen)| seen.term.0 == term), "{elections:?}");
}

#[test]
fn raft_must_03_a_node_that_hears_no_leader_disturbs_none() {
    let nodes = Nodes::start();
    let leader = nodes.leader();
    let (deaf, other) = (nodes.others(leader)[0], nodes.others(leader)[1]);
    nodes.write("before");
    nodes.until_everywhere("before");
    let term = nodes.term(leader);
    let elections = nodes.elections();
    // The leader cannot call it, but it can call both: both refuse its pre-votes, for they hear the leader.
    nodes.links.cut(leader, deaf);
    let attempts = nodes.links.refused(leader, deaf);
    // A heartbeat or a stream every so often: this is much longer than an election time-out.
    nodes.until_true("a while", || *attempts.borrow() >= 10);
    let deadline = std::time::Instant::now() + std::time::Duration::from_millis(1_500);
    while std::time::Instant::now() < deadline {
        nodes.write("load");
    }
    nodes.links.mend(leader, deaf);
    nodes.write("after");
    nodes.until_everywhere("after");
    assert_eq!((nodes.leader(), nodes.term(other)), (leader, term));
    assert!(elections.lock().iter().all(|(_, seen)| seen.term.0 == term), "{elections:?}");
}
