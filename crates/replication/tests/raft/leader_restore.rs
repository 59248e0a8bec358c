//! Must 1: a leader that crashes does not come back as leader of the same term.
//!
//! ```text
//!   leader    log writer stalls │ proposes K "kept" ── killed, K was never written ── back: leader of the same term?
//!   followers                   │ write and flush K: committed                          │
//!                                                        yes: other entry at K's (term, index) ── replicas differ
//!                                                        no:  a follower leads, K stays
//! ```

use duolog_types::FlushWish;

use crate::common::disk::Door;
use crate::common::nodes::body;
use crate::common::{GROUP, Nodes, Settings};

/// A leader is killed that never wrote what its followers committed. Returns it, the term, and the committed index.
fn kill_a_leader_without_its_log(nodes: &mut Nodes) -> (u64, u64, u64) {
    let leader = nodes.leader();
    let term = nodes.term(leader);
    nodes.write("before");
    nodes.until_everywhere("before");
    nodes.gate(leader).hold(Door::Write);
    let (index, _answer) = nodes.append(leader, body("kept", 0), FlushWish::Now);
    let watermarks = nodes.group(leader).watermarks();
    nodes.until_true("committed by the followers", || watermarks.borrow().committed_next > index.0);
    assert!(
        nodes.group(leader).log().written().is_some_and(|(_, written)| written < index),
        "the leader has not written it"
    );
    nodes.kill(leader);
    (leader, term, index.0)
}

#[test]
fn raft_must_01_with_leader_restore_replicas_diverge() {
    let mut nodes = Nodes::start_with(Settings::patient());
    nodes.hooks.configure = Some(|config| config.enable_leader_restore = Some(true));
    nodes.hooks.skip_config_check = true;
    let (leader, term, index) = kill_a_leader_without_its_log(&mut nodes);
    nodes.start_node(leader);
    let group = nodes.group(leader);
    nodes.until_true("leader of its old term again", || {
        let now = *group.leadership().borrow();
        now.is_self && now.term.0 == term && group.lease_is_valid(now.term)
    });
    let (again, answer) = nodes.append(leader, body("overwritten", 0), FlushWish::Now);
    assert_eq!(again.0, index, "the place of the committed entry is given away again");
    nodes.answer(answer).expect("acknowledged, too");
    let at = |id: u64| nodes.recorder(id).seen(GROUP).into_iter().find(|seen| (seen.term, seen.index) == (term, index));
    let texts = nodes.until("applied everywhere", || {
        nodes.running().into_iter().map(|id| at(id).map(|seen| seen.text)).collect::<Option<Vec<_>>>()
    });
    assert!(
        texts.contains(&"kept".to_owned()) && texts.contains(&"overwritten".to_owned()),
        "no divergence: {texts:?}"
    );
}

#[test]
fn raft_must_01_a_restarted_leader_does_not_lead_its_old_term() {
    let mut nodes = Nodes::start_with(Settings::patient());
    let (leader, term, index) = kill_a_leader_without_its_log(&mut nodes);
    nodes.start_node(leader);
    let elections = nodes.elections();
    assert!(nodes.write("after").0 > index);
    nodes.until_everywhere("after");
    let old = |(_, seen): &&(u64, duolog_replication::Leadership)| seen.is_self && seen.term.0 <= term;
    assert_eq!(elections.lock().iter().find(old), None, "nobody leads term {term} again");
    for id in nodes.running() {
        assert_eq!(nodes.recorder(id).texts(GROUP), ["before", "kept", "after"], "node {id}");
    }
}

#[test]
fn raft_must_01_a_node_refuses_to_start_with_leader_restore() {
    let mut nodes = Nodes::start();
    let follower = nodes.others(nodes.leader())[0];
    nodes.stop(follower);
    for (configure, reason) in [
        ((|config| config.enable_leader_restore = Some(true)) as fn(&mut openraft::Config), "enable_leader_restore"),
        (|config| config.enable_leader_restore = None, "enable_leader_restore"),
        (|config| config.enable_pre_vote = None, "enable_pre_vote"),
        (|config| config.snapshot_policy = openraft::SnapshotPolicy::LogsSinceLast(5_000), "snapshot_policy"),
        (|config| config.max_in_snapshot_log_to_keep = 0, "max_in_snapshot_log_to_keep"),
    ] {
        nodes.hooks.configure = Some(configure);
        let refused = nodes.try_start(follower).unwrap_err();
        let cause = std::error::Error::source(&refused).expect("what was tried has a cause").to_string();
        assert!(cause.contains(reason), "{refused}: {cause}");
    }
    nodes.hooks.configure = None;
    nodes.start_node(follower);
}
