//! Consumer groups of a real node that stops and comes back: log, Raft and state on disk, called where front ends call.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Node, PATIENCE, copy_dir};
use duolog_broker::api::{
    BrokerApi, ConfigEdit, GroupError, GroupId, HeartbeatRequest, JoinReply, JoinRequest, LeaveRequest, LeavingMember,
    MemberId, MemberProtocol, OffsetCommits, PartitionOffset, ProducePartition, SyncRequest, TopicRef,
};
use duolog_broker::{BrokerError, RequestBudget};
use duolog_record::BatchBuilder;
use duolog_types::{LeaderEpoch, Offset, TimestampMs};

fn join_of(group: &str) -> JoinRequest {
    JoinRequest {
        group: GroupId(group.to_owned()),
        member_id: None,
        instance_id: None,
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![MemberProtocol { name: "range".to_owned(), metadata: Bytes::from_static(b"topics") }],
        uuid: String::new(),
        requires_member_id: false,
        supports_skipping_assignment: true,
    }
}

fn sync_of(group: &str, joined: &JoinReply, assignment: &'static [u8]) -> SyncRequest {
    SyncRequest {
        group: GroupId(group.to_owned()),
        member_id: joined.member_id.clone(),
        instance_id: None,
        generation: joined.generation,
        protocol_type: Some("consumer".to_owned()),
        protocol_name: Some("range".to_owned()),
        assignments: vec![(joined.member_id.clone(), Bytes::from_static(assignment))],
    }
}

impl Node {
    fn join(&self, group: &str) -> JoinReply {
        self.runtime.block_on(self.broker.join_group(join_of(group), None)).unwrap()
    }

    fn sync(&self, group: &str, joined: &JoinReply, assignment: &'static [u8]) -> Bytes {
        self.runtime.block_on(self.broker.sync_group(sync_of(group, joined, assignment), None)).unwrap().assignment
    }

    fn beat(&self, group: &str, member_id: &MemberId, generation: i32) -> Result<(), BrokerError> {
        let (group, member_id) = (GroupId(group.to_owned()), member_id.clone());
        let request = HeartbeatRequest { group, member_id, instance_id: None, generation };
        self.runtime.block_on(self.broker.heartbeat(request))
    }

    fn leave(&self, group: &str, member_id: &MemberId) -> Vec<Result<(), BrokerError>> {
        let members = vec![LeavingMember { member_id: Some(member_id.clone()), instance_id: None }];
        let request = LeaveRequest { group: GroupId(group.to_owned()), members };
        self.runtime.block_on(self.broker.leave_group(request)).unwrap()
    }

    /// Commits as a member, or as a client without group management.
    fn commit(
        &self,
        group: &str,
        member: Option<&JoinReply>,
        partitions: &[(&str, i32, i64)],
    ) -> Vec<Result<(), BrokerError>> {
        let partitions = partitions.iter().map(|(topic, partition, offset)| PartitionOffset {
            topic: TopicRef::Name((*topic).to_owned()),
            partition: *partition,
            offset: Offset(*offset),
            leader_epoch: Some(LeaderEpoch(1)),
            metadata: format!("at {offset}"),
        });
        let request = OffsetCommits {
            group: GroupId(group.to_owned()),
            member_id: member.map(|joined| joined.member_id.clone()),
            instance_id: None,
            generation: member.map_or(-1, |joined| joined.generation),
            partitions: partitions.collect(),
        };
        self.runtime.block_on(self.broker.commit_offsets(request))
    }

    /// Offset and metadata per partition that has a committed offset.
    fn committed(&self, group: &str, wanted: Option<&[(&str, i32)]>) -> Vec<(String, i32, i64, String)> {
        let named = |(topic, partition): &(&str, i32)| (TopicRef::Name((*topic).to_owned()), *partition);
        let wanted = wanted.map(|wanted| wanted.iter().map(named).collect());
        let found = self.runtime.block_on(self.broker.fetch_offsets(GroupId(group.to_owned()), wanted)).unwrap();
        let committed = found.into_iter().filter_map(|found| {
            let TopicRef::Name(name) = found.topic else { panic!("offsets come by name") };
            found.committed.map(|committed| (name, found.partition, committed.offset.0, committed.metadata))
        });
        committed.collect()
    }

    fn send(&self, topic: &str, partition: i32, records: usize) {
        let mut batch = BatchBuilder::new();
        for _ in 0..records {
            batch.push(TimestampMs(-1), None, Some(b"value")).unwrap();
        }
        let records = batch.build().unwrap().into_bytes();
        let wanted = ProducePartition { topic: TopicRef::Name(topic.to_owned()), partition, records };
        let produced = self.runtime.block_on(self.broker.produce(vec![wanted], 30_000));
        assert!(produced[0].is_ok(), "{produced:?}");
    }

    /// The labels and the value of each lag.
    fn lags(&self) -> Vec<String> {
        let metrics = self.broker.render_metrics();
        assert!(metrics.contains("\nduolog_consumer_group_lag_cut 0\n"), "{metrics}");
        let lags = metrics.lines().filter_map(|line| line.strip_prefix("duolog_consumer_group_lag{"));
        let mut lags: Vec<String> = lags.map(str::to_owned).collect();
        lags.sort();
        lags
    }

    fn pulled_back(&self) -> u64 {
        let metrics = self.broker.render_metrics();
        let lines = metrics.lines().filter(|line| line.starts_with("duolog_group_offsets_pulled_back_total{"));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

#[test]
fn a_group_outlives_its_coordinator_without_a_rebalance() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    let joined = node.join("g");
    assert_eq!((joined.generation, &joined.leader, joined.members.len()), (1, &joined.member_id, 1));
    assert!(joined.member_id.0.starts_with("client-"), "{joined:?}");
    assert_eq!(node.sync("g", &joined, b"mine"), Bytes::from_static(b"mine"));
    // The same partition twice: the later one counts.
    let commits = [("t", 0, 5), ("no", 0, 1), ("t", 2, 1), ("t", 0, 0), ("t", 1, 0)];
    let unknown = |partition| BrokerError::UnknownPartition { topic: "t".to_owned(), partition };
    let expected = [Ok(()), Err(BrokerError::UnknownTopic("no".to_owned())), Err(unknown(2)), Ok(()), Ok(())];
    assert_eq!(node.commit("g", Some(&joined), &commits), expected);
    assert_eq!(node.commit("g", None, &[("t", 0, 0)]), [Err(GroupError::UnknownMemberId.into())]);
    assert_eq!(node.commit("alone", None, &[("t", 1, 0)]), [Ok(())]);
    node.stop();

    // A process opens a state once in its life, so the node goes on in a copy of its directory.
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    let node = Node::start(copy.path());
    assert_eq!(node.beat("g", &joined.member_id, 1), Ok(()));
    assert_eq!(node.beat("g", &joined.member_id, 2), Err(GroupError::IllegalGeneration.into()));
    assert_eq!(node.sync("g", &joined, b"ignored"), Bytes::from_static(b"mine"));
    let at = |partition| ("t".to_owned(), partition, 0, "at 0".to_owned());
    assert_eq!(node.committed("g", None), [at(0), at(1)]);
    assert_eq!(node.committed("g", Some(&[("t", 1), ("no", 0), ("t", 7), ("t", 0)])), [at(1), at(0)]);
    assert_eq!(node.committed("alone", None), [at(1)]);
    assert_eq!(node.committed("unknown", Some(&[("t", 0)])), []);
    assert_eq!(node.leave("g", &joined.member_id), [Ok(())]);
    assert_eq!(node.beat("g", &joined.member_id, 1), Err(GroupError::UnknownMemberId.into()));
    assert_eq!(node.join("g").generation, 3, "the empty group is a generation too");
    assert_eq!(node.pulled_back(), 0);
    node.stop();
}

/// What serves clients runs on this thread, and so stalls with it: afterwards the member's request has arrived and its deadline has
/// come. Timers are looked at after each task, so that the deadline has come before the request is taken.
#[test]
fn a_request_that_came_during_a_stall_is_heard_before_a_deadline_that_came_too() {
    const REBALANCE_TIMEOUT_MS: u32 = 500;
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().event_interval(1).enable_all().build().unwrap();
    let node = Node::start_on(runtime, dir.path(), |_, _| {});
    // Whoever has joined and does not sync within this time is dropped.
    let request = JoinRequest { rebalance_timeout_ms: REBALANCE_TIMEOUT_MS, ..join_of("g") };
    let joined = node.runtime.block_on(node.broker.join_group(request, None)).unwrap();
    std::thread::sleep(2 * Duration::from_millis(u64::from(REBALANCE_TIMEOUT_MS)));
    let (broker, request) = (node.broker.clone(), sync_of("g", &joined, b"mine"));
    let synced =
        node.runtime.block_on(async { tokio::spawn(async move { broker.sync_group(request, None).await }).await });
    assert_eq!(synced.unwrap().map(|reply| reply.assignment), Ok(Bytes::from_static(b"mine")));
    node.stop();
}

#[test]
fn a_join_that_waits_for_other_members_gives_back_its_share_of_the_budget() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    let joined = node.join("g");
    node.sync("g", &joined, b"mine");
    let budget = RequestBudget::new(1_000);
    let share = node.runtime.block_on(budget.admit(700));
    let broker = node.broker.clone();
    // The member that is there has not joined again yet.
    let waits = node.runtime.spawn(async move { broker.join_group(join_of("g"), Some(share)).await });
    let admitted = node.runtime.block_on(async { tokio::time::timeout(PATIENCE, budget.admit(700)).await });
    assert!(admitted.is_ok(), "the share is still held");
    assert!(!waits.is_finished());
    node.stop();
}

#[test]
fn an_offset_beyond_the_log_end_is_pulled_back_when_it_is_first_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    assert_eq!(node.commit("g", None, &[("t", 0, 7), ("t", 1, 0)]), [Ok(()), Ok(())]);
    let expected = [("t".to_owned(), 0, 0, "at 7".to_owned()), ("t".to_owned(), 1, 0, "at 0".to_owned())];
    assert_eq!(node.committed("g", None), expected);
    assert_eq!(node.committed("g", None), expected);
    assert_eq!(node.pulled_back(), 1);
    node.stop();
}

/// Several broker groups hold the partitions and coordinate the groups: no lag is told twice, and none is missing.
#[test]
fn lag_is_told_of_every_committed_offset_until_its_group_goes() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    let edit = ConfigEdit::Replacement(vec![("consumption.mode".to_owned(), "broadcasting".to_owned())]);
    node.runtime.block_on(node.broker.alter_group_config(GroupId("all".to_owned()), edit, false)).unwrap();
    node.send("t", 0, 5);
    node.send("t", 1, 1);
    assert_eq!(node.lags(), Vec::<String>::new());
    for group in ["g", "h", "a\"b", "all@client"] {
        assert_eq!(node.commit(group, None, &[("t", 0, 2)]), [Ok(())]);
    }
    assert_eq!(node.commit("h", None, &[("t", 1, 7)]), [Ok(())]);
    let lag = |group: &str, partition: i32, lag: i64| {
        format!("group=\"{group}\",topic=\"t\",partition=\"{partition}\"}} {lag}")
    };
    assert_eq!(node.lags(), [lag("a\\\"b", 0, 3), lag("g", 0, 3), lag("h", 0, 3), lag("h", 1, 0)]);
    node.send("t", 0, 1);
    assert_eq!(node.commit("g", None, &[("t", 0, 6)]), [Ok(())]);
    node.runtime.block_on(node.broker.delete_group(GroupId("a\"b".to_owned()))).unwrap();
    assert_eq!(node.lags(), [lag("g", 0, 0), lag("h", 0, 4), lag("h", 1, 0)]);
    node.stop();
}

#[test]
fn lags_are_bounded_and_what_is_left_out_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    // Nine million bytes.
    let name = "x".repeat(30_000);
    for number in 0..300 {
        assert_eq!(node.commit(&format!("{name}{number}"), None, &[("t", 0, 0)]), [Ok(())]);
    }
    let metrics = node.broker.render_metrics();
    assert!(metrics.contains("\nduolog_consumer_group_lag_cut 1\n"));
    assert!(metrics.len() < 8_500_000, "{} bytes", metrics.len());
    node.stop();
}

#[test]
fn an_id_that_is_no_kafka_string_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    let id = "x".repeat(70_000);
    assert_eq!(node.commit(&id, None, &[("t", 0, 0)]), [Err(GroupError::InvalidGroupId.into())]);
    assert_eq!(node.beat(&id, &MemberId("m".to_owned()), 1), Err(GroupError::InvalidGroupId.into()));
    let edit = ConfigEdit::Replacement(vec![("retry.max.times".to_owned(), "3".to_owned())]);
    let altered = node.runtime.block_on(node.broker.alter_group_config(GroupId(id), edit, false));
    assert!(matches!(altered, Err(BrokerError::InvalidRequest(_))), "{altered:?}");
    node.stop();
}
