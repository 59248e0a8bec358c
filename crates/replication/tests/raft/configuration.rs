//! Musts 4 and 5: one leader per term, and how much is read at once.

use std::collections::BTreeMap;

use duolog_replication::TypeConfig;
use duolog_types::{LeaderEpoch, Term};
use openraft::type_config::alias::LeaderIdOf;

use crate::common::Nodes;

#[test]
fn raft_must_04_the_term_alone_is_the_leader_epoch() {
    // With openraft's other kind of leader id two nodes may lead one after the other in the same term.
    let leader_id = |node| LeaderIdOf::<TypeConfig> { term: 5, voted_for: node };
    assert_eq!(leader_id(1).partial_cmp(&leader_id(2)), None);
    assert_eq!(leader_id(2).partial_cmp(&leader_id(1)), None);

    let mut nodes = Nodes::start();
    let elections = nodes.elections();
    for round in 0..4 {
        nodes.make_leader(1 + round % 3);
        nodes.write("round");
    }
    let leader = nodes.leader();
    nodes.kill(leader);
    nodes.leader();
    let mut leaders = BTreeMap::new();
    for (node, seen) in elections.lock().iter().filter(|(_, seen)| seen.leader.is_some()) {
        let known = *leaders.entry(seen.term).or_insert(seen.leader);
        assert_eq!(known, seen.leader, "node {node} saw another leader of term {}", seen.term);
    }
    assert!(leaders.len() >= 3, "{leaders:?}");
}

#[test]
fn raft_must_04_a_term_that_fits_no_leader_epoch_is_noticed() {
    assert_eq!(Term(i32::MAX as u64).leader_epoch(), LeaderEpoch(i32::MAX));
    std::panic::catch_unwind(|| Term(i32::MAX as u64 + 1).leader_epoch()).unwrap_err();
}
