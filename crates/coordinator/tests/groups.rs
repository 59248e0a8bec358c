//! Every rule of the classic group, one scenario each. The machine is called as its driver calls it; time is virtual.

mod world;

use bytes::Bytes;
use duolog_coordinator::groups::*;
use duolog_record::group::{GroupRecord, GroupState, InstanceId, MemberProtocol};
use world::*;

fn two() -> Vec<JoinRequest> {
    vec![join("a", ""), join("b", "")]
}

#[test]
fn two_members_join_sync_and_are_replicated_before_they_are_answered() {
    let mut w = World::new();
    let (a, b) = (w.join(join("a", "")), w.join(join("b", "")));
    assert_eq!(w.phase(), Some(Phase::PreparingRebalance));
    w.pass(DELAY_MS);
    assert!(w.parked(a) && w.parked(b), "b came during the delay: it is extended once");
    w.pass(DELAY_MS);
    let (leader, follower) = (w.joined(a), w.joined(b));
    assert_eq!((leader.generation, &leader.leader, leader.members.len()), (1, &id("a-1"), 2));
    assert_eq!((follower.generation, &follower.leader, follower.members.len()), (1, &id("a-1"), 0));
    assert_eq!(follower.protocol_name.as_deref(), Some("range"));

    w.log = Log::Waits;
    let before_leader = w.sync(sync("b-1", 1, &[]));
    assert!(w.parked(before_leader) && w.waiting.is_empty());
    let of_leader = w.sync(sync("a-1", 1, &[("a-1", "p0"), ("b-1", "p1"), ("made-up", "p2")]));
    assert!(w.parked(before_leader) && w.parked(of_leader), "nobody is answered before the commit");
    w.commit_next();
    assert_eq!((w.assignment(of_leader), w.assignment(before_leader)), ("p0".into(), "p1".into()));
    let GroupCommand::Group(GroupRecord::Snapshot(snapshot)) = &w.committed[0] else { panic!() };
    assert_eq!((snapshot.state, snapshot.generation, snapshot.members.len()), (GroupState::Stable, 1, 2));
    assert_eq!(snapshot.members[1].assignment, "p1");
    let again = w.sync(sync("b-1", 1, &[]));
    assert_eq!(w.assignment(again), "p1", "a repeated SyncGroup gets the same");
}

#[test]
fn an_eager_rebalance_takes_in_a_third_member() {
    let mut w = World::new();
    w.stable(two());
    let c = w.join(join("c", ""));
    assert_eq!(w.beat("a-1", 1), Err(GroupError::RebalanceInProgress));
    let (a, b) = (w.join(join("a", "a-1")), w.join(join("b", "b-1")));
    assert_eq!([a, b, c].map(|to| w.joined(to).generation), [2; 3]);
    w.sync_all(&["a-1", "b-1", "c-1"].map(id), 2);
    assert_eq!(w.beat("c-1", 2), Ok(()));
}

#[test]
fn a_cooperative_rebalance_is_two_of_them() {
    let mut w = World::new();
    w.stable(two());
    for generation in 2..=3 {
        // The leader joins again, first for a new member's sake, then because partitions were given up.
        let a = w.join(join("a", "a-1"));
        let b = w.join(join("b", "b-1"));
        assert_eq!([a, b].map(|to| w.joined(to).generation), [generation; 2]);
        w.sync_all(&["a-1", "b-1"].map(id), generation);
    }
}

#[test]
fn a_follower_that_joins_again_without_change_causes_nothing() {
    let mut w = World::new();
    w.stable(two());
    let same = w.join(join("b", "b-1"));
    assert_eq!((w.joined(same).generation, w.phase()), (1, Some(Phase::Stable)));
    let changed = w.join(JoinRequest { protocols: protocols(&["sticky", "range"]), ..join("b", "b-1") });
    assert!(w.parked(changed));
    assert_eq!(w.phase(), Some(Phase::PreparingRebalance));
}

#[test]
fn a_lost_join_answer_is_given_again() {
    let mut w = World::new();
    w.join(join("a", ""));
    w.pass(DELAY_MS);
    let again = w.join(join("a", "a-1"));
    assert_eq!((w.joined(again).generation, w.joined(again).members.len()), (1, 1));
    assert_eq!(w.phase(), Some(Phase::CompletingRebalance));
}

#[test]
fn a_join_that_replaces_a_parked_one_answers_it() {
    let mut w = World::new();
    w.stable(two());
    let first = w.join(join("a", "a-1"));
    let second = w.join(join("a", "a-1"));
    assert_eq!(w.refused(first), GroupError::RebalanceInProgress);
    assert!(w.parked(second));
}

#[test]
fn requests_of_strangers_are_refused() {
    let mut w = World::new();
    assert_eq!(w.beat("a-1", 1), Err(GroupError::UnknownMemberId), "no such group");
    let no_group = w.join(join("a", "a-1"));
    assert_eq!(w.refused(no_group), GroupError::UnknownMemberId);
    w.stable(two());
    let check = |w: &mut World, request, error| {
        let to = w.join(request);
        assert_eq!(w.refused(to), error);
        assert_eq!(w.phase(), Some(Phase::Stable), "{error}");
    };
    check(&mut w, join("x", "x-1"), GroupError::UnknownMemberId);
    check(&mut w, JoinRequest { session_timeout_ms: 5_999, ..join("c", "") }, GroupError::InvalidSessionTimeout);
    check(&mut w, JoinRequest { session_timeout_ms: 1_800_001, ..join("c", "") }, GroupError::InvalidSessionTimeout);
    check(
        &mut w,
        JoinRequest { protocols: protocols(&["sticky"]), ..join("c", "") },
        GroupError::InconsistentGroupProtocol,
    );
    check(
        &mut w,
        JoinRequest { protocol_type: "connect".into(), ..join("c", "") },
        GroupError::InconsistentGroupProtocol,
    );
    check(&mut w, JoinRequest { group: Default::default(), ..join("c", "") }, GroupError::InvalidGroupId);
    assert_eq!(w.beat("x-1", 1), Err(GroupError::UnknownMemberId));
    assert_eq!(w.beat("a-1", 2), Err(GroupError::IllegalGeneration));
    assert_eq!(w.beat_static("a-1", Some("none"), 1), Err(GroupError::UnknownMemberId));
    for (request, error) in [
        (sync("x-1", 1, &[]), GroupError::UnknownMemberId),
        (sync("a-1", 0, &[]), GroupError::IllegalGeneration),
        (
            SyncRequest { protocol_type: Some("connect".into()), ..sync("a-1", 1, &[]) },
            GroupError::InconsistentGroupProtocol,
        ),
        (
            SyncRequest { protocol_name: Some("sticky".into()), ..sync("a-1", 1, &[]) },
            GroupError::InconsistentGroupProtocol,
        ),
    ] {
        let to = w.sync(request);
        assert_eq!(w.refused(to), error);
    }
}

#[test]
fn a_member_id_is_required_of_clients_that_can_carry_one() {
    let mut w = World::new();
    let first = w.join(JoinRequest { requires_member_id: true, ..join("a", "") });
    let Some(ReplyBody::Join(Err(refused))) = w.replies.get(&first) else { panic!() };
    assert_eq!(refused, &JoinRefused { error: GroupError::MemberIdRequired, member_id: Some(id("a-1")) });
    assert_eq!(w.phase(), Some(Phase::Empty));
    let second = w.join(join("a", "a-1"));
    w.pass(DELAY_MS);
    assert_eq!(w.joined(second).member_id, id("a-1"));
}

#[test]
fn an_id_that_is_never_used_is_forgotten_and_holds_up_a_rebalance_no_longer() {
    let mut w = World::new();
    w.join(JoinRequest { requires_member_id: true, ..join("a", "") });
    w.pass(u64::from(SESSION_MS));
    assert_eq!(w.phase(), None, "nothing is left of the group");

    w.stable(two());
    w.join(JoinRequest { requires_member_id: true, ..join("c", "") });
    let (a, b) = (w.join(join("a", "a-1")), w.join(join("b", "b-1")));
    assert!(w.parked(a) && w.parked(b), "c may yet come");
    w.pass(u64::from(SESSION_MS));
    assert_eq!([a, b].map(|to| w.joined(to).generation), [2; 2]);
}

#[test]
fn a_static_member_restarts_without_a_rebalance() {
    for (instance, supports_skipping) in [("s", true), ("s", false), ("t", true)] {
        let mut w = World::new();
        w.stable(vec![join_static("s", "1"), join_static("t", "1")]);
        w.log = Log::Waits;
        let back =
            w.join(JoinRequest { supports_skipping_assignment: supports_skipping, ..join_static(instance, "2") });
        assert!(w.parked(back), "answered once its new id is committed");
        w.commit_next();
        let (reply, is_leader) = (w.joined(back), instance == "s");
        let (new, old) = (format!("{instance}-2"), format!("{instance}-1"));
        assert_eq!((reply.generation, &reply.member_id, w.phase()), (1, &id(&new), Some(Phase::Stable)));
        assert_eq!(reply.skip_assignment, is_leader && supports_skipping);
        let leader = if is_leader && supports_skipping { "s-2" } else { "s-1" };
        assert_eq!(reply.leader, id(leader), "an older client must not take itself for the leader");
        let again = w.sync(sync(&new, 1, &[]));
        assert_eq!(w.assignment(again), old, "it has its old assignment");
        assert_eq!(w.beat_static(&old, Some(instance), 1), Err(GroupError::FencedInstanceId));
        let zombie = w.join(JoinRequest { member_id: Some(id(&old)), ..join_static(instance, "3") });
        assert_eq!(w.refused(zombie), GroupError::FencedInstanceId);
    }
}

#[test]
fn a_static_member_whose_vote_changes_the_protocol_causes_a_rebalance() {
    let mut w = World::new();
    let both = |request| JoinRequest { protocols: protocols(&["range", "sticky"]), ..request };
    w.stable(vec![both(join_static("s", "1"))]);
    let back = w.join(JoinRequest { protocols: protocols(&["sticky", "range"]), ..join_static("s", "2") });
    assert_eq!((w.joined(back).generation, w.joined(back).protocol_name.as_deref()), (2, Some("sticky")));
}

#[test]
fn a_static_member_that_is_replaced_while_it_waits_is_fenced() {
    let mut w = World::new();
    let first = w.join(join_static("s", "1"));
    let second = w.join(join_static("s", "2"));
    assert_eq!(w.refused(first), GroupError::FencedInstanceId);
    w.pass(2 * DELAY_MS);
    assert_eq!(w.joined(second).member_id, id("s-2"));
    let third = w.join(join_static("s", "3"));
    assert_eq!(w.joined(third).generation, 2, "a replacement between join and sync begins anew");
}

#[test]
fn a_failed_static_rejoin_is_retried_without_a_rebalance() {
    let mut w = World::new();
    w.stable(vec![join_static("s", "1")]);
    w.log = Log::Waits;
    let lost = w.join(join_static("s", "2"));
    w.fail_next(ProposalFailure::Unknown);
    assert_eq!(w.refused(lost), GroupError::CoordinatorNotAvailable);
    let retried = w.join(join_static("s", "3"));
    w.commit_next();
    assert_eq!((w.joined(retried).generation, w.joined(retried).member_id), (1, id("s-3")));
}

#[test]
fn a_session_that_ends_causes_a_rebalance() {
    let mut w = World::new();
    w.stable(two());
    w.pass(u64::from(SESSION_MS) - 1);
    assert_eq!(w.beat("a-1", 1), Ok(()));
    w.pass(1);
    assert_eq!(w.beat("a-1", 1), Err(GroupError::RebalanceInProgress), "b is gone");
    let a = w.join(join("a", "a-1"));
    assert_eq!((w.joined(a).generation, w.joined(a).members.len()), (2, 1));
    w.pass(u64::from(REBALANCE_MS + SESSION_MS));
    assert_eq!(w.phase(), Some(Phase::Empty));
    let Some(GroupCommand::Group(GroupRecord::Snapshot(last))) = w.committed.last() else { panic!() };
    assert_eq!((last.state, last.generation, last.members.len()), (GroupState::Empty, 3, 0));
}

#[test]
fn a_rebalance_drops_members_that_do_not_join_in_time() {
    let mut w = World::new();
    w.stable(two());
    let a = w.join(join("a", "a-1"));
    for _ in 0..3 {
        w.pass(u64::from(REBALANCE_MS / 4));
        assert_eq!(w.beat("b-1", 1), Err(GroupError::RebalanceInProgress), "b is alive but busy");
    }
    assert!(w.parked(a));
    w.pass(u64::from(REBALANCE_MS / 4));
    assert_eq!((w.joined(a).generation, w.joined(a).members.len()), (2, 1));
    assert_eq!(w.beat("b-1", 2), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_rebalance_keeps_static_members_that_do_not_join_in_time() {
    let mut w = World::new();
    w.stable(vec![join("a", ""), join_static("s", "1")]);
    let a = w.join(join("a", "a-1"));
    for _ in 0..4 {
        w.pass(u64::from(REBALANCE_MS / 4));
        let _ = w.beat_static("s-1", Some("s"), 1);
    }
    assert_eq!((w.joined(a).generation, w.joined(a).members.len()), (2, 2));
}

#[test]
fn members_that_never_sync_are_dropped() {
    let mut w = World::new();
    let (a, _b) = (w.join(join("a", "")), w.join(join("b", "")));
    w.pass(2 * DELAY_MS);
    assert_eq!(w.joined(a).generation, 1);
    let waits = w.sync(sync("b-1", 1, &[]));
    for _ in 0..4 {
        assert!(w.parked(waits));
        assert_eq!(w.beat("a-1", 1), Ok(()), "the leader is alive and does not assign");
        w.pass(u64::from(REBALANCE_MS / 4));
    }
    assert_eq!(w.refused(waits), GroupError::RebalanceInProgress);
    assert_eq!(w.beat("a-1", 1), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_client_that_never_got_its_id_is_dropped_after_five_minutes() {
    let mut w = World::new();
    w.stable(two());
    let c = w.join(JoinRequest { rebalance_timeout_ms: 1_000_000, ..join("c", "") });
    for _ in 0..60 {
        let _ = w.beat("a-1", 1);
        let _ = w.beat("b-1", 1);
        w.pass(5_000);
    }
    assert_eq!(w.refused(c), GroupError::UnknownMemberId);
}

#[test]
fn the_leader_leaves_and_another_takes_its_place() {
    let mut w = World::new();
    w.stable(two());
    assert_eq!(
        w.leave(&[("a-1", ""), ("x-1", ""), ("", "none"), ("", "")]),
        [Ok(()), Err(GroupError::UnknownMemberId), Err(GroupError::UnknownMemberId), Err(GroupError::UnknownMemberId)]
    );
    let b = w.join(join("b", "b-1"));
    assert_eq!((w.joined(b).generation, w.joined(b).leader), (2, id("b-1")));
    w.sync_all(&[id("b-1")], 2);
    assert_eq!(w.leave(&[("b-1", "")]), [Ok(())]);
    assert_eq!(w.phase(), Some(Phase::Empty));
}

/// Of an id that was given out and never joined, as a client leaves that is closed before its second JoinGroup.
#[test]
fn an_id_that_leaves_unused_disturbs_nobody() {
    let mut w = World::new();
    w.stable(two());
    let new = JoinRequest { requires_member_id: true, ..join("c", "") };
    w.join(new.clone());
    assert_eq!(w.leave(&[("c-1", "")]), [Ok(())]);
    assert_eq!((w.phase(), w.beat("a-1", 1)), (Some(Phase::Stable), Ok(())));
    assert_eq!(w.leave(&[("c-1", "")]), [Err(GroupError::UnknownMemberId)], "it was forgotten");

    w.join(new);
    let (a, b) = (w.join(join("a", "a-1")), w.join(join("b", "b-1")));
    assert!(w.parked(a) && w.parked(b), "c may yet come");
    assert_eq!(w.leave(&[("c-1", "")]), [Ok(())]);
    assert_eq!([a, b].map(|to| w.joined(to).generation), [2; 2], "a rebalance that waited for it goes on");
}

#[test]
fn an_administrator_removes_static_members_by_instance_id() {
    let mut w = World::new();
    w.stable(vec![join_static("s", "1"), join_static("t", "1")]);
    assert_eq!(w.leave(&[("old", "s"), ("", "s")]), [Err(GroupError::FencedInstanceId), Ok(())]);
    assert_eq!(w.phase(), Some(Phase::PreparingRebalance));
}

#[test]
fn a_group_is_full_at_its_maximum() {
    let mut w = World::with(GroupConfig { group_size_max: 2, ..GroupConfig::default() });
    let joins = [join("a", ""), join("b", ""), join("c", "")].map(|request| w.join(request));
    assert_eq!(w.refused(joins[2]), GroupError::GroupMaxSizeReached);
    w.pass(2 * DELAY_MS);
    w.sync_all(&["a-1", "b-1"].map(id), 1);
    for member in ["", "x-1"] {
        let refused = w.join(join("x", member));
        assert_eq!(w.refused(refused), GroupError::GroupMaxSizeReached);
        assert_eq!(w.phase(), Some(Phase::Stable), "who is turned away disturbs nobody");
    }
}

#[test]
fn a_member_names_no_more_protocols_than_clients_have_assignors() {
    let mut w = World::new();
    w.stable(two());
    let names: Vec<String> = std::iter::once("range".to_owned()).chain((1..65).map(|n| format!("p{n}"))).collect();
    let first = |count: usize| protocols(&names[..count].iter().map(String::as_str).collect::<Vec<_>>());
    let refused = w.join(JoinRequest { protocols: first(65), ..join("c", "") });
    assert_eq!(w.refused(refused), GroupError::InconsistentGroupProtocol);
    assert_eq!(w.phase(), Some(Phase::Stable), "who is turned away disturbs nobody");
    let taken = w.join(JoinRequest { protocols: first(64), ..join("c", "") });
    assert!(w.parked(taken));
    assert_eq!(w.phase(), Some(Phase::PreparingRebalance));
}

#[test]
fn a_member_brings_no_more_than_can_be_replicated() {
    let mut w = World::new();
    w.stable(two());
    let large = |bytes: usize| {
        let metadata = Bytes::from(vec![7_u8; bytes - "range".len()]);
        JoinRequest { protocols: vec![MemberProtocol { name: "range".to_owned(), metadata }], ..join("c", "") }
    };
    let refused = w.join(large((4 << 20) + 1));
    assert_eq!(w.refused(refused), GroupError::InconsistentGroupProtocol);
    assert_eq!(w.phase(), Some(Phase::Stable), "who is turned away disturbs nobody");
    let taken = w.join(large(4 << 20));
    assert!(w.parked(taken));
}

#[test]
fn the_protocol_with_most_votes_wins() {
    let mut w = World::new();
    let vote = |name, order: &[&str]| JoinRequest { protocols: protocols(order), ..join(name, "") };
    let a = w.join(vote("a", &["own", "range", "sticky"]));
    w.join(vote("b", &["sticky", "range"]));
    w.join(vote("c", &["sticky", "range"]));
    w.pass(3 * DELAY_MS);
    let reply = w.joined(a);
    assert_eq!(reply.protocol_name.as_deref(), Some("sticky"));
    assert!(reply.members.iter().all(|m| m.metadata == "sticky"));
}

#[test]
fn a_fail_over_causes_no_rebalance_and_restarts_sessions() {
    let mut w = World::new();
    w.stable(vec![join("a", ""), join_static("s", "1")]);
    let before = w.machine.describe(&group());
    w.pass(u64::from(SESSION_MS) - 1);
    w.fail_over();
    assert_eq!(w.machine.describe(&group()), before);
    w.pass(u64::from(SESSION_MS) - 1);
    assert_eq!(w.beat("a-1", 1), Ok(()));
    assert_eq!(w.beat_static("s-1", Some("s"), 1), Ok(()));
    assert_eq!(w.snapshots(), 1);
    let again = w.sync(sync("a-1", 1, &[]));
    assert_eq!(w.assignment(again), "a-1");
}

#[test]
fn who_does_not_lead_says_so() {
    let mut w = World::new();
    let parked = w.join(join("a", ""));
    w.on(Event::Resign);
    assert_eq!(w.refused(parked), GroupError::NotCoordinator);
    assert_eq!(w.beat("a-1", 1), Err(GroupError::NotCoordinator));
    assert_eq!((w.deadline, w.machine.list().count()), (None, 0));
}

#[test]
fn an_assignment_that_is_not_committed_is_not_given_out() {
    for (reason, error) in [
        (ProposalFailure::Unknown, GroupError::CoordinatorNotAvailable),
        (ProposalFailure::NotLeader, GroupError::NotCoordinator),
        (ProposalFailure::TooLarge, GroupError::UnknownServerError),
    ] {
        let mut w = World::new();
        w.join(join("a", ""));
        w.join(join("b", ""));
        w.pass(2 * DELAY_MS);
        w.log = Log::Waits;
        let (b, a) = (w.sync(sync("b-1", 1, &[])), w.sync(sync("a-1", 1, &[("a-1", "p0")])));
        w.fail_next(reason);
        assert_eq!([w.refused(a), w.refused(b)], [error; 2]);
        assert_eq!(w.phase(), Some(Phase::PreparingRebalance));
        w.log = Log::CommitsAtOnce;
        w.join(join("a", "a-1"));
        w.join(join("b", "b-1"));
        w.sync_all(&["a-1", "b-1"].map(id), 2);
    }
}

#[test]
fn an_assignment_that_comes_too_late_is_ignored() {
    let mut w = World::new();
    w.join(join("a", ""));
    w.pass(DELAY_MS);
    w.log = Log::Waits;
    let a = w.sync(sync("a-1", 1, &[("a-1", "p0")]));
    let retried = w.sync(sync("a-1", 1, &[("a-1", "p0")]));
    assert_eq!((w.refused(a), w.waiting.len()), (GroupError::RebalanceInProgress, 1), "one proposal per generation");
    w.join(join("c", ""));
    assert_eq!(w.refused(retried), GroupError::RebalanceInProgress);
    w.commit_next();
    assert_eq!(w.phase(), Some(Phase::PreparingRebalance));
}

#[test]
fn offsets_are_committed_by_members_of_the_generation() {
    let mut w = World::new();
    let members = w.stable(two());
    let check = |w: &mut World, request, error| {
        let to = w.commit(request);
        assert_eq!(w.refused(to), error);
    };
    check(&mut w, commit("a-1", 2), GroupError::IllegalGeneration);
    check(&mut w, commit("x-1", 1), GroupError::UnknownMemberId);
    check(&mut w, commit("", -1), GroupError::UnknownMemberId);
    check(&mut w, commit("a-1", -1), GroupError::IllegalGeneration);
    w.log = Log::Waits;
    let to = w.commit(commit("a-1", 1));
    assert!(w.parked(to));
    w.commit_next();
    assert_eq!(w.replies[&to], ReplyBody::CommitOffsets(Ok(vec![(partition(), Ok(()))])));
    let to = w.commit(commit("a-1", 1));
    w.fail_next(ProposalFailure::Unknown);
    assert_eq!(w.refused(to), GroupError::CoordinatorNotAvailable);
    w.log = Log::CommitsAtOnce;

    w.join(join("a", "a-1"));
    let preparing = w.commit(commit("b-1", 1));
    assert!(matches!(w.replies[&preparing], ReplyBody::CommitOffsets(Ok(_))), "before it joins again");
    w.join(join("b", "b-1"));
    check(&mut w, commit("b-1", 2), GroupError::RebalanceInProgress);
    w.sync_all(&members, 2);
}

#[test]
fn offsets_are_committed_without_group_management() {
    let mut w = World::new();
    let to = w.commit(commit("", 3));
    assert_eq!(w.refused(to), GroupError::IllegalGeneration, "no such group");
    let mut request = commit("", -1);
    request.partitions.push(PartitionCommit { metadata: "x".repeat(4_097), ..request.partitions[0].clone() });
    let to = w.commit(request);
    let results = vec![(partition(), Ok(())), (partition(), Err(GroupError::OffsetMetadataTooLarge))];
    assert_eq!(w.replies[&to], ReplyBody::CommitOffsets(Ok(results)));
    w.fail_over();
    assert_eq!(w.machine.list().map(|g| g.phase).collect::<Vec<_>>(), [Phase::Empty]);
}

#[test]
fn only_an_empty_group_is_deleted() {
    let mut w = World::new();
    assert_eq!(w.delete(), Err(GroupError::GroupIdNotFound));
    w.stable(two());
    assert_eq!(w.delete(), Err(GroupError::NonEmptyGroup));
    w.leave(&[("a-1", ""), ("b-1", "")]);
    assert_eq!(w.delete(), Ok(()));
    assert_eq!(w.phase(), None);
    w.fail_over();
    assert_eq!(w.phase(), None);
}

#[test]
fn fencing_covers_offset_commits() {
    let mut w = World::new();
    w.stable(vec![join_static("s", "1")]);
    w.join(join_static("s", "2"));
    let zombie = OffsetCommitRequest { instance_id: Some(InstanceId("s".into())), ..commit("s-1", 1) };
    let to = w.commit(zombie);
    assert_eq!(w.refused(to), GroupError::FencedInstanceId);
}
