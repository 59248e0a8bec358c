//! What administrators ask, in every version that is served, over a real socket with kafka-protocol's own encoders.
//!
//! Method: as in `apis.rs`; a broker in memory answers, expected values are those of Kafka.

mod support;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use support::names::{group, name, text};
use support::{Client, FakeBroker, TestServer};

fn code(error: ResponseError) -> i16 {
    error.code()
}

async fn server(broker: FakeBroker) -> (TestServer, Client) {
    let server = TestServer::start(broker).await;
    let client = server.client().await;
    (server, client)
}

#[tokio::test]
async fn groups_are_listed_by_state_and_type() {
    let (server, mut client) = server(FakeBroker::new()).await;
    for version in 0..=5 {
        let all = client.call(version, ListGroupsRequest::default()).await;
        let listed: Vec<_> = all.groups.iter().map(|g| (g.group_id.as_str(), g.protocol_type.as_str())).collect();
        assert_eq!((all.error_code, listed), (0, vec![("g", "consumer"), ("offsets", "")]), "version {version}");
        assert_eq!(all.groups[0].group_state.as_str(), if version >= 4 { "Stable" } else { "" });
        assert_eq!(all.groups[0].group_type.as_str(), if version >= 5 { "classic" } else { "" });
    }
    for (states, types, expected) in [
        (vec!["empty"], vec![], vec!["offsets"]),
        (vec!["Stable", "Empty"], vec!["Classic"], vec!["g", "offsets"]),
        (vec!["Dead"], vec![], vec![]),
        (vec![], vec!["consumer"], vec![]),
    ] {
        let filter = |words: &[&str]| words.iter().map(|word| text(word)).collect::<Vec<_>>();
        let request =
            ListGroupsRequest::default().with_states_filter(filter(&states)).with_types_filter(filter(&types));
        let found = client.call(5, request).await;
        let found: Vec<_> = found.groups.iter().map(|g| g.group_id.to_string()).collect();
        assert_eq!(found, expected, "{states:?} {types:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn groups_are_described_and_unknown_ones_are_dead() {
    let (server, mut client) = server(FakeBroker::new()).await;
    for version in 0..=6 {
        let request =
            DescribeGroupsRequest::default().with_groups(vec![group("g"), group("unknown"), group("elsewhere")]);
        let request = if version >= 3 { request.with_include_authorized_operations(true) } else { request };
        let response = client.call(version, request).await;
        let [known, unknown, elsewhere] = &response.groups[..] else { panic!("{response:?}") };
        assert_eq!(
            (known.error_code, known.group_state.as_str(), known.protocol_type.as_str(), known.protocol_data.as_str()),
            (0, "Stable", "consumer", "range"),
            "version {version}"
        );
        let member = &known.members[0];
        assert_eq!((member.member_id.as_str(), member.client_id.as_str()), ("m-1", "c"));
        assert_eq!(member.client_host.as_str(), "/10.0.0.1");
        assert_eq!((&member.member_metadata[..], &member.member_assignment[..]), (&b"topics"[..], &b"partitions"[..]));
        assert_eq!(member.group_instance_id.is_some(), version >= 4);
        assert_eq!(known.authorized_operations, if version >= 3 { 3400 } else { i32::MIN });
        let not_found = if version >= 6 { code(ResponseError::GroupIdNotFound) } else { 0 };
        assert_eq!((unknown.error_code, unknown.group_state.as_str()), (not_found, "Dead"));
        assert_eq!(unknown.error_message.is_some(), version >= 6);
        assert_eq!((elsewhere.error_code, elsewhere.group_state.as_str()), (code(ResponseError::NotCoordinator), ""));
    }
    server.stop().await;
}

#[tokio::test]
async fn groups_and_offsets_are_deleted_one_by_one() {
    let (server, mut client) = server(FakeBroker::new().with_topic("t", 1).with_topic("subscribed", 1)).await;
    for version in 0..=2 {
        let names = ["g", "offsets", "unknown", "offsets", "elsewhere"].map(group).to_vec();
        let response = client.call(version, DeleteGroupsRequest::default().with_groups_names(names)).await;
        let codes: Vec<_> = response.results.iter().map(|r| (r.group_id.to_string(), r.error_code)).collect();
        let expected = [
            ("g".to_owned(), code(ResponseError::NonEmptyGroup)),
            ("offsets".to_owned(), 0),
            ("unknown".to_owned(), code(ResponseError::GroupIdNotFound)),
            ("elsewhere".to_owned(), code(ResponseError::NotCoordinator)),
        ];
        assert_eq!(codes, expected, "version {version}");
    }
    let topic = |name: TopicName, partitions: &[i32]| {
        let partition = |index: &i32| OffsetDeleteRequestPartition::default().with_partition_index(*index);
        OffsetDeleteRequestTopic::default().with_name(name).with_partitions(partitions.iter().map(partition).collect())
    };
    let topics = vec![topic(name("t"), &[0, 1]), topic(name("subscribed"), &[0]), topic(name("no"), &[0])];
    let request = OffsetDeleteRequest::default().with_group_id(group("g")).with_topics(topics);
    let response = client.call(0, request.clone()).await;
    let codes: Vec<Vec<i16>> =
        response.topics.iter().map(|t| t.partitions.iter().map(|p| p.error_code).collect()).collect();
    let unknown = code(ResponseError::UnknownTopicOrPartition);
    assert_eq!(codes, [vec![0, unknown], vec![code(ResponseError::GroupSubscribedToTopic)], vec![unknown]]);
    let elsewhere = client.call(0, request.with_group_id(group("elsewhere"))).await;
    assert_eq!((elsewhere.error_code, elsewhere.topics.len()), (code(ResponseError::NotCoordinator), 0));
    server.stop().await;
}

#[tokio::test]
async fn acls_are_created_found_and_deleted() {
    let (server, mut client) = server(FakeBroker::new()).await;
    let creation = |name: &str, principal: &str, resource_type: i8| {
        AclCreation::default()
            .with_resource_type(resource_type)
            .with_resource_name(text(name))
            .with_resource_pattern_type(4)
            .with_principal(text(principal))
            .with_host(text("*"))
            .with_operation(3)
            .with_permission_type(3)
    };
    let all = DescribeAclsRequest::default()
        .with_resource_type_filter(1)
        .with_resource_name_filter(None)
        .with_pattern_type_filter(1)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_operation(1)
        .with_permission_type(1);
    for version in 1..=3 {
        // Kafka's DELEGATION_TOKEN is none of ours.
        let creations = vec![
            creation("pay", "User:ann", 2),
            creation("pay", "ann", 2),
            creation("pay", "User:ann", 6),
            creation("billing", "User:ann", 3),
        ];
        let created = client.call(version, CreateAclsRequest::default().with_creations(creations)).await;
        let codes: Vec<i16> = created.results.iter().map(|result| result.error_code).collect();
        let invalid = code(ResponseError::InvalidRequest);
        assert_eq!(codes, [0, invalid, invalid, 0], "version {version}");
        let found = client.call(version, all.clone()).await;
        let shown: Vec<_> = found.resources.iter().map(|r| (r.resource_type, r.resource_name.to_string())).collect();
        assert_eq!(shown, [(2, "pay".to_owned()), (3, "billing".to_owned())]);
        assert_eq!((found.resources[0].pattern_type, found.resources[0].acls[0].operation), (4, 3));
        let matching = all.clone().with_pattern_type_filter(2).with_resource_name_filter(Some(text("payments")));
        assert_eq!(client.call(version, matching).await.resources.len(), 1, "what is about payments");
        let filter = |pattern: i8| {
            DeleteAclsFilter::default()
                .with_resource_type_filter(1)
                .with_resource_name_filter(None)
                .with_pattern_type_filter(pattern)
                .with_principal_filter(Some(text("User:ann")))
                .with_host_filter(None)
                .with_operation(1)
                .with_permission_type(1)
        };
        let deleted = client.call(version, DeleteAclsRequest::default().with_filters(vec![filter(9), filter(1)])).await;
        let counts: Vec<_> = deleted.filter_results.iter().map(|r| (r.error_code, r.matching_acls.len())).collect();
        assert_eq!(counts, [(invalid, 0), (0, 2)]);
        assert_eq!(client.call(version, all.clone()).await.resources.len(), 0);
    }
    server.stop().await;
}

async fn produce(client: &mut Client, topic: &str) {
    let partition = PartitionProduceData::default().with_records(Some(Bytes::from_static(b"records")));
    let data = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(1_000).with_topic_data(vec![data]);
    assert_eq!(client.call(9, request).await.responses[0].partition_responses[0].error_code, 0);
}

#[tokio::test]
async fn records_are_deleted_up_to_an_offset_or_to_the_high_watermark() {
    let (server, mut client) = server(FakeBroker::new().with_topic("t", 1).with_topic("elsewhere", 1)).await;
    produce(&mut client, "t").await;
    produce(&mut client, "t").await;
    let out_of_range = (-1, code(ResponseError::OffsetOutOfRange));
    for version in 0..=2 {
        for (topic, offset, expected) in [
            ("t", 1, (1, 0)),
            ("t", -1, (2, 0)),
            ("t", 3, out_of_range),
            ("t", -2, out_of_range),
            ("elsewhere", 0, (-1, code(ResponseError::NotLeaderOrFollower))),
            ("no", 0, (-1, code(ResponseError::UnknownTopicOrPartition))),
        ] {
            let partition = DeleteRecordsPartition::default().with_offset(offset);
            let wanted = DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
            let request = DeleteRecordsRequest::default().with_timeout_ms(1_000).with_topics(vec![wanted]);
            let response = client.call(version, request).await;
            let answer = &response.topics[0].partitions[0];
            assert_eq!((answer.low_watermark, answer.error_code), expected, "{topic} {offset}, version {version}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn partitions_are_created_unless_only_validated() {
    let broker = FakeBroker::new().with_topic("t", 2);
    let (server, mut client) = server(broker).await;
    let topic = |topic: &str, count: i32| {
        CreatePartitionsTopic::default().with_name(name(topic)).with_count(count).with_assignments(None)
    };
    for version in 0..=3 {
        let assignments = Some(vec![CreatePartitionsAssignment::default()]);
        let topics = vec![topic("t", 3 + i32::from(version)), topic("no", 9), topic("twice", 9), topic("twice", 9)];
        let request = CreatePartitionsRequest::default().with_topics(topics).with_timeout_ms(1_000);
        let twice = code(ResponseError::InvalidRequest);
        let expected = [0, code(ResponseError::UnknownTopicOrPartition), twice];
        for validate_only in [true, false] {
            let response = client.call(version, request.clone().with_validate_only(validate_only)).await;
            let codes: Vec<_> = response.results.iter().map(|result| result.error_code).collect();
            assert_eq!(codes, expected, "version {version}, validate only: {validate_only}");
        }
        for (refused, expected) in [
            (topic("t", 2), ResponseError::InvalidPartitions),
            (topic("t", 9).with_assignments(assignments), ResponseError::InvalidReplicaAssignment),
        ] {
            let response = client.call(version, CreatePartitionsRequest::default().with_topics(vec![refused])).await;
            assert_eq!(response.results[0].error_code, code(expected));
            assert!(response.results[0].error_message.is_some());
        }
    }
    let metadata = client.call(1, MetadataRequest::default().with_topics(None)).await;
    assert_eq!(metadata.topics[0].partitions.len(), 6);
    server.stop().await;
}

#[tokio::test]
async fn configs_are_replaced_as_a_whole_and_those_of_brokers_are_read_only() {
    let (server, mut client) = server(FakeBroker::new().with_topic("t", 1)).await;
    let config =
        |key: &str, value: Option<&str>| AlterableConfig::default().with_name(text(key)).with_value(value.map(text));
    let resource = |kind: i8, of: &str, configs: Vec<AlterableConfig>| {
        AlterConfigsResource::default().with_resource_type(kind).with_resource_name(text(of)).with_configs(configs)
    };
    for version in 0..=2 {
        let invalid = code(ResponseError::InvalidRequest);
        for (wanted, expected) in [
            (resource(2, "t", vec![config("flush.ms", Some("7"))]), 0),
            (resource(2, "t", vec![config("flush.ms", Some("x"))]), code(ResponseError::InvalidConfig)),
            (resource(2, "t", vec![config("flush.ms", None)]), invalid),
            (resource(2, "no", vec![]), code(ResponseError::UnknownTopicOrPartition)),
            (resource(4, "0", vec![config("num.partitions", Some("7"))]), invalid),
            (resource(4, "0", vec![]), 0),
            (resource(4, "1", vec![]), invalid),
            (resource(32, "g", vec![config("retry.max.times", Some("3"))]), 0),
            (resource(32, "g", vec![config("retry.max.times", Some("x"))]), code(ResponseError::InvalidConfig)),
            (resource(32, "g", vec![config("flush.ms", Some("7"))]), code(ResponseError::InvalidConfig)),
            (resource(16, "metrics", vec![]), invalid),
        ] {
            let response = client.call(version, AlterConfigsRequest::default().with_resources(vec![wanted])).await;
            let answer = &response.responses[0];
            assert_eq!(answer.error_code, expected, "version {version}: {answer:?}");
            assert_eq!(answer.error_message.is_some(), expected != 0);
        }
    }
    let describe = |kind: i8, of: &str| {
        let resource = DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(text(of));
        DescribeConfigsRequest::default()
            .with_resources(vec![resource.with_configuration_keys(None)])
            .with_include_synonyms(true)
    };
    let topic = client.call(4, describe(2, "t")).await;
    let set: Vec<_> =
        topic.results[0].configs.iter().filter(|c| c.config_source == 1).map(|c| c.name.as_str()).collect();
    assert_eq!(set, ["flush.ms"], "retention.ms is back at its default");
    let group = client.call(4, describe(32, "g")).await;
    let set: Vec<_> =
        group.results[0].configs.iter().filter(|c| c.config_source == 8).map(|c| c.name.as_str()).collect();
    assert_eq!((group.results[0].error_code, set), (0, vec!["retry.max.times"]));
    let broker = client.call(4, describe(4, "0")).await;
    let described: Vec<_> = broker.results[0]
        .configs
        .iter()
        .map(|c| (c.name.as_str(), c.read_only, c.config_source, c.synonyms.iter().map(|s| s.source).collect()))
        .collect();
    let expected: Vec<(&str, bool, i8, Vec<i8>)> = vec![
        ("num.partitions", true, 5, vec![5]),
        ("auto.create.topics.enable", true, 4, vec![4, 5]),
        ("broker.id", true, 4, vec![4]),
    ];
    assert_eq!(described, expected);
    server.stop().await;
}

#[tokio::test]
async fn log_dirs_and_producers_are_described() {
    let (server, mut client) = server(FakeBroker::new().with_topic("t", 2).with_topic("u", 1)).await;
    produce(&mut client, "t").await;
    for version in 1..=4 {
        let all = client.call(version, DescribeLogDirsRequest::default().with_topics(None)).await;
        let dir = &all.results[0];
        assert_eq!((dir.error_code, dir.log_dir.as_str(), dir.topics.len()), (0, "/data", 2), "version {version}");
        let sizes: Vec<_> =
            dir.topics[0].partitions.iter().map(|p| (p.partition_index, p.partition_size, p.offset_lag)).collect();
        assert_eq!(sizes, [(0, 7, 0), (1, 0, 0)]);
        assert_eq!((dir.total_bytes, dir.usable_bytes), if version >= 4 { (1_000, 400) } else { (-1, -1) });
        let topic = DescribableLogDirTopic::default().with_topic(name("t")).with_partitions(vec![1, 5]);
        let some = client.call(version, DescribeLogDirsRequest::default().with_topics(Some(vec![topic]))).await;
        let found = &some.results[0].topics;
        assert_eq!((found.len(), found[0].partitions.len(), found[0].partitions[0].partition_index), (1, 1, 1));
    }
    let topic = TopicRequest::default().with_name(name("t")).with_partition_indexes(vec![0, 9]);
    let response = client.call(0, DescribeProducersRequest::default().with_topics(vec![topic])).await;
    let [known, unknown] = &response.topics[0].partitions[..] else { panic!("{response:?}") };
    let producer = &known.active_producers[0];
    assert_eq!(
        (producer.producer_id.0, producer.producer_epoch, producer.last_sequence, producer.last_timestamp),
        (4_000, 2, 9, 77)
    );
    assert_eq!((producer.coordinator_epoch, producer.current_txn_start_offset), (-1, -1));
    assert_eq!(unknown.error_code, code(ResponseError::UnknownTopicOrPartition));
    server.stop().await;
}

#[tokio::test]
async fn leaders_are_elected_where_that_is_needed() {
    let (server, mut client) = server(FakeBroker::new().with_topic("t", 3)).await;
    let preferred =
        [(0, code(ResponseError::ElectionNotNeeded)), (1, 0), (2, code(ResponseError::PreferredLeaderNotAvailable))];
    for version in 0..=2 {
        let topic = TopicPartitions::default().with_topic(name("t")).with_partitions(vec![0, 1, 2]);
        let named = ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic]));
        for (request, expected) in
            [(named.clone(), &preferred[..]), (named.clone().with_topic_partitions(None), &preferred[1..])]
        {
            let response = client.call(version, request).await;
            let results = &response.replica_election_results[0].partition_result;
            let codes: Vec<_> = results.iter().map(|result| (result.partition_id, result.error_code)).collect();
            assert_eq!((response.error_code, &codes[..]), (0, expected), "version {version}");
        }
        if version >= 1 {
            let unclean = client.call(version, named.clone().with_election_type(1)).await;
            let result = &unclean.replica_election_results[0].partition_result[0];
            assert_eq!(result.error_code, code(ResponseError::EligibleLeadersNotAvailable));
            let unknown = client.call(version, named.with_election_type(7)).await;
            assert_eq!(unknown.error_code, code(ResponseError::InvalidRequest));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn the_system_group_is_kafkas_metadata_quorum() {
    let (server, mut client) = server(FakeBroker::new()).await;
    let topic = |topic: &str, partition: i32| {
        let partition = PartitionData::default().with_partition_index(partition);
        TopicData::default().with_topic_name(name(topic)).with_partitions(vec![partition])
    };
    for version in 0..=2 {
        let topics = vec![topic("__cluster_metadata", 0), topic("__cluster_metadata", 1), topic("t", 0)];
        let response = client.call(version, DescribeQuorumRequest::default().with_topics(topics)).await;
        assert_eq!(response.error_code, 0);
        let quorum = &response.topics[0].partitions[0];
        assert_eq!(
            (quorum.error_code, quorum.leader_id, quorum.leader_epoch, quorum.high_watermark),
            (0, BrokerId(1), 7, 90),
            "version {version}"
        );
        let ends: Vec<_> = quorum.current_voters.iter().map(|v| (v.replica_id.0, v.log_end_offset)).collect();
        assert_eq!(ends, [(0, 95), (1, 99), (2, -1)]);
        assert_eq!((quorum.observers.len(), quorum.observers[0].replica_id), (1, BrokerId(3)));
        let heard: Vec<_> = quorum.current_voters.iter().map(|v| v.last_fetch_timestamp > 0).collect();
        let caught_up: Vec<_> = quorum.current_voters.iter().map(|v| v.last_caught_up_timestamp > 0).collect();
        let has_times = version >= 1;
        assert_eq!(heard, [has_times, false, false]);
        assert_eq!(caught_up, [false, has_times, false]);
        assert_eq!(quorum.observers[0].last_caught_up_timestamp > 0, has_times);
        assert_eq!(response.nodes.len(), if version >= 2 { 3 } else { 0 });
        for unknown in &response.topics[1..] {
            assert_eq!(unknown.partitions[0].error_code, code(ResponseError::UnknownTopicOrPartition));
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn what_has_configs_is_listed_and_nothing_is_reassigned() {
    let (server, mut client) = server(FakeBroker::new().with_topic("t", 1)).await;
    let old = client.call(0, ListConfigResourcesRequest::default()).await;
    assert_eq!((old.error_code, old.config_resources.len()), (0, 0), "there are no client metrics");
    for (types, expected) in
        [(vec![], vec![(2, "t"), (4, "0"), (4, "1"), (4, "2")]), (vec![2], vec![(2, "t")]), (vec![8, 16, 32], vec![])]
    {
        let request = ListConfigResourcesRequest::default().with_resource_types(types.clone());
        let response = client.call(1, request).await;
        let listed: Vec<_> =
            response.config_resources.iter().map(|r| (r.resource_type, r.resource_name.as_str())).collect();
        assert_eq!((response.error_code, listed), (0, expected), "{types:?}");
    }
    let unknown = client.call(1, ListConfigResourcesRequest::default().with_resource_types(vec![3])).await;
    assert_eq!(unknown.error_code, code(ResponseError::UnsupportedVersion));
    let none = client.call(0, ListPartitionReassignmentsRequest::default().with_topics(None)).await;
    assert_eq!((none.error_code, none.topics.len()), (0, 0));
    server.stop().await;
}

#[tokio::test]
async fn a_reassignment_is_accepted_where_nothing_would_move() {
    let (server, mut client) = server(FakeBroker::new().with_topic("t", 1)).await;
    let topics = client.call(9, MetadataRequest::default().with_topics(None)).await.topics;
    let present = topics[0].partitions[0].replica_nodes.clone();
    let mut turned = present.clone();
    turned.reverse();
    assert!(present.len() > 1, "{present:?}");
    for version in 0..=1 {
        for (topic, partition, replicas, expected) in [
            ("t", 0, Some(present.clone()), 0),
            ("t", 0, Some(turned.clone()), code(ResponseError::InvalidReplicaAssignment)),
            ("t", 0, Some(present[..1].to_vec()), code(ResponseError::InvalidReplicaAssignment)),
            ("t", 0, Some(vec![]), code(ResponseError::InvalidReplicaAssignment)),
            ("t", 0, None, code(ResponseError::NoReassignmentInProgress)),
            ("t", 1, Some(present.clone()), code(ResponseError::UnknownTopicOrPartition)),
            ("t", -1, None, code(ResponseError::UnknownTopicOrPartition)),
            ("u", 0, None, code(ResponseError::UnknownTopicOrPartition)),
        ] {
            let wanted =
                ReassignablePartition::default().with_partition_index(partition).with_replicas(replicas.clone());
            let wanted = ReassignableTopic::default().with_name(name(topic)).with_partitions(vec![wanted]);
            let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![wanted]);
            let response = client.call(version, request).await;
            let answer = &response.responses[0].partitions[0];
            assert_eq!(response.error_code, 0);
            assert_eq!((answer.partition_index, answer.error_code), (partition, expected), "{topic} {replicas:?}");
            assert_eq!(answer.error_message.is_some(), expected != 0);
        }
    }
    server.stop().await;
}
