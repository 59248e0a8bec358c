//! How a cluster begins.

use std::time::Instant;

use duolog_types::{BrokerGroupId, FlushWish};

use crate::common::nodes::{PATIENCE, body};
use crate::common::{Nodes, Settings};

#[test]
fn groups_that_had_not_begun_when_their_node_was_killed_begin_later() {
    let mut nodes = Nodes::not_started(Settings { broker_groups: 3, ..Settings::default() });
    nodes.hooks.groups_begun_max = Some(1);
    (1..=3).for_each(|id| nodes.start_node(id));
    let written = |group| nodes.node(1).group(BrokerGroupId(group)).unwrap().log().written();
    nodes.until_true("the first group has begun", || written(0).is_some());
    assert_eq!([written(1), written(2)], [None, None]);
    nodes.kill(1);
    nodes.hooks.groups_begun_max = None;
    // Without it no cluster is begun anew, but the first group finds a leader.
    nodes.kill(3);
    nodes.start_node(1);
    nodes.leader();
    nodes.start_node(3);
    for group in (0..3).map(BrokerGroupId) {
        let write = nodes.node(3).propose(group, body("begun", 0), FlushWish::Now, Instant::now() + PATIENCE);
        nodes.runtime.block_on(write).unwrap();
    }
    nodes.until_true("it has come to the end", || !nodes.data_dir(1).join("initializing.json").exists());
}
