//! Who leads: after a planned stop, and in the long run.

use crate::common::nodes::Settings;
use crate::common::{GROUP, Nodes};

#[test]
fn a_planned_stop_hands_leadership_over_and_needs_no_guard() {
    let mut nodes = Nodes::start_with(Settings::patient());
    nodes.write("before");
    nodes.until_everywhere("before");
    let leader = nodes.leader();
    let term = nodes.term(leader);
    let elections = nodes.elections();
    nodes.stop(leader);
    // Handed over, not timed out: when the stop returns another one leads, and its lease was not waited for.
    let other = nodes.until("another leader", || {
        nodes.running().into_iter().find(|id| nodes.group(*id).leadership().borrow().is_self)
    });
    assert_eq!(nodes.term(other), term + 1, "one election");
    let first = elections.lock().iter().find(|(_, seen)| seen.term.0 > term).copied();
    assert!(first.is_some(), "{elections:?}");
    nodes.reboot(leader);
    nodes.start_node(leader);
    assert_eq!(nodes.node(leader).guard().guarded(), [], "a clean stop loses nothing, whatever the boot");
    nodes.write("after");
    nodes.until_everywhere("after");
    assert_eq!(nodes.recorder(leader).texts(GROUP), ["before", "after"]);
}

#[test]
fn leaders_spread_over_the_nodes_and_come_back() {
    let mut nodes = Nodes::start_with(Settings { broker_groups: 3, ..Settings::default() });
    nodes.until_led_by(&[1, 2, 3]);
    nodes.kill(2);
    nodes.until_true("the others lead everything", || {
        nodes.running().iter().flat_map(|id| nodes.node(*id).groups()).filter(|group| group.leadership().borrow().is_self).count() == 3
    });
    nodes.start_node(2);
    nodes.until_led_by(&[1, 2, 3]);
}
