//! A replica that does nothing any more must not look like one that is alive.

use duolog_types::FlushWish;

use crate::common::Nodes;
use crate::common::nodes::body;
use crate::common::state::PANIC;

#[test]
fn a_core_that_panics_ends_its_node() {
    let nodes = Nodes::start();
    let leader = nodes.leader();
    let fatal = nodes.node(leader).fatal();
    drop(nodes.propose(leader, body(PANIC, 0), FlushWish::Now));
    let reason = nodes.until("the node must end", || fatal.borrow().clone());
    assert!(reason.contains("panicked"), "{reason}");
}
