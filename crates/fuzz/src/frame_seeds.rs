//! A request of every API in every version, and some with more in them.

use bytes::Bytes;
use duolog_kafka::supported_apis;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request;

use crate::kafka_support::frame;
use crate::seeds::Seed;

/// Inputs of the target.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Seeds::default();
    seeds.data();
    seeds.topics();
    seeds.groups();
    seeds.administration();
    let several: Vec<u8> = seeds.0.iter().step_by(9).take(20).flat_map(|(_, frame)| frame.clone()).collect();
    seeds.0.push(("several".to_owned(), several));
    seeds.0.push(("half".to_owned(), b"\0\0\0\x20\0\x12\0\0\0\0\0\x01".to_vec()));
    seeds.0.push(("length".to_owned(), b"\x7f\xff\xff\xff".to_vec()));
    seeds.0
}

#[derive(Default)]
struct Seeds(Vec<Seed>);

fn topic() -> TopicName {
    TopicName("topic".into())
}

impl Seeds {
    /// The request in every version that has its fields.
    fn add<R: Request>(&mut self, sample: impl Fn(i16) -> R) {
        let api = supported_apis().iter().find(|api| api.key as i16 == R::KEY).expect("an API of the table");
        for version in api.version_min.max(R::VERSIONS.min)..=api.version_max_inclusive {
            let request = sample(version);
            if request.compute_size(version).is_ok() {
                let name = format!("{:?}-{version}-{}", api.key, self.0.len());
                self.0.push((name, frame(version, 1, &request).to_vec()));
            }
        }
    }

    fn data(&mut self) {
        self.add(|_| ApiVersionsRequest::default());
        self.add(|version| {
            let partition = produce_request::PartitionProduceData::default();
            let partition = partition.with_records(Some(Bytes::from_static(b"records")));
            let data = produce_request::TopicProduceData::default().with_partition_data(vec![partition; 2]);
            let data = if version < 13 { data.with_name(topic()) } else { data };
            ProduceRequest::default().with_acks(-1).with_timeout_ms(100).with_topic_data(vec![data])
        });
        self.add(|version| {
            let partition = fetch_request::FetchPartition::default().with_partition_max_bytes(1 << 20);
            let wanted = fetch_request::FetchTopic::default().with_partitions(vec![partition]);
            let wanted = if version < 13 { wanted.with_topic(topic()) } else { wanted };
            let request = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![wanted]);
            if version >= 12 { request.with_cluster_id(Some("cluster".into())) } else { request }
        });
        self.add(|_| FetchRequest::default().with_max_wait_ms(10).with_min_bytes(1).with_session_epoch(-1));
        self.add(|_| {
            let partition = list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1);
            let wanted = list_offsets_request::ListOffsetsTopic::default().with_name(topic());
            ListOffsetsRequest::default().with_topics(vec![wanted.with_partitions(vec![partition; 2])])
        });
        self.add(|_| {
            let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default();
            let wanted = offset_for_leader_epoch_request::OffsetForLeaderTopic::default().with_topic(topic());
            OffsetForLeaderEpochRequest::default().with_topics(vec![wanted.with_partitions(vec![partition])])
        });
        self.add(|_| InitProducerIdRequest::default().with_transactional_id(None));
    }

    fn topics(&mut self) {
        self.add(|_| MetadataRequest::default());
        self.add(|_| {
            let wanted = metadata_request::MetadataRequestTopic::default();
            let names = ["topic", "new", ""].map(|name| wanted.clone().with_name(Some(TopicName(name.into()))));
            MetadataRequest::default().with_topics(Some(names.to_vec()))
        });
        self.add(|_| {
            let config = create_topics_request::CreatableTopicConfig::default().with_name("retention.ms".into());
            let new = create_topics_request::CreatableTopic::default().with_name(TopicName("new".into()));
            let new = new.with_num_partitions(3).with_replication_factor(-1);
            CreateTopicsRequest::default()
                .with_topics(vec![new.with_configs(vec![config.with_value(Some("9".into()))])])
        });
        self.add(|version| match version {
            6.. => {
                let state = delete_topics_request::DeleteTopicState::default();
                DeleteTopicsRequest::default().with_topics(vec![state.with_name(Some(topic()))])
            }
            _ => DeleteTopicsRequest::default().with_topic_names(vec![topic()]),
        });
        self.add(|_| {
            let new = create_partitions_request::CreatePartitionsTopic::default().with_name(topic()).with_count(5);
            CreatePartitionsRequest::default().with_topics(vec![new.with_assignments(None)])
        });
        self.add(|_| {
            let partition = delete_records_request::DeleteRecordsPartition::default().with_offset(-1);
            let wanted = delete_records_request::DeleteRecordsTopic::default().with_name(topic());
            DeleteRecordsRequest::default().with_topics(vec![wanted.with_partitions(vec![partition])])
        });
        self.add(|_| {
            let cursor = describe_topic_partitions_request::Cursor::default().with_topic_name(topic());
            let wanted = describe_topic_partitions_request::TopicRequest::default().with_name(topic());
            let request = DescribeTopicPartitionsRequest::default().with_response_partition_limit(2);
            request.with_topics(vec![wanted]).with_cursor(Some(cursor))
        });
        self.add(|_| {
            let wanted = describe_producers_request::TopicRequest::default().with_name(topic());
            DescribeProducersRequest::default().with_topics(vec![wanted.with_partition_indexes(vec![0, 9])])
        });
    }

    fn groups(&mut self) {
        let group = || GroupId("g".into());
        self.add(|version| match version {
            4.. => FindCoordinatorRequest::default().with_coordinator_keys(vec!["g".into(), "lost".into()]),
            _ => FindCoordinatorRequest::default().with_key("g".into()),
        });
        self.add(|_| {
            let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name("range".into());
            let protocol = protocol.with_metadata(Bytes::from_static(b"m"));
            let request = JoinGroupRequest::default().with_group_id(group()).with_session_timeout_ms(10_000);
            request.with_protocol_type("consumer".into()).with_protocols(vec![protocol])
        });
        self.add(|_| {
            let assignment = sync_group_request::SyncGroupRequestAssignment::default().with_member_id("m".into());
            let request = SyncGroupRequest::default().with_group_id(group()).with_generation_id(5);
            request.with_member_id("m".into()).with_assignments(vec![assignment])
        });
        self.add(|_| HeartbeatRequest::default().with_group_id(group()).with_generation_id(5));
        self.add(|version| match version {
            3.. => {
                let member = leave_group_request::MemberIdentity::default().with_member_id("m".into());
                LeaveGroupRequest::default().with_group_id(group()).with_members(vec![member])
            }
            _ => LeaveGroupRequest::default().with_group_id(group()).with_member_id("m".into()),
        });
        self.add(|_| {
            let partition = offset_commit_request::OffsetCommitRequestPartition::default().with_committed_offset(3);
            let wanted = offset_commit_request::OffsetCommitRequestTopic::default().with_name(topic());
            let request = OffsetCommitRequest::default().with_group_id(group()).with_generation_id_or_member_epoch(5);
            request.with_topics(vec![wanted.with_partitions(vec![partition])])
        });
        self.add(|version| match version {
            8.. => {
                let wanted = offset_fetch_request::OffsetFetchRequestTopics::default().with_name(topic());
                let asked = offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(group());
                let asked = asked.with_topics(Some(vec![wanted.with_partition_indexes(vec![0, 1])]));
                OffsetFetchRequest::default().with_groups(vec![asked.clone(), asked.with_topics(None)])
            }
            _ => {
                let wanted = offset_fetch_request::OffsetFetchRequestTopic::default().with_name(topic());
                let wanted = wanted.with_partition_indexes(vec![0, 1]);
                OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![wanted]))
            }
        });
        self.add(|_| ListGroupsRequest::default());
        self.add(|_| DescribeAclsRequest::default().with_resource_name_filter(Some("topic".into())));
        self.add(|_| {
            let acl = create_acls_request::AclCreation::default().with_resource_name("topic".into());
            CreateAclsRequest::default().with_creations(vec![acl.with_principal("User:a".into()); 2])
        });
        self.add(|_| {
            DeleteAclsRequest::default().with_filters(vec![delete_acls_request::DeleteAclsFilter::default(); 2])
        });
        self.add(|_| DescribeGroupsRequest::default().with_groups(vec![group(), GroupId("none".into())]));
        self.add(|_| DeleteGroupsRequest::default().with_groups_names(vec![group(), GroupId("offsets".into())]));
        self.add(|_| {
            let partition = offset_delete_request::OffsetDeleteRequestPartition::default();
            let wanted = offset_delete_request::OffsetDeleteRequestTopic::default().with_name(topic());
            let request = OffsetDeleteRequest::default().with_group_id(group());
            request.with_topics(vec![wanted.with_partitions(vec![partition])])
        });
    }

    fn administration(&mut self) {
        self.add(|_| DescribeClusterRequest::default());
        self.add(|_| {
            let resource = describe_configs_request::DescribeConfigsResource::default().with_resource_type(2);
            let resource = resource.with_resource_name("topic".into()).with_configuration_keys(None);
            let broker = resource.clone().with_resource_type(4).with_resource_name("0".into());
            DescribeConfigsRequest::default().with_resources(vec![resource, broker])
        });
        self.add(|_| {
            let config = alter_configs_request::AlterableConfig::default().with_name("retention.ms".into());
            let resource = alter_configs_request::AlterConfigsResource::default().with_resource_type(2);
            let resource = resource.with_resource_name("topic".into());
            let config = config.with_value(Some("9".into()));
            AlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config])])
        });
        self.add(|_| {
            let config =
                incremental_alter_configs_request::AlterableConfig::default().with_name("cleanup.policy".into());
            let config = config.with_value(Some("delete".into()));
            let configs = (0..4).map(|operation| config.clone().with_config_operation(operation)).collect();
            let resource = incremental_alter_configs_request::AlterConfigsResource::default().with_resource_type(2);
            let resource = resource.with_resource_name("topic".into()).with_configs(configs);
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
        });
        self.add(|_| {
            let wanted = describe_log_dirs_request::DescribableLogDirTopic::default().with_topic(topic());
            DescribeLogDirsRequest::default().with_topics(Some(vec![wanted.with_partitions(vec![0, 1])]))
        });
        self.add(|_| {
            let wanted = elect_leaders_request::TopicPartitions::default().with_topic(topic());
            ElectLeadersRequest::default().with_topic_partitions(Some(vec![wanted.with_partitions(vec![0, 1, 2])]))
        });
        self.add(|_| {
            let partition = alter_partition_reassignments_request::ReassignablePartition::default();
            let partition = partition.with_replicas(Some(vec![BrokerId(0), BrokerId(1)]));
            let wanted = alter_partition_reassignments_request::ReassignableTopic::default().with_name(topic());
            AlterPartitionReassignmentsRequest::default().with_topics(vec![wanted.with_partitions(vec![partition])])
        });
        self.add(|_| ListPartitionReassignmentsRequest::default().with_topics(None));
        self.add(|_| {
            let partition = describe_quorum_request::PartitionData::default();
            let wanted = describe_quorum_request::TopicData::default().with_partitions(vec![partition]);
            let wanted = wanted.with_topic_name(TopicName("__cluster_metadata".into()));
            DescribeQuorumRequest::default().with_topics(vec![wanted])
        });
        self.add(|_| ListConfigResourcesRequest::default());
    }
}
