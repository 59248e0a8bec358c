//! The APIs of consumer groups in every version, driven over a real socket with kafka-protocol's own encoders.
//!
//! Method: a broker in memory gives fixed answers (`support`): every group is in generation 5, a group whose name begins
//! with "elsewhere" has its coordinator elsewhere, that of "loading" is not ready yet. Expected values are those of Kafka.

mod support;

use bytes::Bytes;
use duolog_broker::api::{InstanceId, MemberId};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use support::names::{group, name, text};
use support::{Client, FakeBroker, TestServer};

const NOT_COORDINATOR: i16 = 16;
const ILLEGAL_GENERATION: i16 = 22;

fn join(version: i16, id: &str, member: &str) -> JoinGroupRequest {
    let protocol = |name: &str, metadata: &'static [u8]| {
        JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(Bytes::from_static(metadata))
    };
    let request = JoinGroupRequest::default()
        .with_group_id(group(id))
        .with_session_timeout_ms(7_000)
        .with_rebalance_timeout_ms(if version >= 1 { 60_000 } else { -1 })
        .with_member_id(text(member))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol("range", b"a"), protocol("roundrobin", b"b")]);
    let request = if version >= 5 { request.with_group_instance_id(Some(text("i"))) } else { request };
    if version >= 8 { request.with_reason(Some(text("rejoining"))) } else { request }
}

#[tokio::test]
async fn members_join_in_every_version() {
    let broker = FakeBroker::new();
    let server = TestServer::start(broker.clone()).await;
    let mut client = server.client().await;
    for version in 0..=9 {
        let response = client.call(version, join(version, "g", "m")).await;
        assert_eq!((response.error_code, response.generation_id), (0, 5), "version {version}");
        assert_eq!((response.member_id.as_str(), response.leader.as_str()), ("m", "m"));
        assert_eq!(response.protocol_name.as_deref(), Some("range"));
        assert_eq!(response.protocol_type.as_deref(), (version >= 7).then_some("consumer"));
        assert_eq!(response.skip_assignment, version >= 9);
        let [member] = &response.members[..] else { panic!("one member, found {:?}", response.members) };
        assert_eq!((member.member_id.as_str(), &member.metadata[..]), ("m", &b"a"[..]));
        assert_eq!(member.group_instance_id.as_deref(), (version >= 5).then_some("i"));

        let seen = broker.joins().pop().unwrap();
        assert_eq!((seen.client_id.as_str(), seen.client_host.as_str()), ("test", "/127.0.0.1"));
        assert_eq!(seen.member_id, Some(MemberId("m".to_owned())));
        assert_eq!(seen.instance_id, (version >= 5).then(|| InstanceId("i".to_owned())));
        let rebalance_timeout_ms = if version >= 1 { 60_000 } else { 7_000 };
        assert_eq!((seen.session_timeout_ms, seen.rebalance_timeout_ms), (7_000, rebalance_timeout_ms));
        assert_eq!(seen.protocols.len(), 2);

        let new = client.call(version, join(version, "g", "")).await;
        assert_eq!(broker.joins().pop().unwrap().member_id, None);
        let expected = if version >= 4 { ResponseError::MemberIdRequired.code() } else { 0 };
        assert_eq!((new.error_code, new.member_id.as_str()), (expected, "test-1"), "version {version}");

        let refused = client.call(version, join(version, "elsewhere", "m")).await;
        assert_eq!((refused.error_code, refused.generation_id), (NOT_COORDINATOR, -1));
        assert_eq!((refused.member_id.as_str(), refused.leader.as_str()), ("m", ""));
        assert_eq!(refused.protocol_name.as_deref(), if version >= 7 { None } else { Some("") });
    }
    assert!(server.metrics.render().contains("duolog_kafka_errors_total{code=\"MemberIdRequired\"} 6"));
    server.stop().await;
}

#[tokio::test]
async fn members_sync_and_beat_in_every_version() {
    let server = TestServer::start(FakeBroker::new()).await;
    let mut client = server.client().await;
    let sync = |version: i16, id: &str, generation| {
        let assignment = |member: &str, assignment: &'static [u8]| {
            let given = Bytes::from_static(assignment);
            SyncGroupRequestAssignment::default().with_member_id(text(member)).with_assignment(given)
        };
        let request = SyncGroupRequest::default()
            .with_group_id(group(id))
            .with_generation_id(generation)
            .with_member_id(text("m"))
            .with_assignments(vec![assignment("other", b"theirs"), assignment("m", b"mine")]);
        match version {
            5.. => request.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range"))),
            _ => request,
        }
    };
    for version in 0..=5 {
        let response = client.call(version, sync(version, "g", 5)).await;
        assert_eq!((response.error_code, &response.assignment[..]), (0, &b"mine"[..]), "version {version}");
        assert_eq!(response.protocol_name.as_deref(), (version >= 5).then_some("range"));
        let old = client.call(version, sync(version, "g", 4)).await;
        assert_eq!((old.error_code, &old.assignment[..]), (ILLEGAL_GENERATION, &b""[..]));
        assert_eq!(client.call(version, sync(version, "elsewhere", 5)).await.error_code, NOT_COORDINATOR);
        let loading = client.call(version, sync(version, "loading", 5)).await;
        assert_eq!(loading.error_code, ResponseError::RebalanceInProgress.code());
    }
    let without_protocol = client.call(5, sync(5, "g", 5).with_protocol_name(None)).await;
    assert_eq!(without_protocol.error_code, ResponseError::InconsistentGroupProtocol.code());
    for version in 0..=4 {
        for (id, generation, expected) in [("g", 5, 0), ("g", 6, ILLEGAL_GENERATION), ("elsewhere", 5, NOT_COORDINATOR)]
        {
            let request = HeartbeatRequest::default().with_group_id(group(id)).with_generation_id(generation);
            assert_eq!(client.call(version, request.with_member_id(text("m"))).await.error_code, expected);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn members_leave_in_every_version() {
    let server = TestServer::start(FakeBroker::new()).await;
    let mut client = server.client().await;
    let unknown = ResponseError::UnknownMemberId.code();
    for version in 0..=2 {
        for (id, member, expected) in [("g", "m", 0), ("g", "", unknown), ("elsewhere", "m", NOT_COORDINATOR)] {
            let request = LeaveGroupRequest::default().with_group_id(group(id)).with_member_id(text(member));
            assert_eq!(client.call(version, request).await.error_code, expected, "version {version}");
        }
    }
    for version in 3..=5 {
        let leaving = |member: &str, instance: Option<&str>| {
            MemberIdentity::default().with_member_id(text(member)).with_group_instance_id(instance.map(text))
        };
        let members = vec![leaving("m", None), leaving("", Some("i")), leaving("", None)];
        let request = |id: &str| LeaveGroupRequest::default().with_group_id(group(id)).with_members(members.clone());
        let response = client.call(version, request("g")).await;
        let left: Vec<_> = response
            .members
            .iter()
            .map(|m| (m.member_id.as_str(), m.group_instance_id.as_deref(), m.error_code))
            .collect();
        let fenced = ResponseError::FencedInstanceId.code();
        assert_eq!(
            (response.error_code, left),
            (0, vec![("m", None, 0), ("", Some("i"), fenced), ("", None, unknown)])
        );
        let refused = client.call(version, request("elsewhere")).await;
        assert_eq!((refused.error_code, refused.members.len()), (NOT_COORDINATOR, 0));
    }
    server.stop().await;
}

fn commit(version: i16, id: &str, generation: i32) -> OffsetCommitRequest {
    let partition = |index, metadata: Option<&str>| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(100 + i64::from(version))
            .with_committed_metadata(metadata.map(text));
        if version >= 6 { partition.with_committed_leader_epoch(3) } else { partition }
    };
    let topic = |topic: &str, partitions| {
        OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(partitions)
    };
    OffsetCommitRequest::default()
        .with_group_id(group(id))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(text("m"))
        .with_topics(vec![
            topic("t", vec![partition(0, Some("mine")), partition(9, None)]),
            topic("no", vec![partition(0, None)]),
            topic("u", vec![partition(1, None)]),
        ])
}

#[tokio::test]
async fn offsets_are_committed_in_every_version() {
    let server = TestServer::start(FakeBroker::new().with_topic("t", 1).with_topic("u", 2)).await;
    let mut client = server.client().await;
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    for version in 2..=9 {
        for (id, generation, known) in [("g", 5, 0), ("g", 4, ILLEGAL_GENERATION), ("elsewhere", 5, NOT_COORDINATOR)] {
            let response = client.call(version, commit(version, id, generation)).await;
            let codes: Vec<(&str, Vec<(i32, i16)>)> = response
                .topics
                .iter()
                .map(|t| (t.name.as_str(), t.partitions.iter().map(|p| (p.partition_index, p.error_code)).collect()))
                .collect();
            let expected = [("t", vec![(0, known), (9, unknown)]), ("no", vec![(0, unknown)]), ("u", vec![(1, known)])];
            assert_eq!(codes, expected, "version {version}");
        }
    }
    server.stop().await;
}

/// Topic, partition, offset, leader epoch, metadata, error of each partition of an answer.
type Answered = Vec<(String, i32, i64, i32, String, i16)>;

/// Fetches of one group, whichever form the version has; gives the group's error too.
async fn fetch(client: &mut Client, version: i16, id: &str, wanted: Option<&[(&str, &[i32])]>) -> (i16, Answered) {
    let answered = |topic: &TopicName, partition, offset, epoch, metadata: &Option<StrBytes>, code| {
        let metadata = metadata.as_ref().expect("metadata is never null").to_string();
        (topic.to_string(), partition, offset, epoch, metadata, code)
    };
    if version >= 8 {
        let topics = wanted.map(|wanted| {
            let topic = |(topic, partitions): &(&str, &[i32])| {
                OffsetFetchRequestTopics::default().with_name(name(topic)).with_partition_indexes(partitions.to_vec())
            };
            wanted.iter().map(topic).collect()
        });
        let asked = OffsetFetchRequestGroup::default().with_group_id(group(id)).with_topics(topics);
        let asked = if version >= 9 { asked.with_member_id(None).with_member_epoch(-1) } else { asked };
        // A second group, so that one's error is not the other's.
        let other = OffsetFetchRequestGroup::default().with_group_id(group("other")).with_topics(None);
        let request = OffsetFetchRequest::default().with_groups(vec![asked, other]).with_require_stable(true);
        let groups = client.call(version, request).await.groups;
        assert_eq!((groups[0].group_id.as_str(), groups[1].error_code, groups[1].topics.len()), (id, 0, 0));
        let partitions = groups[0].topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (&t.name, p)));
        let answers = partitions.map(|(topic, p)| {
            let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
            answered(topic, p.partition_index, offset, epoch, &p.metadata, p.error_code)
        });
        return (groups[0].error_code, answers.collect());
    }
    let topics = wanted.map(|wanted| {
        let topic = |(topic, partitions): &(&str, &[i32])| {
            OffsetFetchRequestTopic::default().with_name(name(topic)).with_partition_indexes(partitions.to_vec())
        };
        wanted.iter().map(topic).collect()
    });
    let request = OffsetFetchRequest::default().with_group_id(group(id)).with_topics(topics);
    let request = if version >= 7 { request.with_require_stable(true) } else { request };
    let response = client.call(version, request).await;
    let partitions = response.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (&t.name, p)));
    let answers = partitions.map(|(topic, p)| {
        let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
        answered(topic, p.partition_index, offset, epoch, &p.metadata, p.error_code)
    });
    (response.error_code, answers.collect())
}

#[tokio::test]
async fn committed_offsets_are_fetched_in_every_version() {
    let server = TestServer::start(FakeBroker::new().with_topic("t", 1).with_topic("u", 2)).await;
    let mut client = server.client().await;
    client.call(9, commit(9, "g", 5)).await;
    let at = |topic: &str, partition, offset, epoch, metadata: &str| {
        (topic.to_owned(), partition, offset, epoch, metadata.to_owned(), 0)
    };
    for version in 1..=9 {
        let epoch = if version >= 5 { 3 } else { -1 };
        let wanted: &[(&str, &[i32])] = &[("u", &[1, 0]), ("no", &[4]), ("t", &[0])];
        let (code, found) = fetch(&mut client, version, "g", Some(wanted)).await;
        let expected = [
            at("u", 1, 109, epoch, ""),
            at("u", 0, -1, -1, ""),
            at("no", 4, -1, -1, ""),
            at("t", 0, 109, epoch, "mine"),
        ];
        assert_eq!((code, &found[..]), (0, &expected[..]), "version {version}");
        assert_eq!(fetch(&mut client, version, "g", Some(&[])).await, (0, Vec::new()));
        if version >= 2 {
            let all = fetch(&mut client, version, "g", None).await;
            assert_eq!(all, (0, vec![at("t", 0, 109, epoch, "mine"), at("u", 1, 109, epoch, "")]));
        }
        let (code, refused) = fetch(&mut client, version, "elsewhere", Some(&[("t", &[0])])).await;
        match version {
            1 => assert_eq!((code, refused[0].5, refused[0].2), (0, NOT_COORDINATOR, -1)),
            _ => assert_eq!((code, refused), (NOT_COORDINATOR, Vec::new())),
        }
    }
    server.stop().await;
}
