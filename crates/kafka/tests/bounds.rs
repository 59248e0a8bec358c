//! Goal: the answer to a small request stays small, whatever the request names and however often.
//! Method: as in `apis.rs`; a broker in memory answers.

mod support;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Encodable;
use support::names::{group, name, text};
use support::{FakeBroker, TestServer};

const TOPIC: i8 = 2;
const GROUP: i8 = 32;

fn resource(kind: i8, name: &str) -> DescribeConfigsResource {
    DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(None)
}

#[tokio::test]
async fn what_is_described_is_described_once() {
    let server = TestServer::start(FakeBroker::new().with_topic("t", 2)).await;
    let mut client = server.client().await;

    let groups = ["g", "x", "g", "g"].map(group).to_vec();
    let described = client.call(5, DescribeGroupsRequest::default().with_groups(groups)).await;
    assert_eq!(described.groups.iter().map(|g| g.group_id.as_str()).collect::<Vec<_>>(), ["g", "x"]);

    let resources = vec![resource(TOPIC, "t"), resource(TOPIC, "t"), resource(GROUP, "t"), resource(TOPIC, "t")];
    let configs = client.call(4, DescribeConfigsRequest::default().with_resources(resources)).await;
    assert_eq!(configs.results.iter().map(|r| r.resource_type).collect::<Vec<_>>(), [TOPIC, GROUP]);

    let topic =
        |partitions: &[i32]| TopicRequest::default().with_name(name("t")).with_partition_indexes(partitions.to_vec());
    let request = DescribeProducersRequest::default().with_topics(vec![topic(&[0, 1, 0]), topic(&[1, 7])]);
    let producers = client.call(0, request).await;
    let told: Vec<Vec<i32>> =
        producers.topics.iter().map(|t| t.partitions.iter().map(|p| p.partition_index).collect()).collect();
    assert_eq!(told, [vec![0, 1], vec![7]]);

    let partition = PartitionData::default();
    let topic = TopicData::default().with_topic_name(name("__cluster_metadata")).with_partitions(vec![partition; 3]);
    let quorum = client.call(2, DescribeQuorumRequest::default().with_topics(vec![topic])).await;
    assert_eq!(quorum.topics[0].partitions.len(), 1);

    let keys = ["a", "b", "a"].map(text).to_vec();
    let found = client.call(4, FindCoordinatorRequest::default().with_coordinator_keys(keys)).await;
    assert_eq!(found.coordinators.iter().map(|c| c.key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    server.stop().await;
}

#[tokio::test]
async fn offsets_of_a_partition_are_fetched_once() {
    let server = TestServer::start(FakeBroker::new().with_topic("t", 2)).await;
    let mut client = server.client().await;
    for version in 1..=7 {
        let topic = |partitions: &[i32]| {
            OffsetFetchRequestTopic::default().with_name(name("t")).with_partition_indexes(partitions.to_vec())
        };
        let topics = Some(vec![topic(&[1, 0, 1]), topic(&[0, 5])]);
        let request = OffsetFetchRequest::default().with_group_id(group("g")).with_topics(topics);
        let fetched = client.call(version, request).await;
        let told: Vec<Vec<i32>> =
            fetched.topics.iter().map(|t| t.partitions.iter().map(|p| p.partition_index).collect()).collect();
        assert_eq!(told, [vec![1, 0], vec![5]], "version {version}");
    }
    for version in 8..=9 {
        let of = |id: &str, partitions: &[i32]| {
            let topic =
                OffsetFetchRequestTopics::default().with_name(name("t")).with_partition_indexes(partitions.to_vec());
            let asked = OffsetFetchRequestGroup::default().with_group_id(group(id)).with_topics(Some(vec![topic]));
            if version >= 9 { asked.with_member_id(None).with_member_epoch(-1) } else { asked }
        };
        let groups = vec![of("g", &[0, 0]), of("h", &[1]), of("g", &[1])];
        let fetched = client.call(version, OffsetFetchRequest::default().with_groups(groups)).await;
        let told: Vec<(&str, usize)> =
            fetched.groups.iter().map(|g| (g.group_id.as_str(), g.topics[0].partitions.len())).collect();
        assert_eq!(told, [("g", 1), ("h", 1)], "version {version}");
    }
    server.stop().await;
}

/// What changes something, or reads records, is done once too.
#[tokio::test]
async fn work_on_a_partition_is_done_once() {
    let server = TestServer::start(FakeBroker::new().with_topic("t", 3)).await;
    let mut client = server.client().await;

    let asked = |index: i32, timestamp: i64| {
        ListOffsetsPartition::default().with_partition_index(index).with_timestamp(timestamp)
    };
    let topic = |partitions| ListOffsetsTopic::default().with_name(name("t")).with_partitions(partitions);
    let topics = vec![topic(vec![asked(0, -1), asked(1, -1), asked(2, -2)]), topic(vec![asked(0, -2)])];
    let listed = client.call(7, ListOffsetsRequest::default().with_topics(topics)).await;
    let told = listed.topics.iter().flat_map(|t| &t.partitions).map(|p| (p.partition_index, p.error_code, p.offset));
    let refused = ResponseError::InvalidRequest.code();
    assert_eq!(told.collect::<Vec<_>>(), [(0, refused, -1), (1, 0, 0), (2, 0, 0), (0, refused, -1)]);

    // The last offset counts.
    let delete = |offset: i64| DeleteRecordsPartition::default().with_offset(offset);
    let topic = DeleteRecordsTopic::default().with_name(name("t")).with_partitions(vec![delete(9), delete(0)]);
    let deleted = client.call(2, DeleteRecordsRequest::default().with_timeout_ms(1_000).with_topics(vec![topic])).await;
    let told = deleted.topics.iter().flat_map(|t| &t.partitions).map(|p| (p.error_code, p.low_watermark));
    assert_eq!(told.collect::<Vec<_>>(), [(0, 0)]);

    let topic = TopicPartitions::default().with_topic(name("t")).with_partitions(vec![1, 1, 0]);
    let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic.clone(), topic]));
    let elected = client.call(2, request.with_timeout_ms(1_000)).await;
    let told = elected.replica_election_results.iter().flat_map(|t| &t.partition_result).map(|p| p.partition_id);
    assert_eq!(told.collect::<Vec<_>>(), [1, 0]);
    server.stop().await;
}

/// A fetch may wait for records, and all that it names with it.
#[tokio::test]
async fn records_of_a_partition_are_fetched_once() {
    let server = TestServer::start(FakeBroker::new().with_topic("t", 2)).await;
    let mut client = server.client().await;
    let topic = |partitions: &[i32]| {
        let asked = partitions.iter().map(|index| FetchPartition::default().with_partition(*index));
        FetchTopic::default().with_topic(name("t")).with_partitions(asked.collect())
    };
    let topics = vec![topic(&[0, 1, 0]), topic(&[1, 7])];
    let fetched = client.call(12, FetchRequest::default().with_session_epoch(-1).with_topics(topics)).await;
    let told = fetched.responses.iter().flat_map(|t| &t.partitions).map(|p| p.partition_index);
    assert_eq!(told.collect::<Vec<_>>(), [0, 1, 7]);
    server.stop().await;
}

/// Every name has all configs of a group, so names alone could ask for gigabytes.
#[tokio::test]
async fn an_answer_of_many_descriptions_has_a_limit() {
    let server = TestServer::start(FakeBroker::new()).await;
    let mut client = server.client().await;
    let resources: Vec<_> = (0..40_000).map(|number| resource(GROUP, &number.to_string())).collect();
    let count = resources.len();
    let request = DescribeConfigsRequest::default()
        .with_resources(resources)
        .with_include_synonyms(true)
        .with_include_documentation(true);
    let described = client.call(4, request).await;
    assert_eq!(described.results.len(), count);
    let told = described.results.iter().take_while(|result| result.error_code == 0).count();
    assert!((1..count).contains(&told), "{told} of {count} are told");
    let refused = ResponseError::InvalidRequest.code();
    assert!(described.results[told..].iter().all(|r| r.error_code == refused && r.configs.is_empty()));
    let bytes = described.compute_size(4).unwrap();
    assert!((32 << 20..40 << 20).contains(&bytes), "{bytes} bytes");
    server.stop().await;
}
