//! Musts 10 and 12: what becomes of proposals when a leader begins, is cut off, or is no more.

use std::time::Instant;

use duolog_replication::{Proposal, ProposeError};
use duolog_state::EntryKind;
use duolog_types::{FlushWish, Term};

use crate::common::nodes::{PATIENCE, body};
use crate::common::{GROUP, Nodes};

fn proposal(text: &str) -> Proposal {
    Proposal { kind: EntryKind::Command, flush: FlushWish::Now, body: body(text, 0) }
}

/// Cuts the leader off with proposals that only it has, until another one leads. Returns old and new leader.
fn depose(nodes: &Nodes) -> (u64, u64, Vec<crate::common::nodes::Answer>) {
    let old = nodes.leader();
    nodes.links.isolate(old);
    let waiting =
        (0..20).map(|number| nodes.append(old, body(&format!("waiting {number}"), 0), FlushWish::Now).1).collect();
    let new = nodes.until("another leader", || {
        nodes.others(old).into_iter().find(|id| nodes.group(*id).leadership().borrow().is_self)
    });
    (old, new, waiting)
}

#[test]
fn raft_must_10_on_loss_of_leadership_waiting_proposals_are_unknown() {
    let nodes = Nodes::start();
    nodes.write("before");
    nodes.until_everywhere("before");
    let (old, new, waiting) = depose(&nodes);
    let lease = nodes.group(old);
    nodes.until_true("the lease ends", || !lease.lease_is_valid(Term(nodes.term(old))));
    // Cut off, it takes no more proposals, and appends none of them.
    let last = nodes.group(old).log().last();
    let refused = nodes.answer(nodes.propose(old, body("refused", 0), FlushWish::Now)).unwrap_err();
    assert_eq!(refused, ProposeError::NotLeader { leader: None }, "lease expired: retry");
    assert_eq!(nodes.group(old).log().last(), last);
    let write = nodes.node(new).propose(GROUP, body("after", 0), FlushWish::Now, Instant::now() + PATIENCE);
    nodes.runtime.block_on(write).expect("LeaseExpired of a new leader is retried");
    nodes.links.rejoin(old);
    for answer in waiting {
        match nodes.answer(answer) {
            // What was appended may have been committed by others: never "refused".
            Err(ProposeError::Unknown(_)) => {}
            other => panic!("an appended proposal was answered {other:?}"),
        }
    }
    nodes.until_everywhere("after");
    for id in nodes.running() {
        assert_eq!(nodes.recorder(id).texts(GROUP), ["before", "after"], "node {id}");
    }
}

#[test]
fn raft_must_10_a_proposal_at_a_new_leader_is_retried_until_it_is_confirmed() {
    let mut nodes = Nodes::start();
    for round in 0..3 {
        let leader = nodes.leader();
        nodes.kill(leader);
        // Sent before anybody leads: neither "no leader" nor "lease expired" reaches the caller.
        nodes.write(&format!("round {round}"));
        nodes.start_node(leader);
        nodes.until_everywhere(&format!("round {round}"));
    }
    assert_eq!(nodes.recorder(1).texts(GROUP), ["round 0", "round 1", "round 2"]);
}

#[test]
fn raft_must_12_a_proposal_of_an_ended_term_is_refused() {
    let nodes = Nodes::start();
    nodes.make_leader(1);
    let ended = Term(nodes.term(1));
    nodes.make_leader(2);
    nodes.make_leader(1);
    let term = Term(nodes.term(1));
    assert!(term > ended);
    nodes.write("before");
    nodes.until_everywhere("before");
    let group = nodes.group(1);
    let last = group.log().last();
    for wrong in [ended, Term(term.0 + 1)] {
        let answer = nodes.runtime.block_on(group.propose_as(wrong, proposal("wrong"))).unwrap();
        let refused = nodes.answer(answer).unwrap_err();
        assert!(matches!(refused, ProposeError::NotLeader { .. }), "{wrong}: {refused:?}");
        assert_eq!(group.log().last(), last, "it is not appended");
    }
    let answer = nodes.runtime.block_on(group.propose_as(term, proposal("right"))).unwrap();
    nodes.answer(answer).unwrap();
    nodes.until_everywhere("right");
    assert_eq!(nodes.recorder(1).texts(GROUP), ["before", "right"]);
}
