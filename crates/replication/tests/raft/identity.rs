//! Whoever is not the node that it says it is, or means another one, changes nothing: no call between nodes is taken.

use duolog_replication::testing::pretend;
use duolog_types::NodeId;

use crate::common::{GROUP, Nodes};

#[test]
fn no_call_is_taken_in_a_wrong_name() {
    let nodes = Nodes::start();
    nodes.make_leader(1);
    nodes.write("before");
    nodes.until_everywhere("before");
    let term = nodes.term(1);
    let wrong: [(&str, &str, &str); 7] = [
        ("duolog-cluster", "another", "belongs to cluster"),
        ("duolog-cluster", "", "belongs to cluster"),
        ("duolog-to", "2", "this is node 1"),
        ("duolog-to", "garbage", "this is node 1"),
        ("duolog-to-incarnation", "older", "the directory was emptied or exchanged"),
        ("duolog-from", "garbage", "names its sender"),
        ("duolog-from-incarnation", "older", "must not return under its old identity"),
    ];
    for (key, value, sentence) in wrong {
        let refusals = nodes.runtime.block_on(pretend(nodes.node(2), GROUP, NodeId(1), &[(key, value)])).unwrap();
        for (call, refusal) in refusals {
            let refusal = refusal.unwrap_or_else(|| panic!("{call} with {key} = {value:?} was taken"));
            assert!(refusal.contains(sentence), "{call} with {key} = {value:?}: {refusal}");
        }
    }
    assert_eq!((nodes.leader(), nodes.term(1)), (1, term), "nobody was deposed");
    nodes.write("after");
    nodes.until_everywhere("after");
}
