//! Whose committed offsets go, and when: OffsetDelete by an administrator, expiry by age, deletion of topics.

mod world;

use bytes::Bytes;
use duolog_coordinator::groups::*;
use duolog_record::group::{GroupRecord, MemberProtocol};
use duolog_types::{TimestampMs, TopicPartition};
use world::*;

const RETENTION_MS: i64 = 100;

/// A member of a group of consumers that subscribes to topic "read".
fn reader(name: &str, member: &str) -> JoinRequest {
    let metadata = Bytes::from_static(b"\0\x01\0\0\0\x01\0\x04read\xff\xff\xff\xff");
    JoinRequest { protocols: vec![MemberProtocol { name: "range".to_owned(), metadata }], ..join(name, member) }
}

fn stored(topic: Option<&str>, commit_timestamp: i64) -> StoredOffset {
    let topic = topic.map(str::to_owned);
    StoredOffset { partition: partition(), topic, commit_timestamp: TimestampMs(commit_timestamp) }
}

fn rule(now: i64, empty_since: Option<i64>) -> ExpiryRule {
    ExpiryRule { now: TimestampMs(now), empty_since: empty_since.map(TimestampMs), retention_ms: RETENTION_MS }
}

/// Number of offsets that go, and whether the group goes with them.
fn expired(w: &World, offsets: &[StoredOffset], rule: ExpiryRule) -> Option<(usize, bool)> {
    w.machine.expired(&group(), offsets, &rule).map(|expired| (expired.offsets.len(), expired.removes_group))
}

/// A group of readers that became empty.
fn empty() -> World {
    let mut w = World::new();
    w.stable(vec![reader("a", "")]);
    w.leave(&[("a-1", "")]);
    assert_eq!(w.phase(), Some(Phase::Empty));
    w
}

/// A group that has never had a member.
fn offsets_only() -> World {
    let mut w = World::new();
    w.commit(commit("", -1));
    w
}

#[test]
fn offsets_of_a_group_without_members_ever_live_from_their_commit() {
    let w = offsets_only();
    assert_eq!(expired(&w, &[stored(Some("t"), 5)], rule(104, None)), None);
    assert_eq!(expired(&w, &[stored(Some("t"), 5)], rule(105, None)), Some((1, true)));
    let young = stored(Some("t"), 50);
    assert_eq!(expired(&w, &[stored(Some("t"), 5), young], rule(105, None)), Some((1, false)));
}

#[test]
fn offsets_of_an_empty_group_live_from_the_later_of_its_end_and_their_commit() {
    let w = empty();
    for (commit, empty_since, now, goes) in [
        (5, Some(50), 149, false),
        (5, Some(50), 150, true),
        (80, Some(50), 150, false),
        (80, Some(50), 180, true),
        // A row of a build that did not note the time.
        (5, None, 105, true),
    ] {
        let found = expired(&w, &[stored(Some("read"), commit)], rule(now, empty_since));
        assert_eq!(found, goes.then_some((1, true)), "committed {commit}, empty since {empty_since:?}, now {now}");
    }
}

#[test]
fn a_stable_group_keeps_what_it_subscribes_to() {
    let mut w = World::new();
    w.stable(vec![reader("a", ""), reader("b", "")]);
    assert_eq!(expired(&w, &[stored(Some("read"), 5)], rule(10_000, None)), None);
    assert_eq!(expired(&w, &[stored(Some("other"), 5)], rule(10_000, None)), Some((1, false)));
    let mut w = World::new();
    w.stable(two_of_unknown_subscription());
    assert_eq!(expired(&w, &[stored(Some("other"), 5)], rule(10_000, None)), None, "nobody knows what they read");
}

fn two_of_unknown_subscription() -> Vec<JoinRequest> {
    vec![join("a", ""), join("b", "")]
}

#[test]
fn the_offset_of_a_deleted_topic_goes_at_once_whatever_the_group_does() {
    for mut w in [offsets_only(), empty(), World::new()] {
        if w.phase().is_none() {
            w.stable(vec![reader("a", "")]);
        }
        let is_empty = w.phase() == Some(Phase::Empty);
        assert_eq!(expired(&w, &[stored(None, 5)], rule(6, Some(5))), Some((1, is_empty)));
    }
}

#[test]
fn a_busy_or_unknown_group_is_left_alone() {
    let mut w = offsets_only();
    w.log = Log::Waits;
    w.commit(commit("", -1));
    assert_eq!(expired(&w, &[stored(Some("t"), 5)], rule(10_000, None)), None);
    w.commit_next();
    assert_eq!(expired(&w, &[stored(Some("t"), 5)], rule(10_000, None)), Some((1, true)));
    assert_eq!(expired(&World::new(), &[stored(Some("t"), 5)], rule(10_000, None)), None);
}

#[test]
fn expired_offsets_are_proposed_with_what_was_seen_and_the_last_ones_take_the_group_along() {
    let seen: Vec<(TopicPartition, TimestampMs)> = vec![(partition(), TimestampMs(5))];
    let mut w = empty();
    let event = |removes_group| Event::Expire(Expired { group: group(), offsets: seen.clone(), removes_group });
    w.on(event(false));
    let expected = GroupCommand::ExpireOffsets { group: group(), offsets: seen.clone() };
    assert_eq!(w.committed.last(), Some(&expected));
    assert_eq!(w.phase(), Some(Phase::Empty));
    w.on(event(true));
    assert_eq!(w.committed.last(), Some(&GroupCommand::Group(GroupRecord::Tombstone(group()))));
    assert_eq!(w.phase(), None);
    let commands = w.committed.len();
    w.on(event(true));
    assert_eq!(w.committed.len(), commands, "a group that is gone is not deleted again");
}

#[test]
fn a_group_that_could_not_be_removed_lives_on() {
    let mut w = empty();
    w.log = Log::Waits;
    w.on(Event::Expire(Expired { group: group(), offsets: Vec::new(), removes_group: true }));
    assert_eq!(w.phase(), Some(Phase::Dead));
    w.fail_next(ProposalFailure::Unknown);
    assert_eq!(w.phase(), Some(Phase::Empty));
}

#[test]
fn an_administrator_deletes_offsets_that_nobody_subscribes_to() {
    let done = |result| Ok(vec![(partition(), result)]);
    assert_eq!(World::new().delete_offsets("read"), Err(GroupError::GroupIdNotFound));
    let mut w = empty();
    assert_eq!(w.delete_offsets("read"), done(Ok(())));
    let deleted = GroupCommand::DeleteOffsets { group: group(), partitions: vec![partition()] };
    assert_eq!(w.committed.last(), Some(&deleted));
    assert_eq!(offsets_only().delete_offsets("read"), done(Ok(())));

    let mut w = World::new();
    w.stable(vec![reader("a", "")]);
    assert_eq!(w.delete_offsets("read"), done(Err(GroupError::GroupSubscribedToTopic)));
    assert_eq!(w.delete_offsets("other"), done(Ok(())));
    let mut w = World::new();
    w.stable(vec![join("a", "")]);
    assert_eq!(w.delete_offsets("other"), done(Err(GroupError::GroupSubscribedToTopic)), "it may be any topic");
    let mut w = World::new();
    w.stable(vec![JoinRequest { protocol_type: "connect".to_owned(), ..join("a", "") }]);
    assert_eq!(w.delete_offsets("other"), Err(GroupError::NonEmptyGroup));
}
