//! Must 2: what was answered is on disk, and the log has one order.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use duolog_commit_log::{CommitLog, LogError, LogObserver, LogOptions, Recovered, SimDisk};
use duolog_types::{FlushWish, LogIndex, Term};

use crate::common::disk::Door;
use crate::common::nodes::body;
use crate::common::{GROUP, Nodes};

struct NoObserver;

impl LogObserver for NoObserver {
    fn written(&self, _: Term, _: LogIndex) {}
    fn flushed(&self, _: Term, _: LogIndex) {}
    fn failed(&self, _: &LogError) {}
}

/// What the next start would find on this disk.
fn recovered(disk: SimDisk, data_dir: &Path) -> Recovered {
    let dir = data_dir.join("groups").join(GROUP.to_string()).join("log");
    let disk = Arc::new(disk.process());
    let (_log, recovered) = CommitLog::open(disk, &dir, LogOptions::default(), Arc::new(NoObserver)).unwrap();
    recovered
}

/// Term of a saved vote; 0 when there is none.
fn vote_term(recovered: &Recovered) -> u64 {
    recovered.vote.as_ref().map_or(0, |vote| u64::from_le_bytes(vote[..8].try_into().unwrap()))
}

#[test]
fn raft_must_02_nothing_commits_before_a_quorum_has_flushed_it() {
    let nodes = Nodes::start();
    let leader = nodes.leader();
    nodes.write("before");
    // The watermarks may be told a moment after the answer.
    let committed = nodes.until("the watermarks are told", || {
        let watermarks = *nodes.group(leader).watermarks().borrow();
        let is_settled =
            nodes.group(leader).log().last().is_some_and(|(_, last)| watermarks.committed_next == last.0 + 1);
        is_settled.then_some(watermarks.committed_next)
    });
    let followers = nodes.others(leader);
    followers.iter().for_each(|id| nodes.gate(*id).hold(Door::Flush));
    let mut answers = Vec::new();
    for number in 0..50 {
        let (index, answer) = nodes.append(leader, body(&format!("record {number}"), 0), FlushWish::Now);
        // The followers have it: were a flush reported early, it would be long before the fiftieth record is there.
        nodes.until_received(leader, LogIndex(index.0 + 1));
        answers.push(answer);
    }
    nodes.until_true("flushed by the leader alone", || {
        let watermarks = *nodes.group(leader).watermarks().borrow();
        watermarks.flushed_next == watermarks.received_next
    });
    assert_eq!(nodes.group(leader).watermarks().borrow().committed_next, committed);
    nodes.gate(followers[0]).release(Door::Flush);
    for answer in answers {
        nodes.answer(answer).unwrap();
    }
}

#[test]
fn raft_must_02_a_vote_is_on_disk_before_it_counts() {
    let mut nodes = Nodes::start();
    for round in 0..3 {
        let leader = nodes.leader();
        nodes.kill(leader);
        let elected = nodes.leader();
        // Both that are left had to vote.
        let term = nodes.term(elected);
        for id in nodes.running() {
            for seed in 0..16 {
                let after = nodes.disk(id).fork();
                after.power_loss(seed);
                let found = vote_term(&recovered(after, &nodes.data_dir(id)));
                assert!(
                    found >= term,
                    "round {round}, node {id}: vote of term {found}, elected in {term}, seed {seed}"
                );
            }
        }
        nodes.start_node(leader);
        nodes.write("round");
    }
}

#[test]
fn raft_must_02_nobody_is_elected_by_votes_that_are_not_flushed() {
    let mut nodes = Nodes::start();
    let leader = nodes.leader();
    nodes.write("before");
    nodes.until_everywhere("before");
    let left = nodes.others(leader);
    left.iter().for_each(|id| nodes.gate(*id).hold(Door::Flush));
    let term = nodes.term(leader);
    nodes.kill(leader);
    let elections = nodes.elections();
    let candidate = nodes.until("a candidate", || left.iter().find(|id| vote_in_memory(&nodes, **id) > term));
    nodes.gate(*candidate).wait_until_somebody_waits();
    // An election that waits for no flush takes a few milliseconds.
    let deadline = Instant::now() + Duration::from_millis(1_000);
    nodes.until_true("a while", || {
        assert!(elections.lock().iter().all(|(_, seen)| !seen.is_self), "{elections:?}");
        Instant::now() > deadline
    });
    left.iter().for_each(|id| nodes.gate(*id).release(Door::Flush));
    nodes.leader();
}

/// The vote given to the log, flushed or not.
fn vote_in_memory(nodes: &Nodes, id: u64) -> u64 {
    let vote = nodes.group(id).log().vote();
    vote.map_or(0, |vote| u64::from_le_bytes(vote[..8].try_into().unwrap()))
}

#[test]
fn raft_must_02_votes_appends_and_truncations_keep_their_order() {
    let nodes = Nodes::start();
    let mut forks = 0;
    for round in 0..6 {
        nodes.make_leader(1 + round % 3);
        let leader = nodes.leader();
        let answers: Vec<_> =
            (0..40).map(|_| nodes.propose(leader, body("load", 2_000), FlushWish::WithinMs(20))).collect();
        for id in nodes.running() {
            for seed in 0..4 {
                let after = nodes.disk(id).fork();
                if seed % 2 == 0 {
                    after.kill()
                } else {
                    after.power_loss(seed)
                };
                let found = recovered(after, &nodes.data_dir(id));
                let last_term = found.last.map_or(0, |(term, _)| term.0);
                // An entry of a term comes after the vote for its leader.
                assert!(vote_term(&found) >= last_term, "round {round}, node {id}, seed {seed}: {found:?}");
                forks += 1;
            }
        }
        for answer in answers {
            // Refused when a transfer is under way.
            let _ = nodes.answer(answer);
        }
    }
    assert!(forks > 50);
}
