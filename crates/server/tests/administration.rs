//! What administrators change is replicated: it holds on every node, and after the node that did it is gone.
//!
//! Method: clusters of real processes, asked over the Kafka protocol; what happens by itself is awaited.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Client, Cluster, Layout, wait_for};
use duolog_record::BatchBuilder;
use duolog_types::{ProducerEpoch, ProducerId, TimestampMs};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

const LIMIT: Duration = Duration::from_secs(60);
const EARLIEST: i64 = -2;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn cluster(nodes: u64, tables: &'static str) -> Cluster {
    Cluster::start(Layout { nodes, broker_groups: 4, tables })
}

/// A client of the topic's leader, asked of a node that runs.
fn leader_of(cluster: &Cluster, asked: u64, topic: &str) -> (u64, Client) {
    let mut leader = None;
    wait_for(&format!("a leader of {topic}"), LIMIT, || {
        leader = cluster.node(asked).client().leader(topic).filter(|id| cluster.node(*id).has_started());
        leader.is_some()
    });
    let leader = leader.expect("it was awaited");
    (leader, cluster.node(leader).client())
}

/// A client of the group's coordinator.
fn coordinator_of(cluster: &Cluster, asked: u64, group: &str) -> (u64, Client) {
    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
    let mut found = None;
    wait_for(&format!("a coordinator of {group}"), LIMIT, || {
        let response = cluster.node(asked).client().call(4, &request).expect("an answer to FindCoordinator");
        let coordinator = &response.coordinators[0];
        found = u64::try_from(coordinator.node_id.0).ok().filter(|id| cluster.node(*id).has_started());
        coordinator.error_code == 0 && found.is_some()
    });
    let found = found.expect("it was awaited");
    (found, cluster.node(found).client())
}

fn commit(client: &mut Client, group: &str, topic: &str) {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(0).with_committed_metadata(None);
    let topic = OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let response = client.call(8, &request).expect("an answer to OffsetCommit");
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

/// Groups that the running nodes coordinate.
fn groups(cluster: &Cluster) -> Vec<String> {
    let mut all = Vec::new();
    for id in (0..3).filter(|id| cluster.node(*id).has_started()) {
        let response = cluster.node(id).client().call(5, &ListGroupsRequest::default());
        let response = response.expect("an answer to ListGroups");
        all.extend(response.groups.iter().map(|group| group.group_id.to_string()));
    }
    all
}

fn earliest(client: &mut Client, topic: &str) -> (i16, i64) {
    let partition = ListOffsetsPartition::default().with_timestamp(EARLIEST);
    let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_topics(vec![topic]);
    let response = client.call(5, &request).expect("an answer to ListOffsets");
    let found = &response.topics[0].partitions[0];
    (found.error_code, found.offset)
}

#[test]
fn deleted_records_and_groups_stay_deleted_when_their_leaders_are_gone() {
    let mut cluster = cluster(3, "");
    cluster.node(0).client().create_topic("t", &[]);
    let (leader, mut client) = leader_of(&cluster, 0, "t");
    for value in 0..5 {
        assert_eq!(client.produce("t", &value.to_string()).expect("an answer to Produce").error_code, 0);
    }
    let partition = DeleteRecordsPartition::default().with_offset(3);
    let topic = DeleteRecordsTopic::default().with_name(name("t")).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(20_000);
    let response = client.call(2, &request).expect("an answer to DeleteRecords");
    let deleted = &response.topics[0].partitions[0];
    assert_eq!((deleted.error_code, deleted.low_watermark), (0, 3));
    assert_eq!(earliest(&mut client, "t"), (0, 3));

    let (coordinator, mut client) = coordinator_of(&cluster, 0, "gone");
    commit(&mut client, "gone", "t");
    assert_eq!(groups(&cluster), ["gone"], "one node lists it");
    let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("gone"))]);
    let delete =
        |client: &mut Client| client.call(2, &request).expect("an answer to DeleteGroups").results[0].error_code;
    let elsewhere = (0..3).find(|id| *id != coordinator).expect("three nodes");
    assert_eq!(delete(&mut cluster.node(elsewhere).client()), ResponseError::NotCoordinator.code());
    assert_eq!(delete(&mut client), 0);
    assert_eq!(groups(&cluster), [""; 0]);

    cluster.node_mut(leader).kill();
    if coordinator != leader {
        cluster.node_mut(coordinator).kill();
        cluster.node_mut(coordinator).start();
        cluster.wait_ready();
    }
    let asked = (0..3).find(|id| *id != leader && *id != coordinator).expect("a third node");
    wait_for("the new leader begins where the old one did", LIMIT, || {
        let (_, mut client) = leader_of(&cluster, asked, "t");
        earliest(&mut client, "t") == (0, 3)
    });
    wait_for("the group is unknown to its new coordinator", LIMIT, || {
        let (_, mut client) = coordinator_of(&cluster, asked, "gone");
        let code = delete(&mut client);
        assert_ne!(code, 0, "the group is back");
        code == ResponseError::GroupIdNotFound.code()
    });
}

#[test]
fn a_topic_has_its_new_partitions_on_every_node_as_soon_as_that_is_answered() {
    let cluster = cluster(3, "");
    cluster.node(1).client().create_topic("t", &[]);
    let topic = CreatePartitionsTopic::default().with_name(name("t")).with_count(6).with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(20_000);
    let mut client = cluster.node(1).client();
    let grow = |client: &mut Client, request: &CreatePartitionsRequest| {
        client.call(3, request).expect("an answer to CreatePartitions").results[0].error_code
    };
    assert_eq!(grow(&mut client, &request.clone().with_validate_only(true)), 0);
    assert_eq!(grow(&mut client, &request), 0);
    assert_eq!(grow(&mut client, &request), ResponseError::InvalidPartitions.code());
    let wanted = MetadataRequestTopic::default().with_name(Some(name("t")));
    let metadata = MetadataRequest::default().with_topics(Some(vec![wanted])).with_allow_auto_topic_creation(false);
    let found = client.call(12, &metadata).expect("an answer to Metadata");
    assert_eq!(found.topics[0].partitions.len(), 6);
    for id in 0..3 {
        wait_for(&format!("node {id} knows six partitions"), LIMIT, || {
            let found = cluster.node(id).client().call(12, &metadata).expect("an answer to Metadata");
            found.topics[0].partitions.len() == 6
        });
    }
    // What was answered can be used: the node that answered knows every hosting group's word.
    for partition in found.topics[0].partitions.iter() {
        let leader = u64::try_from(partition.leader_id.0).expect("every partition has a leader");
        let data =
            PartitionProduceData::default().with_index(partition.partition_index).with_records(Some(batch(None)));
        let data = TopicProduceData::default().with_name(name("t")).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(20_000).with_topic_data(vec![data]);
        wait_for(&format!("partition {} takes records", partition.partition_index), LIMIT, || {
            let response = cluster.node(leader).client().call(9, &request).expect("an answer to Produce");
            response.responses[0].partition_responses[0].error_code == 0
        });
    }
}

#[test]
fn an_assignment_chooses_preferred_leaders() {
    let cluster = cluster(3, "");
    let mut client = cluster.node(1).client();
    let brokers = |nodes: &[i32]| nodes.iter().copied().map(BrokerId).collect::<Vec<_>>();
    let list = |(partition, nodes): (i32, &&[i32])| {
        CreatableReplicaAssignment::default().with_partition_index(partition).with_broker_ids(brokers(nodes))
    };
    let mut create = |topic: &str, partitions: i32, lists: &[&[i32]]| {
        let topic = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(-1)
            .with_assignments((0..).zip(lists).map(list).collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(20_000);
        let answer = client.call(7, &request).expect("an answer to CreateTopics");
        let answer = &answer.topics[0];
        (answer.error_code, answer.error_message.as_ref().map(ToString::to_string).unwrap_or_default())
    };
    assert_eq!(create("t", -1, &[&[2], &[0, 1], &[1, 2, 0], &[2, 1]]).0, 0);
    let (code, sentence) = create("unknown", -1, &[&[0, 9]]);
    assert_eq!(code, ResponseError::InvalidReplicaAssignment.code());
    assert!(sentence.contains("node 9 has no replicas") && sentence.contains("0:1:2"), "{sentence}");
    assert_eq!(create("both", 1, &[&[0]]).0, ResponseError::InvalidRequest.code());
    let lists = vec![CreatePartitionsAssignment::default().with_broker_ids(brokers(&[1]))];
    let topic = CreatePartitionsTopic::default().with_name(name("t")).with_count(5).with_assignments(Some(lists));
    let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(20_000);
    assert_eq!(client.call(3, &request).expect("an answer to CreatePartitions").results[0].error_code, 0);
    let wanted = MetadataRequestTopic::default().with_name(Some(name("t")));
    let metadata = MetadataRequest::default().with_topics(Some(vec![wanted])).with_allow_auto_topic_creation(false);
    let found = client.call(12, &metadata).expect("an answer to Metadata");
    let mut first: Vec<_> =
        found.topics[0].partitions.iter().map(|p| (p.partition_index, p.replica_nodes[0].0)).collect();
    first.sort_unstable();
    assert_eq!(first, [(0, 2), (1, 0), (2, 1), (3, 2), (4, 1)]);
}

/// A batch of one record, of a producer if one is given.
fn batch(producer: Option<i64>) -> Bytes {
    let mut batch = BatchBuilder::new();
    if let Some(id) = producer {
        batch = batch.producer(ProducerId(id), ProducerEpoch(0), 0);
    }
    let since = std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970");
    batch.push(TimestampMs(since.as_millis() as i64), None, Some(b"v")).expect("a small record");
    batch.build().expect("a small batch").into_bytes()
}

#[test]
fn offsets_of_deleted_topics_expire_at_once_and_with_them_groups_that_have_nothing_else() {
    let cluster = cluster(3, "");
    cluster.node(0).client().create_topic("t", &[]);
    cluster.node(0).client().create_topic("stays", &[]);
    for (group, topic) in [("a", "t"), ("b", "t"), ("b", "stays")] {
        commit(&mut coordinator_of(&cluster, 0, group).1, group, topic);
    }
    let mut listed = groups(&cluster);
    listed.sort();
    assert_eq!(listed, ["a", "b"]);
    let state = DeleteTopicState::default().with_name(Some(name("t")));
    let request = DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(20_000);
    let deleted = cluster.node(0).client().call(6, &request).expect("an answer to DeleteTopics");
    assert_eq!(deleted.responses[0].error_code, 0);
    wait_for("only the group with another topic is left", LIMIT, || groups(&cluster) == ["b"]);
    wait_for("both offsets are counted as expired", LIMIT, || {
        let counted = |id: u64| {
            let (_, metrics) = cluster.node(id).get("/metrics").expect("metrics");
            let lines = metrics.lines().filter(|line| line.starts_with("duolog_group_offsets_expired_total{"));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
        };
        // That of group "a" went with its tombstone.
        (0..3).map(counted).sum::<u64>() == 1
    });
}

#[test]
fn offsets_and_producers_expire_by_age() {
    let mut cluster = cluster(
        1,
        "[broker]\noffsets_retention_ms = 60000\noffsets_retention_check_interval_ms = 50\n\
         producer_id_expiration_ms = 60000\nproducer_id_expiration_check_interval_ms = 50\n",
    );
    let mut client = cluster.node(0).client();
    client.create_topic("t", &[]);
    commit(&mut client, "g", "t");
    let data = PartitionProduceData::default().with_records(Some(batch(Some(7))));
    let data = TopicProduceData::default().with_name(name("t")).with_partition_data(vec![data]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(20_000).with_topic_data(vec![data]);
    let response = client.call(9, &request).expect("an answer to Produce");
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    let producers = |client: &mut Client| {
        let topic = TopicRequest::default().with_name(name("t")).with_partition_indexes(vec![0]);
        let request = DescribeProducersRequest::default().with_topics(vec![topic]);
        let response = client.call(0, &request).expect("an answer to DescribeProducers");
        let partition = &response.topics[0].partitions[0];
        (partition.error_code == 0).then(|| partition.active_producers.iter().map(|p| p.producer_id.0).collect())
    };
    wait_for("the producer is known", LIMIT, || producers(&mut client) == Some(vec![7]));
    assert_eq!(list(&mut client), ["g"]);

    cluster.node_mut(0).terminate();
    cluster.node(0).configure(
        "[broker]\noffsets_retention_ms = 1\noffsets_retention_check_interval_ms = 50\n\
         producer_id_expiration_ms = 1\nproducer_id_expiration_check_interval_ms = 50\n",
    );
    cluster.node_mut(0).start();
    cluster.wait_ready();
    let mut client = cluster.node(0).client();
    wait_for("the producer is forgotten", LIMIT, || producers(&mut client) == Some(Vec::new()));
    wait_for("the group is gone with its offset", LIMIT, || list(&mut client).is_empty());
}

fn list(client: &mut Client) -> Vec<String> {
    let response = client.call(5, &ListGroupsRequest::default()).expect("an answer to ListGroups");
    response.groups.iter().map(|group| group.group_id.to_string()).collect()
}

/// Nobody knows the age of records whose producer sent no timestamp; other old records go.
#[test]
fn records_without_a_timestamp_do_not_expire() {
    let cluster = cluster(1, "[broker]\nretention_check_interval_ms = 50\n");
    let mut client = cluster.node(0).client();
    for (topic, timestamp) in [("timeless", TimestampMs(-1)), ("old", TimestampMs(1))] {
        client.create_topic(topic, &[("retention.ms", "1000")]);
        let mut builder = BatchBuilder::new();
        builder.push(timestamp, None, Some(b"value")).expect("a small record");
        let records = builder.build().expect("a record").into_bytes();
        assert_eq!(client.produce_records(topic, 0, records).expect("an answer").error_code, 0, "{topic}");
    }
    wait_for("the old record is gone", LIMIT, || earliest(&mut client, "old") == (0, 1));
    assert_eq!(earliest(&mut client, "timeless"), (0, 0));
}

#[test]
fn an_election_gives_a_partition_back_to_its_first_replica() {
    let mut cluster = cluster(3, "");
    cluster.node(0).client().create_topic("t", &[]);
    let wanted = MetadataRequestTopic::default().with_name(Some(name("t")));
    let metadata = MetadataRequest::default().with_topics(Some(vec![wanted])).with_allow_auto_topic_creation(false);
    let seen_by = |cluster: &Cluster, id: u64| {
        let found = cluster.node(id).client().call(12, &metadata).expect("an answer to Metadata");
        // A node that has not heard of the topic yet knows no partition of it.
        let partition = found.topics[0].partitions.first();
        let leader = partition.map_or(-2, |partition| partition.leader_id.0);
        (leader, partition.and_then(|partition| partition.replica_nodes.first()).map_or(-1, |node| node.0))
    };
    wait_for("every node says that the first replica leads", LIMIT, || {
        let seen = [0, 1, 2].map(|id| seen_by(&cluster, id));
        seen.iter().all(|(leader, first)| leader == first)
    });
    let (_, first) = seen_by(&cluster, 0);
    let first = u64::try_from(first).expect("a node");
    let asked = (first + 1) % 3;
    let election = |kind: i8| {
        let topic = TopicPartitions::default().with_topic(name("t")).with_partitions(vec![0]);
        ElectLeadersRequest::default()
            .with_election_type(kind)
            .with_topic_partitions(Some(vec![topic]))
            .with_timeout_ms(5_000)
    };
    let elect = |cluster: &Cluster, kind: i8| {
        let response = cluster.node(asked).client().call(2, &election(kind)).expect("an answer to ElectLeaders");
        response.replica_election_results[0].partition_result[0].error_code
    };
    let not_needed = ResponseError::ElectionNotNeeded.code();
    assert_eq!(elect(&cluster, 0), not_needed);
    cluster.node_mut(first).kill();
    wait_for("another node leads", LIMIT, || {
        let (leader, _) = seen_by(&cluster, asked);
        leader >= 0 && leader != first as i32
    });
    assert_eq!(elect(&cluster, 0), ResponseError::PreferredLeaderNotAvailable.code());
    assert_eq!(elect(&cluster, 1), not_needed, "it has a leader");
    cluster.node_mut(first).start();
    cluster.wait_ready();
    // Nodes give leadership back by themselves too, so it may have happened already.
    wait_for("the first replica is elected", LIMIT, || [0, not_needed].contains(&elect(&cluster, 0)));
    assert_eq!(seen_by(&cluster, asked).0, first as i32);
}

#[test]
fn the_quorum_of_the_catalog_is_described_by_every_node() {
    let cluster = cluster(3, "");
    cluster.node(0).client().create_topic("t", &[]);
    for id in 0..3 {
        let partition = describe_quorum_request::PartitionData::default();
        let topic = describe_quorum_request::TopicData::default()
            .with_topic_name(name("__cluster_metadata"))
            .with_partitions(vec![partition]);
        let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
        wait_for(&format!("node {id} sees three replicas in step"), LIMIT, || {
            let response = cluster.node(id).client().call(2, &request).expect("an answer to DescribeQuorum");
            let Some(topic) = response.topics.first() else { return false };
            let quorum = &topic.partitions[0];
            let in_step = |voter: &&describe_quorum_response::ReplicaState| voter.last_caught_up_timestamp > 0;
            quorum.leader_id.0 >= 0
                && quorum.high_watermark > 0
                && quorum.current_voters.iter().filter(in_step).count() == 3
        });
    }
}
