//! Who leads: after a planned stop, and in the long run.

use std::time::{Duration, Instant};

use crate::common::{GROUP, Nodes, Settings};

#[test]
fn a_planned_stop_hands_leadership_over_and_needs_no_guard() {
    let mut nodes = Nodes::start_with(Settings::patient());
    nodes.write("before");
    nodes.until_everywhere("before");
    let leader = nodes.leader();
    let term = nodes.term(leader);
    let mut seen_by_another = nodes.group(nodes.others(leader)[0]).leadership();
    let elected = nodes.runtime.spawn(async move {
        seen_by_another.wait_for(|now| now.term.0 > term && now.leader.is_some()).await.expect("it runs");
        Instant::now()
    });
    let begun = Instant::now();
    nodes.stop(leader);
    let took = nodes.runtime.block_on(elected).unwrap().duration_since(begun);
    // Handed over, not timed out.
    let lease = Duration::from_millis(Settings::patient().times.election_timeout_max_ms);
    assert!(took < lease, "the next leader came after {took:?}");
    assert_eq!(nodes.term(nodes.leader()), term + 1, "one election");
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
        nodes
            .running()
            .iter()
            .flat_map(|id| nodes.node(*id).groups())
            .filter(|group| group.leadership().borrow().is_self)
            .count()
            == 3
    });
    nodes.start_node(2);
    nodes.until_led_by(&[1, 2, 3]);
}
