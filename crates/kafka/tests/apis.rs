//! Every API at its lowest and highest version, driven over a real socket with kafka-protocol's own encoders.
//!
//! Method: one server, one client per test; a broker in memory answers. Expected values are those of Kafka.

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use duolog_broker::api::{NameFilter, NameSearch};
use duolog_kafka::supported_apis;
use duolog_types::Offset;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use support::names::{name, text};
use support::{FakeBroker, TestServer};
use uuid::Uuid;

fn produce(
    version: i16,
    broker: &FakeBroker,
    topic: &str,
    partition: i32,
    records: Option<&'static [u8]>,
) -> ProduceRequest {
    let data = TopicProduceData::default().with_partition_data(vec![
        PartitionProduceData::default().with_index(partition).with_records(records.map(Bytes::from_static)),
    ]);
    let data = match version {
        13.. => data.with_topic_id(Uuid::from_bytes(broker.topic_id(topic).0)),
        _ => data.with_name(name(topic)),
    };
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1_000).with_topic_data(vec![data])
}

fn fetch(version: i16, broker: &FakeBroker, topic: &str, offset: i64) -> FetchRequest {
    let data = FetchTopic::default()
        .with_partitions(vec![FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20)]);
    let data = match version {
        13.. => data.with_topic_id(Uuid::from_bytes(broker.topic_id(topic).0)),
        _ => data.with_topic(name(topic)),
    };
    FetchRequest::default().with_max_bytes(1 << 20).with_session_epoch(-1).with_topics(vec![data])
}

#[tokio::test]
async fn api_versions_advertises_the_table_in_every_version() {
    let server = TestServer::start(FakeBroker::new()).await;
    let mut client = server.client().await;
    for version in 0..=4 {
        let request = match version {
            3.. => ApiVersionsRequest::default()
                .with_client_software_name(text("t"))
                .with_client_software_version(text("1")),
            _ => ApiVersionsRequest::default(),
        };
        let response = client.call(version, request).await;
        assert_eq!((response.error_code, response.api_keys.len()), (0, supported_apis().len()));
        let produce = response.api_keys.iter().find(|api| api.api_key == 0).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
    }
    server.stop().await;
}

#[tokio::test]
async fn metadata_by_name_by_id_all_none_and_on_first_use() {
    let broker = FakeBroker::new().with_topic("a", 2).with_topic("b", 1);
    let server = TestServer::start(broker.clone()).await;
    let mut client = server.client().await;
    for version in 0..=13 {
        let ask = |topic: &str| MetadataRequestTopic::default().with_name(Some(name(topic)));
        let may_not_create = |topics| {
            let request = MetadataRequest::default().with_topics(topics);
            if version >= 4 { request.with_allow_auto_topic_creation(false) } else { request }
        };
        let all = client.call(version, may_not_create(if version == 0 { Some(Vec::new()) } else { None })).await;
        assert_eq!((all.brokers.len(), all.topics.len()), (3, 2), "version {version}");
        let one = client.call(version, may_not_create(Some(vec![ask("a")]))).await;
        let partition = &one.topics[0].partitions[1];
        assert_eq!(
            (partition.partition_index, partition.leader_id, partition.replica_nodes.len()),
            (1, BrokerId(0), 3)
        );
        if version >= 1 {
            assert_eq!(one.controller_id, BrokerId(1));
            assert_eq!(client.call(version, may_not_create(Some(Vec::new()))).await.topics.len(), 0);
        }
        if version >= 7 {
            assert_eq!((partition.leader_epoch, &partition.offline_replicas[..]), (7, &[BrokerId(1)][..]));
        }
        if version >= 4 {
            let unknown = client.call(version, may_not_create(Some(vec![ask("c"), ask("not allowed")]))).await;
            let codes: Vec<_> = unknown.topics.iter().map(|t| t.error_code).collect();
            let expected =
                [ResponseError::UnknownTopicOrPartition, ResponseError::InvalidTopicException].map(|e| e.code());
            assert_eq!(codes, expected);
        }
        if version >= 10 {
            let by_id = |id: [u8; 16]| {
                let topic = MetadataRequestTopic::default().with_topic_id(Uuid::from_bytes(id));
                may_not_create(Some(vec![if version < 12 {
                    topic.with_name(Some(name("")))
                } else {
                    topic.with_name(None)
                }]))
            };
            if version >= 12 {
                let found = client.call(version, by_id(broker.topic_id("b").0)).await;
                assert_eq!(found.topics[0].name, Some(name("b")));
                let lost = client.call(version, by_id([77; 16])).await;
                assert_eq!(lost.topics[0].error_code, ResponseError::UnknownTopicId.code());
            }
        }
    }
    let created = client
        .call(
            13,
            MetadataRequest::default()
                .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name("new")))])),
        )
        .await;
    assert_eq!((created.topics[0].error_code, created.topics[0].partitions.len()), (0, 4));
    server.stop().await;
}

#[tokio::test]
async fn produce_and_fetch_in_every_version() {
    let broker = FakeBroker::new().with_topic("t", 1);
    let server = TestServer::start(broker.clone()).await;
    let mut client = server.client().await;
    for (offset, version) in (3..=13).enumerate() {
        let response = client.call(version, produce(version, &broker, "t", 0, Some(b"records"))).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, offset as i64), "version {version}");
        assert_eq!(partition.log_start_offset, if version >= 5 { 0 } else { -1 });
    }
    for version in 4..=18 {
        for isolation_level in [0, 1] {
            let request = fetch(version, &broker, "t", 9).with_isolation_level(isolation_level);
            let response = client.call(version, request).await;
            let partition = &response.responses[0].partitions[0];
            assert_eq!(
                (partition.error_code, partition.high_watermark, response.session_id),
                (0, 11, 0),
                "version {version}"
            );
            assert_eq!(partition.records.as_deref(), Some(&b"recordsrecords"[..]));
            assert_eq!(partition.aborted_transactions.is_some(), isolation_level == 1);
        }
        let empty = client.call(version, fetch(version, &broker, "t", 11)).await;
        assert_eq!(empty.responses[0].partitions[0].records.as_deref(), Some(&b""[..]));
        let beyond = client.call(version, fetch(version, &broker, "t", 12)).await;
        assert_eq!(beyond.responses[0].partitions[0].error_code, ResponseError::OffsetOutOfRange.code());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_fetch_session_tells_only_what_is_new() {
    let broker = FakeBroker::new().with_topic("t", 2);
    let server = TestServer::start(broker.clone()).await;
    let mut client = server.client().await;
    for (offset, version) in (0_i64..).zip([7, 12, 13, 18]) {
        let mut full = fetch(version, &broker, "t", offset).with_session_epoch(0);
        full.topics[0].partitions.push(FetchPartition::default().with_partition(1).with_partition_max_bytes(1 << 20));
        let opened = client.call(version, full).await;
        let id = opened.session_id;
        assert!(id > 0 && opened.responses[0].partitions.len() == 2, "version {version}");
        let next =
            |epoch| FetchRequest::default().with_max_bytes(1 << 20).with_session_id(id).with_session_epoch(epoch);
        let quiet = client.call(version, next(1)).await;
        assert_eq!((quiet.error_code, quiet.session_id, quiet.responses.len()), (0, id, 0));
        client.call(9, produce(9, &broker, "t", 0, Some(b"r"))).await;
        let news = client.call(version, next(2)).await;
        let told: Vec<_> = news.responses[0].partitions.iter().map(|p| (p.partition_index, &p.records)).collect();
        assert_eq!(told, [(0, &Some(Bytes::from_static(b"r")))]);
        let late = client.call(version, next(2)).await;
        assert_eq!(late.error_code, ResponseError::InvalidFetchSessionEpoch.code());
        let closed = client.call(version, next(-1)).await;
        assert_eq!((closed.error_code, closed.session_id), (0, 0));
        let lost = client.call(version, next(3)).await;
        assert_eq!((lost.error_code, lost.session_id), (ResponseError::FetchSessionIdNotFound.code(), 0));
    }
    assert!(server.metrics.render().contains("duolog_kafka_fetch_sessions 0\n"));
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_leader_names_the_right_one_from_the_versions_that_can() {
    let broker = FakeBroker::new().with_topic("elsewhere", 1);
    let server = TestServer::start(broker.clone()).await;
    let mut client = server.client().await;
    let expected = ResponseError::NotLeaderOrFollower.code();
    for version in 3..=13 {
        let response = client.call(version, produce(version, &broker, "elsewhere", 0, Some(b"r"))).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (expected, -1));
        assert_eq!(partition.error_message.is_some(), version >= 8);
        if version >= 10 {
            assert_eq!((partition.current_leader.leader_id, partition.current_leader.leader_epoch), (BrokerId(2), 7));
            assert_eq!((response.node_endpoints[0].host.as_str(), response.node_endpoints[0].port), ("node-2", 9292));
        }
    }
    for version in 4..=18 {
        let response = client.call(version, fetch(version, &broker, "elsewhere", 0)).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (expected, -1));
        if version >= 12 {
            assert_eq!((partition.current_leader.leader_id, partition.current_leader.leader_epoch), (BrokerId(2), 7));
        }
        assert_eq!(response.node_endpoints.len(), usize::from(version >= 16));
    }
    server.stop().await;
}

#[tokio::test]
async fn produce_refuses_what_kafka_refuses() {
    let broker = FakeBroker::new().with_topic("t", 1);
    let server = TestServer::start(broker.clone()).await;
    let mut client = server.client().await;
    let good = || produce(9, &broker, "t", 0, Some(b"r"));
    for (request, expected) in [
        (produce(9, &broker, "t", 0, None), ResponseError::InvalidRecord),
        (produce(9, &broker, "t", 1, Some(b"r")), ResponseError::UnknownTopicOrPartition),
        (produce(9, &broker, "no", 0, Some(b"r")), ResponseError::UnknownTopicOrPartition),
        (good().with_acks(2), ResponseError::InvalidRequiredAcks),
        (
            good().with_transactional_id(Some(TransactionalId(text("x")))),
            ResponseError::TransactionalIdAuthorizationFailed,
        ),
    ] {
        let response = client.call(9, request).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, expected.code());
    }
    assert_eq!(broker.enqueued().len(), 0);
    assert!(server.metrics.render().contains("duolog_kafka_errors_total{code=\"InvalidRequiredAcks\"} 1"));
    server.stop().await;
}

#[tokio::test]
async fn fetch_gives_a_session_to_who_asks_for_one_and_tells_divergence() {
    let broker = FakeBroker::new().with_topic("t", 1);
    let server = TestServer::start(broker.clone()).await;
    let mut client = server.client().await;
    let not_found = ResponseError::FetchSessionIdNotFound.code();
    for (session_id, session_epoch, expected) in
        [(0, -1, (0, false)), (0, 0, (0, true)), (5, 0, (0, true)), (5, -1, (0, false)), (5, 1, (not_found, false))]
    {
        let request = fetch(18, &broker, "t", 0).with_session_id(session_id).with_session_epoch(session_epoch);
        let response = client.call(18, request).await;
        let found = (response.error_code, response.session_id != 0);
        assert_eq!(found, expected, "{session_id}, {session_epoch}");
    }
    let mut request = fetch(12, &broker, "t", 0);
    request.topics[0].partitions[0].last_fetched_epoch = 8;
    let response = client.call(12, request).await;
    let diverging = &response.responses[0].partitions[0].diverging_epoch;
    assert_eq!((diverging.epoch, diverging.end_offset), (7, 0));
    server.stop().await;
}

/// Java's consumer ends when Fetch tells LEADER_NOT_AVAILABLE.
#[tokio::test]
async fn fetch_without_a_leader_says_what_consumers_try_again() {
    let broker = FakeBroker::new().with_topic("leaderless", 1);
    let server = TestServer::start(broker.clone()).await;
    let mut client = server.client().await;
    for version in 4..=18 {
        let response = client.call(version, fetch(version, &broker, "leaderless", 0)).await;
        let code = response.responses[0].partitions[0].error_code;
        assert_eq!(code, ResponseError::NotLeaderOrFollower.code(), "version {version}");
    }
    server.stop().await;
}

#[tokio::test]
async fn list_offsets_and_leader_epochs() {
    let broker = FakeBroker::new().with_topic("t", 1);
    let server = TestServer::start(broker.clone()).await;
    let mut client = server.client().await;
    client.call(9, produce(9, &broker, "t", 0, Some(b"r"))).await;
    let unsupported = ResponseError::UnsupportedVersion.code();
    for version in 1..=10 {
        for (timestamp, expected) in [
            (-1, (0, 1)),
            (-2, (0, 0)),
            (-3, if version >= 7 { (0, 0) } else { (unsupported, -1) }),
            (-4, if version >= 8 { (0, 0) } else { (unsupported, -1) }),
            (-5, if version >= 9 { (0, -1) } else { (unsupported, -1) }),
            (-6, (unsupported, -1)),
            (55, (0, 1)),
        ] {
            let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
            let topic = ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![partition]);
            let response = client.call(version, ListOffsetsRequest::default().with_topics(vec![topic])).await;
            let found = &response.topics[0].partitions[0];
            assert_eq!((found.error_code, found.offset), expected, "version {version}, timestamp {timestamp}");
        }
    }
    for version in 6..=10 {
        let search = NameSearch { from: Offset(41), name: NameFilter::of_name(b"order-7") }.encode();
        for (field, expected) in [(search.clone(), 42), (search.slice(1..), 0)] {
            let fields = BTreeMap::from([(NameSearch::FIELD, field)]);
            let partition = ListOffsetsPartition::default().with_timestamp(-2).with_unknown_tagged_fields(fields);
            let topic = ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![partition]);
            let response = client.call(version, ListOffsetsRequest::default().with_topics(vec![topic])).await;
            assert_eq!(response.topics[0].partitions[0].offset, expected, "version {version}");
        }
    }
    for version in 2..=4 {
        for (epoch, expected) in [(7, (7, 1)), (6, (-1, -1))] {
            let partition = OffsetForLeaderPartition::default().with_leader_epoch(epoch).with_current_leader_epoch(-1);
            let topic = OffsetForLeaderTopic::default().with_topic(name("t")).with_partitions(vec![partition]);
            let response = client.call(version, OffsetForLeaderEpochRequest::default().with_topics(vec![topic])).await;
            let end = &response.topics[0].partitions[0];
            assert_eq!((end.leader_epoch, end.end_offset), expected);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn producer_ids_and_coordinators() {
    let server = TestServer::start(FakeBroker::new()).await;
    let mut client = server.client().await;
    for version in 0..=5 {
        let idempotent = || InitProducerIdRequest::default().with_transactional_id(None);
        let fresh = client.call(version, idempotent()).await;
        assert_eq!((fresh.error_code, fresh.producer_id, fresh.producer_epoch), (0, ProducerId(4_000), 0));
        if version >= 3 {
            let known = idempotent().with_producer_id(ProducerId(9)).with_producer_epoch(4);
            assert_eq!(client.call(version, known).await.producer_epoch, 5);
            let half = idempotent().with_producer_id(ProducerId(9));
            assert_eq!(client.call(version, half).await.error_code, ResponseError::InvalidRequest.code());
        }
        let transactional = InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId(text("x"))));
        let refused = client.call(version, transactional).await;
        assert_eq!(refused.error_code, ResponseError::TransactionalIdAuthorizationFailed.code());
    }
    for version in 0..=3 {
        let found = client.call(version, FindCoordinatorRequest::default().with_key(text("g"))).await;
        assert_eq!((found.error_code, found.node_id, found.port), (0, BrokerId(2), 9292));
        let lost = client.call(version, FindCoordinatorRequest::default().with_key(text("lost"))).await;
        assert_eq!((lost.error_code, lost.node_id), (ResponseError::CoordinatorNotAvailable.code(), BrokerId(-1)));
        if version >= 1 {
            assert!(lost.error_message.is_some() && found.error_message.is_none());
        }
    }
    for version in 4..=6 {
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g"), text("lost")]);
        let found = client.call(version, request.clone()).await.coordinators;
        assert_eq!((found[0].error_code, found[0].key.as_str(), found[0].node_id), (0, "g", BrokerId(2)));
        assert!(found[0].error_message.is_none());
        assert_eq!(found[1].error_code, ResponseError::CoordinatorNotAvailable.code());
        let refused = client.call(version, request.with_key_type(1)).await.coordinators;
        assert_eq!(refused[0].error_code, ResponseError::TransactionalIdAuthorizationFailed.code());
    }
    server.stop().await;
}

#[tokio::test]
async fn topics_are_created_and_deleted() {
    let broker = FakeBroker::new();
    let server = TestServer::start(broker.clone()).await;
    let mut client = server.client().await;
    let topic =
        |n: &str| CreatableTopic::default().with_name(name(n)).with_num_partitions(2).with_replication_factor(-1);
    for version in 2..=7 {
        let bad_config = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("x")));
        let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(0)]);
        let request = CreateTopicsRequest::default().with_timeout_ms(1_000).with_topics(vec![
            topic("new"),
            topic("twice"),
            topic("bad").with_configs(vec![bad_config]),
            topic("twice"),
            topic("manual").with_assignments(vec![assignment]),
        ]);
        let response = client.call(version, request.clone()).await;
        let codes: Vec<_> = response.topics.iter().map(|t| (t.name.as_str(), t.error_code)).collect();
        let [invalid, config, manual] =
            [ResponseError::InvalidRequest, ResponseError::InvalidConfig, ResponseError::InvalidReplicaAssignment]
                .map(|e| e.code());
        assert_eq!(codes, [("new", 0), ("twice", invalid), ("bad", config), ("twice", invalid), ("manual", manual)]);
        if version >= 5 {
            assert_eq!((response.topics[0].num_partitions, response.topics[0].replication_factor), (2, 3));
            assert!(response.topics[0].configs.as_ref().unwrap().iter().any(|c| c.name.as_str() == "duolog.flush"));
        }
        if version >= 7 {
            assert_eq!(response.topics[0].topic_id.as_bytes(), &broker.topic_id("new").0);
        }
        let again = client.call(version, request.with_topics(vec![topic("new")])).await;
        assert_eq!(again.topics[0].error_code, ResponseError::TopicAlreadyExists.code());
        client.call(1, DeleteTopicsRequest::default().with_topic_names(vec![name("new")])).await;
    }
    for version in 1..=5 {
        client.call(7, CreateTopicsRequest::default().with_topics(vec![topic("new")])).await;
        let request = DeleteTopicsRequest::default().with_topic_names(vec![name("new"), name("no")]);
        let codes: Vec<_> = client.call(version, request).await.responses.iter().map(|r| r.error_code).collect();
        assert_eq!(codes, [0, ResponseError::UnknownTopicOrPartition.code()]);
    }
    client.call(7, CreateTopicsRequest::default().with_topics(vec![topic("new")])).await;
    let id = Uuid::from_bytes(broker.topic_id("new").0);
    let by_id = |id| DeleteTopicState::default().with_name(None).with_topic_id(id);
    let both = DeleteTopicState::default().with_name(Some(name("new"))).with_topic_id(id);
    let request = DeleteTopicsRequest::default().with_topics(vec![both, by_id(id), by_id(Uuid::from_bytes([66; 16]))]);
    let response = client.call(6, request).await.responses;
    assert_eq!(response[0].error_code, ResponseError::InvalidRequest.code());
    assert_eq!((response[1].error_code, &response[1].name), (0, &Some(name("new"))));
    assert_eq!(response[2].error_code, ResponseError::UnknownTopicId.code());
    server.stop().await;
}

#[tokio::test]
async fn configs_are_described_and_altered() {
    let server = TestServer::start(FakeBroker::new().with_topic("t", 1)).await;
    let mut client = server.client().await;
    let resource =
        |kind: i8, n: &str| DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(text(n));
    for version in 1..=4 {
        let keys = Some(vec![text("retention.ms"), text("duolog.flush")]);
        let request = DescribeConfigsRequest::default().with_include_synonyms(true).with_resources(vec![
            resource(2, "t").with_configuration_keys(keys),
            resource(2, "no").with_configuration_keys(None),
            resource(4, "0").with_configuration_keys(None),
            resource(4, "9").with_configuration_keys(None),
            resource(16, "m").with_configuration_keys(None),
        ]);
        let request = if version >= 3 { request.with_include_documentation(true) } else { request };
        let results = client.call(version, request).await.results;
        let codes: Vec<_> = results.iter().map(|r| r.error_code).collect();
        let invalid = ResponseError::InvalidRequest.code();
        assert_eq!(codes, [0, ResponseError::UnknownTopicOrPartition.code(), 0, invalid, invalid]);
        let [flush, retention] = &results[0].configs[..] else { panic!("two configs") };
        assert_eq!((flush.name.as_str(), flush.config_source, flush.synonyms.len()), ("duolog.flush", 5, 1));
        assert_eq!((retention.value.as_deref(), retention.config_source, retention.synonyms.len()), (Some("5"), 1, 2));
        assert!(results[0].error_message.is_none());
        // The decoder gives an empty text where a version has none.
        assert_eq!(retention.documentation.as_ref().is_some_and(|doc| !doc.is_empty()), version >= 3);
        assert_eq!(results[2].configs[0].value.as_deref(), Some("4"));
    }
    for version in 0..=1 {
        let alter = |kind: i8, n: &str, operation: i8, value: Option<&str>| {
            AlterConfigsResource::default().with_resource_type(kind).with_resource_name(text(n)).with_configs(vec![
                AlterableConfig::default()
                    .with_name(text("retention.ms"))
                    .with_config_operation(operation)
                    .with_value(value.map(text)),
            ])
        };
        let invalid = ResponseError::InvalidRequest.code();
        for (resource, expected) in [
            (alter(2, "t", 0, Some("77")), 0),
            (alter(2, "t", 0, Some("x")), ResponseError::InvalidConfig.code()),
            (alter(2, "t", 0, None), invalid),
            (alter(2, "t", 9, Some("1")), invalid),
            (alter(2, "no", 1, None), ResponseError::UnknownTopicOrPartition.code()),
            (alter(4, "0", 0, Some("1")), invalid),
        ] {
            let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource.clone()]);
            let response = client.call(version, request).await;
            assert_eq!(response.responses[0].error_code, expected, "{resource:?}");
            assert_eq!(response.responses[0].error_message.is_none(), expected == 0);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn the_cluster_is_described() {
    let server = TestServer::start(FakeBroker::new()).await;
    let mut client = server.client().await;
    for version in 0..=2 {
        let response = client.call(version, DescribeClusterRequest::default()).await;
        assert_eq!((response.error_code, response.brokers.len(), response.controller_id), (0, 3, BrokerId(1)));
        if version >= 1 {
            let controllers = client.call(version, DescribeClusterRequest::default().with_endpoint_type(2)).await;
            assert_eq!(controllers.error_code, ResponseError::MismatchedEndpointType.code());
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn topic_partitions_come_in_pages() {
    let server = TestServer::start(FakeBroker::new().with_topic("a", 3).with_topic("b", 2).with_topic("c", 1)).await;
    let mut client = server.client().await;
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let request = DescribeTopicPartitionsRequest::default().with_response_partition_limit(2).with_cursor(cursor);
        let response = client.call(0, request).await;
        let page: Vec<_> = response
            .topics
            .iter()
            .flat_map(|t| t.partitions.iter().map(|p| (t.name.clone().unwrap().to_string(), p.partition_index)))
            .collect();
        assert_eq!(page.len(), 2);
        seen.extend(page);
        let Some(next) = response.next_cursor else { break };
        cursor = Some(Cursor::default().with_topic_name(next.topic_name).with_partition_index(next.partition_index));
    }
    let expected = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("c", 0)].map(|(t, p)| (t.to_owned(), p));
    assert_eq!(seen, expected);
    let unknown = DescribeTopicPartitionsRequest::default()
        .with_response_partition_limit(9)
        .with_topics(vec![TopicRequest::default().with_name(name("no"))]);
    assert_eq!(client.call(0, unknown).await.topics[0].error_code, ResponseError::UnknownTopicOrPartition.code());
    server.stop().await;
}
