//! The one table of APIs: which versions are advertised, which are served, how requests look, who answers.
//!
//! To add an API: its file in `api/` with a `SHAPE` and a `handle`, a line in [`TABLE`], an arm in [`route`], and a
//! sample request in the tests below, which compare every shape with what kafka-protocol writes.

use std::any::Any;
use std::future::Future;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use bytes::Bytes;
use duolog_broker::Admission;
use duolog_broker::api::BrokerApi;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, Request};

use crate::api::{
    alter_configs, alter_partition_reassignments, api_versions, create_acls, create_partitions, create_topics,
    delete_acls, delete_groups, delete_records, delete_topics, describe_acls, describe_cluster, describe_configs,
    describe_groups, describe_log_dirs, describe_producers, describe_quorum, describe_topic_partitions, elect_leaders,
    fetch, find_coordinator, heartbeat, incremental_alter_configs, init_producer_id, join_group, leave_group,
    list_config_resources, list_groups, list_offsets, list_partition_reassignments, metadata, offset_commit,
    offset_delete, offset_fetch, offset_for_leader_epoch, produce, produce_legacy, sync_group,
};
use crate::context::Context;
use crate::head::{Caller, Head};
use crate::response::{self, Answer, CloseReason};
use crate::shape::{self, Shape};

/// An API as ApiVersions advertises it.
#[derive(Debug, Clone, Copy)]
pub struct SupportedApi {
    /// Its key.
    pub key: ApiKey,
    /// Lowest version.
    pub version_min: i16,
    /// Highest version.
    pub version_max_inclusive: i16,
    shape: &'static Shape,
}

/// Number of APIs in the table.
pub(crate) const API_COUNT: usize = TABLE.len();

const TABLE: &[SupportedApi] = &[
    // librdkafka's feature detection wants Produce from 0; versions 0 to 2 are answered with an error.
    api(ApiKey::Produce, 0, 13, &produce::SHAPE),
    api(ApiKey::Fetch, 4, 18, &fetch::SHAPE),
    api(ApiKey::ListOffsets, 1, 10, &list_offsets::SHAPE),
    api(ApiKey::Metadata, 0, 13, &metadata::SHAPE),
    // kafka-protocol 0.18 has no later requests of these two.
    api(ApiKey::OffsetCommit, 2, 9, &offset_commit::SHAPE),
    api(ApiKey::OffsetFetch, 1, 9, &offset_fetch::SHAPE),
    api(ApiKey::FindCoordinator, 0, 6, &find_coordinator::SHAPE),
    api(ApiKey::JoinGroup, 0, 9, &join_group::SHAPE),
    api(ApiKey::Heartbeat, 0, 4, &heartbeat::SHAPE),
    api(ApiKey::LeaveGroup, 0, 5, &leave_group::SHAPE),
    api(ApiKey::SyncGroup, 0, 5, &sync_group::SHAPE),
    api(ApiKey::DescribeGroups, 0, 6, &describe_groups::SHAPE),
    api(ApiKey::ListGroups, 0, 5, &list_groups::SHAPE),
    api(ApiKey::ApiVersions, 0, 4, &api_versions::SHAPE),
    api(ApiKey::CreateTopics, 2, 7, &create_topics::SHAPE),
    api(ApiKey::DeleteTopics, 1, 6, &delete_topics::SHAPE),
    api(ApiKey::DeleteRecords, 0, 2, &delete_records::SHAPE),
    api(ApiKey::InitProducerId, 0, 5, &init_producer_id::SHAPE),
    api(ApiKey::OffsetForLeaderEpoch, 2, 4, &offset_for_leader_epoch::SHAPE),
    api(ApiKey::DescribeAcls, 1, 3, &describe_acls::SHAPE),
    api(ApiKey::CreateAcls, 1, 3, &create_acls::SHAPE),
    api(ApiKey::DeleteAcls, 1, 3, &delete_acls::SHAPE),
    api(ApiKey::DescribeConfigs, 1, 4, &describe_configs::SHAPE),
    api(ApiKey::AlterConfigs, 0, 2, &alter_configs::SHAPE),
    // Later versions of these two are not in kafka-protocol 0.18 either.
    api(ApiKey::DescribeLogDirs, 1, 4, &describe_log_dirs::SHAPE),
    api(ApiKey::DeleteGroups, 0, 2, &delete_groups::SHAPE),
    api(ApiKey::CreatePartitions, 0, 3, &create_partitions::SHAPE),
    api(ApiKey::ElectLeaders, 0, 2, &elect_leaders::SHAPE),
    api(ApiKey::IncrementalAlterConfigs, 0, 1, &incremental_alter_configs::SHAPE),
    api(ApiKey::AlterPartitionReassignments, 0, 1, &alter_partition_reassignments::SHAPE),
    api(ApiKey::ListPartitionReassignments, 0, 0, &list_partition_reassignments::SHAPE),
    api(ApiKey::OffsetDelete, 0, 0, &offset_delete::SHAPE),
    api(ApiKey::DescribeQuorum, 0, 2, &describe_quorum::SHAPE),
    api(ApiKey::DescribeCluster, 0, 2, &describe_cluster::SHAPE),
    api(ApiKey::DescribeProducers, 0, 0, &describe_producers::SHAPE),
    api(ApiKey::ListConfigResources, 0, 1, &list_config_resources::SHAPE),
    api(ApiKey::DescribeTopicPartitions, 0, 0, &describe_topic_partitions::SHAPE),
];

const fn api(key: ApiKey, version_min: i16, version_max_inclusive: i16, shape: &'static Shape) -> SupportedApi {
    SupportedApi { key, version_min, version_max_inclusive, shape }
}

/// Every API that is advertised, and nothing else is.
#[must_use]
pub fn supported_apis() -> &'static [SupportedApi] {
    TABLE
}

/// An API's name for metrics.
pub(crate) fn api_name(index: usize) -> String {
    format!("{:?}", TABLE[index].key)
}

/// An answer that is being computed.
pub(crate) type Pending = Pin<Box<dyn Future<Output = Result<Answer, CloseReason>> + Send>>;

/// Decodes a request and gives the place of its API, for metrics, and the future of its answer. Nothing of the request was done before the future's first poll;
/// Produce is enqueued within it.
///
/// `share` is the request's share of the budget. A request that may wait for others for long takes it along and gives it back when it has
/// let go of its frame; that of any other request is to be held until it is answered.
///
/// # Errors
/// Whatever Kafka closes a connection for: an unknown API, a version that is not served, bytes that are no request.
/// Kafka answers none of them either, since the client could not know in which version to read the answer.
pub(crate) fn dispatch<B: BrokerApi>(
    context: &Context<B>,
    peer: IpAddr,
    frame: Bytes,
    share: &mut Option<Admission>,
) -> Result<(usize, Pending), CloseReason> {
    let head = Head::read(&frame).ok_or_else(|| CloseReason("request is shorter than a request head".to_owned()))?;
    let (index, api) = TABLE
        .iter()
        .enumerate()
        .find(|(_, api)| api.key as i16 == head.api_key)
        .ok_or_else(|| CloseReason(format!("API key {} is not supported", head.api_key)))?;
    context.metrics.count_request(index);
    if !(api.version_min..=api.version_max_inclusive).contains(&head.version) {
        return Ok((index, refuse_version(context, head, api)?));
    }
    let caller = Caller::read(peer, &frame);
    let body = checked_body(head, api, frame)?;
    let routed = catch_unwind(AssertUnwindSafe(|| route(context, head, api.key, caller, body, share)));
    let pending = routed.unwrap_or_else(|panic| {
        tracing::error!(api = ?api.key, version = head.version, panic = panic_text(&*panic), "decoding a request panicked");
        Err(CloseReason(format!("decoding {:?} version {} panicked", api.key, head.version)))
    })?;
    Ok((index, pending))
}

fn route<B: BrokerApi>(
    context: &Context<B>,
    head: Head,
    api: ApiKey,
    caller: Caller,
    body: Bytes,
    share: &mut Option<Admission>,
) -> Result<Pending, CloseReason> {
    let (context, version) = (context.clone(), head.version);
    match api {
        ApiKey::Produce if version < produce_legacy::VERSIONS_END => produce_legacy::refuse(&context, head, &body),
        ApiKey::Produce => {
            let frame_bytes = body.len();
            let request = decode(head, body)?;
            Ok(Box::pin(produce::handle(context, head, request, frame_bytes)))
        }
        ApiKey::Fetch => {
            let request = decode(head, body)?;
            Ok(Box::pin(fetch::handle(context, head, request, share.take())))
        }
        ApiKey::ListOffsets => answer(head, body, |r| list_offsets::handle(context, version, r)),
        ApiKey::Metadata => answer(head, body, |r| metadata::handle(context, version, r)),
        ApiKey::FindCoordinator => answer(head, body, |r| find_coordinator::handle(context, version, r)),
        ApiKey::OffsetCommit => answer(head, body, |r| offset_commit::handle(context, version, caller, r)),
        ApiKey::OffsetFetch => answer(head, body, |r| offset_fetch::handle(context, version, caller, r)),
        ApiKey::JoinGroup => answer(head, body, |r| join_group::handle(context, version, caller, r, share.take())),
        ApiKey::Heartbeat => answer(head, body, |r| heartbeat::handle(context, version, caller, r)),
        ApiKey::LeaveGroup => answer(head, body, |r| leave_group::handle(context, version, caller, r)),
        ApiKey::SyncGroup => answer(head, body, |r| sync_group::handle(context, version, caller, r, share.take())),
        ApiKey::ApiVersions => answer(head, body, |r| api_versions::handle(context, version, r)),
        ApiKey::CreateTopics => answer(head, body, |r| create_topics::handle(context, version, r)),
        ApiKey::DeleteTopics => answer(head, body, |r| delete_topics::handle(context, version, r)),
        ApiKey::InitProducerId => answer(head, body, |r| init_producer_id::handle(context, version, r)),
        ApiKey::OffsetForLeaderEpoch => answer(head, body, |r| offset_for_leader_epoch::handle(context, version, r)),
        ApiKey::DescribeAcls => answer(head, body, |r| describe_acls::handle(context, version, r)),
        ApiKey::CreateAcls => answer(head, body, |r| create_acls::handle(context, version, r)),
        ApiKey::DeleteAcls => answer(head, body, |r| delete_acls::handle(context, version, r)),
        ApiKey::DescribeConfigs => answer(head, body, |r| describe_configs::handle(context, version, r)),
        ApiKey::IncrementalAlterConfigs => {
            answer(head, body, |r| incremental_alter_configs::handle(context, version, r))
        }
        ApiKey::DescribeCluster => answer(head, body, |r| describe_cluster::handle(context, version, r)),
        ApiKey::DescribeTopicPartitions => {
            answer(head, body, |r| describe_topic_partitions::handle(context, version, r))
        }
        ApiKey::DescribeGroups => answer(head, body, |r| describe_groups::handle(context, version, r)),
        ApiKey::ListGroups => answer(head, body, |r| list_groups::handle(context, version, r)),
        ApiKey::DeleteRecords => answer(head, body, |r| delete_records::handle(context, version, r)),
        ApiKey::AlterConfigs => answer(head, body, |r| alter_configs::handle(context, version, r)),
        ApiKey::DescribeLogDirs => answer(head, body, |r| describe_log_dirs::handle(context, version, r)),
        ApiKey::DeleteGroups => answer(head, body, |r| delete_groups::handle(context, version, r)),
        ApiKey::CreatePartitions => answer(head, body, |r| create_partitions::handle(context, version, r)),
        ApiKey::ElectLeaders => answer(head, body, |r| elect_leaders::handle(context, version, r)),
        ApiKey::AlterPartitionReassignments => {
            answer(head, body, |r| alter_partition_reassignments::handle(context, version, r))
        }
        ApiKey::ListPartitionReassignments => {
            answer(head, body, |r| list_partition_reassignments::handle(context, version, r))
        }
        ApiKey::OffsetDelete => answer(head, body, |r| offset_delete::handle(context, version, r)),
        ApiKey::DescribeQuorum => answer(head, body, |r| describe_quorum::handle(context, version, r)),
        ApiKey::DescribeProducers => answer(head, body, |r| describe_producers::handle(context, version, r)),
        ApiKey::ListConfigResources => answer(head, body, |r| list_config_resources::handle(context, version, r)),
        other => Err(CloseReason(format!("{other:?} is in the table of APIs but has no handler"))),
    }
}

fn answer<R, F>(head: Head, body: Bytes, handle: impl FnOnce(R) -> F) -> Result<Pending, CloseReason>
where
    R: Request,
    F: Future<Output = R::Response> + Send + 'static,
{
    let response = handle(decode(head, body)?);
    Ok(Box::pin(async move { response::encode(head, head.version, &response.await) }))
}

fn decode<R: Decodable>(head: Head, mut body: Bytes) -> Result<R, CloseReason> {
    R::decode(&mut body, head.version).map_err(|error| CloseReason(format!("{}: {error}", described(head))))
}

fn checked_body(head: Head, api: &SupportedApi, frame: Bytes) -> Result<Bytes, CloseReason> {
    let reason = |error| CloseReason(format!("{}: {error}", described(head)));
    let body = frame.slice(head.body_position(api.key, &frame).map_err(reason)?..);
    shape::check(api.shape, head.version, &body).map_err(reason)?;
    Ok(body)
}

fn refuse_version<B: BrokerApi>(context: &Context<B>, head: Head, api: &SupportedApi) -> Result<Pending, CloseReason> {
    match api.key {
        ApiKey::ApiVersions => {
            let response = api_versions::unsupported_version(context);
            Ok(Box::pin(std::future::ready(response::encode(head, 0, &response))))
        }
        _ => Err(CloseReason(format!(
            "{} is not supported; versions {} to {} are",
            described(head),
            api.version_min,
            api.version_max_inclusive
        ))),
    }
}

fn described(head: Head) -> String {
    match ApiKey::try_from(head.api_key) {
        Ok(api) => format!("{api:?} version {}", head.version),
        Err(()) => format!("API key {} version {}", head.api_key, head.version),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::create_acls_request::AclCreation;
    use kafka_protocol::messages::create_topics_request::{
        CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
    };
    use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
    use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
    use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
    use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
    use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
    use kafka_protocol::messages::leave_group_request::MemberIdentity;
    use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
    use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    use kafka_protocol::messages::offset_fetch_request::{
        OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    };
    use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
    use kafka_protocol::messages::*;
    use kafka_protocol::protocol::Encodable;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// Random changes per sample and version.
    const MUTATIONS: usize = 400;

    #[test]
    fn the_documented_apis_are_the_advertised_ones() {
        let documented = include_str!("../../../docs/kafka.md").lines().filter_map(|line| {
            let (name, versions) = line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ")?;
            versions
                .chars()
                .all(|c| c.is_ascii_digit() || " to".contains(c))
                .then_some((name.to_owned(), versions.to_owned()))
        });
        let versions = |api: &SupportedApi| match (api.version_min, api.version_max_inclusive) {
            (min, max) if min == max => min.to_string(),
            (min, max) => format!("{min} to {max}"),
        };
        let advertised = TABLE.iter().map(|api| (format!("{:?}", api.key), versions(api)));
        assert_eq!(documented.collect::<Vec<_>>(), advertised.collect::<Vec<_>>());
    }

    /// The shape takes exactly what kafka-protocol writes, not a byte less; and what it takes of damaged requests never
    /// makes the decoder panic.
    fn check<R: Request>(sample: impl Fn(i16) -> R) {
        let api = TABLE.iter().find(|api| api.key as i16 == R::KEY).expect("an API of the table");
        let seed = rand::random();
        let mut random = StdRng::seed_from_u64(seed);
        for version in api.version_min.max(R::VERSIONS.min)..=api.version_max_inclusive {
            let mut body = BytesMut::new();
            sample(version)
                .encode(&mut body, version)
                .unwrap_or_else(|e| panic!("{:?} version {version}: {e}", api.key));
            assert_eq!(shape::check(api.shape, version, &body), Ok(()), "{:?} version {version}", api.key);
            if let Some((_, shorter)) = body.split_last() {
                assert!(
                    shape::check(api.shape, version, shorter).is_err(),
                    "{:?} version {version}: too short a shape",
                    api.key
                );
            }
            for _ in 0..MUTATIONS {
                let mut damaged = body.to_vec();
                for _ in 0..random.random_range(1..4) {
                    let length = damaged.len();
                    if length > 0 {
                        damaged[random.random_range(0..length)] =
                            *[0, 1, 2, 0x7f, 0x80, 0xff].get(random.random_range(0..6)).unwrap();
                    }
                }
                if shape::check(api.shape, version, &damaged).is_ok() {
                    let decoded = catch_unwind(|| R::decode(&mut Bytes::from(damaged.clone()), version).is_ok());
                    assert!(
                        decoded.is_ok(),
                        "{:?} version {version}, seed {seed}: {damaged:?} makes the decoder panic",
                        api.key
                    );
                }
            }
        }
    }

    #[test]
    fn every_shape_is_what_kafka_protocol_writes() {
        check(|version| {
            let partition =
                PartitionProduceData::default().with_index(3).with_records(Some(Bytes::from_static(b"records")));
            let topic = TopicProduceData::default().with_partition_data(vec![partition]);
            let topic = if version < 13 { topic.with_name(TopicName("topic".into())) } else { topic };
            ProduceRequest::default().with_topic_data(vec![topic.clone(), topic])
        });
        check(fetch_sample);
        check(|_| {
            let topic = ListOffsetsTopic::default().with_partitions(vec![ListOffsetsPartition::default(); 2]);
            ListOffsetsRequest::default().with_topics(vec![topic; 2])
        });
        check(|_| {
            let topic = MetadataRequestTopic::default().with_name(Some(TopicName("topic".into())));
            MetadataRequest::default().with_topics(Some(vec![topic; 2]))
        });
        check(|version| match version {
            4.. => FindCoordinatorRequest::default().with_coordinator_keys(vec!["a".into(), "b".into()]),
            _ => FindCoordinatorRequest::default().with_key("a".into()),
        });
        check(|_| ApiVersionsRequest::default());
        check(|_| {
            let topic = CreatableTopic::default()
                .with_name(TopicName("topic".into()))
                .with_assignments(vec![CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1); 3]); 2])
                .with_configs(vec![CreatableTopicConfig::default().with_name("a".into()).with_value(None)]);
            CreateTopicsRequest::default().with_topics(vec![topic; 2])
        });
        check(|version| match version {
            6.. => DeleteTopicsRequest::default().with_topics(vec![DeleteTopicState::default(); 2]),
            _ => DeleteTopicsRequest::default().with_topic_names(vec![TopicName("topic".into()); 2]),
        });
        check(|_| InitProducerIdRequest::default().with_transactional_id(None));
        check_groups();
        check(|_| {
            let topic = OffsetForLeaderTopic::default().with_partitions(vec![OffsetForLeaderPartition::default(); 2]);
            OffsetForLeaderEpochRequest::default().with_topics(vec![topic; 2])
        });
        check(|_| {
            let keys = Some(vec!["a".into(), "b".into()]);
            let resource = DescribeConfigsResource::default().with_configuration_keys(keys);
            DescribeConfigsRequest::default().with_resources(vec![resource; 2])
        });
        check(|_| {
            let resource = AlterConfigsResource::default().with_configs(vec![AlterableConfig::default(); 2]);
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource; 2])
        });
        check(|_| DescribeClusterRequest::default());
        check_administration();
        check(|_| {
            DescribeTopicPartitionsRequest::default()
                .with_topics(vec![TopicRequest::default(); 2])
                .with_cursor(Some(Cursor::default().with_topic_name(TopicName("topic".into()))))
        });
    }

    fn check_administration() {
        check(|_| {
            let partition = delete_records_request::DeleteRecordsPartition::default();
            let topic = delete_records_request::DeleteRecordsTopic::default()
                .with_partitions(vec![partition.clone(), partition]);
            DeleteRecordsRequest::default().with_topics(vec![topic.clone(), topic])
        });
        check(|_| {
            let config = alter_configs_request::AlterableConfig::default().with_value(None);
            let resource = alter_configs_request::AlterConfigsResource::default().with_configs(vec![config]);
            AlterConfigsRequest::default().with_resources(vec![resource.clone(), resource])
        });
        check(|_| {
            let topic = describe_log_dirs_request::DescribableLogDirTopic::default().with_partitions(vec![1, 2]);
            DescribeLogDirsRequest::default().with_topics(Some(vec![topic.clone(), topic]))
        });
        check(|_| {
            let assignment = create_partitions_request::CreatePartitionsAssignment::default();
            let assignment = assignment.with_broker_ids(vec![BrokerId(1); 3]);
            let topic = create_partitions_request::CreatePartitionsTopic::default();
            let manual = topic.clone().with_assignments(Some(vec![assignment.clone(), assignment]));
            CreatePartitionsRequest::default().with_topics(vec![manual, topic.with_assignments(None)])
        });
        check(|_| {
            let topic = elect_leaders_request::TopicPartitions::default().with_partitions(vec![1, 2]);
            ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic.clone(), topic]))
        });
        check(|_| {
            let partition = alter_partition_reassignments_request::ReassignablePartition::default();
            let kept = partition.clone().with_replicas(Some(vec![BrokerId(1); 3]));
            let topic = alter_partition_reassignments_request::ReassignableTopic::default();
            let topic = topic.with_partitions(vec![kept, partition.with_replicas(None)]);
            AlterPartitionReassignmentsRequest::default().with_topics(vec![topic.clone(), topic])
        });
        check(|_| {
            let topic = list_partition_reassignments_request::ListPartitionReassignmentsTopics::default();
            let topic = topic.with_partition_indexes(vec![1, 2]);
            ListPartitionReassignmentsRequest::default().with_topics(Some(vec![topic.clone(), topic]))
        });
        check(|_| {
            let partition = describe_quorum_request::PartitionData::default();
            let topic = describe_quorum_request::TopicData::default().with_partitions(vec![partition]);
            DescribeQuorumRequest::default().with_topics(vec![topic.clone(), topic])
        });
        check(|_| {
            let topic = describe_producers_request::TopicRequest::default().with_partition_indexes(vec![1, 2]);
            DescribeProducersRequest::default().with_topics(vec![topic.clone(), topic])
        });
        check(|version| {
            let request = ListConfigResourcesRequest::default();
            if version >= 1 { request.with_resource_types(vec![2, 4]) } else { request }
        });
    }

    fn check_groups() {
        check(|version| {
            let request = ListGroupsRequest::default();
            let request = if version >= 4 { request.with_states_filter(vec!["Empty".into()]) } else { request };
            if version >= 5 { request.with_types_filter(vec!["classic".into(), "consumer".into()]) } else { request }
        });
        check(|_| DescribeGroupsRequest::default().with_groups(vec![GroupId("a".into()), GroupId("b".into())]));
        check(|_| DeleteGroupsRequest::default().with_groups_names(vec![GroupId("a".into()), GroupId("b".into())]));
        check(|_| {
            let partition = offset_delete_request::OffsetDeleteRequestPartition::default();
            let topic = offset_delete_request::OffsetDeleteRequestTopic::default();
            let topic = topic.with_partitions(vec![partition.clone(), partition]);
            OffsetDeleteRequest::default().with_topics(vec![topic.clone(), topic])
        });
        check(|version| {
            let protocol = JoinGroupRequestProtocol::default().with_name("range".into()).with_metadata("m".into());
            let request =
                JoinGroupRequest::default().with_group_id(GroupId("g".into())).with_protocols(vec![protocol; 2]);
            let request = if version >= 5 { request.with_group_instance_id(Some("i".into())) } else { request };
            if version >= 8 { request.with_reason(Some("why".into())) } else { request }
        });
        check(|version| {
            let assignment =
                SyncGroupRequestAssignment::default().with_member_id("m".into()).with_assignment("a".into());
            let request = SyncGroupRequest::default().with_assignments(vec![assignment; 2]);
            if version >= 5 { request.with_protocol_name(Some("range".into())) } else { request }
        });
        check(|_| HeartbeatRequest::default().with_member_id("m".into()));
        check(|_| DescribeAclsRequest::default().with_resource_name_filter(Some("t".into())));
        check(|_| CreateAclsRequest::default().with_creations(vec![AclCreation::default(); 2]));
        check(|_| DeleteAclsRequest::default().with_filters(vec![DeleteAclsFilter::default(); 2]));
        check(|version| match version {
            3.. => LeaveGroupRequest::default().with_members(vec![MemberIdentity::default(); 2]),
            _ => LeaveGroupRequest::default().with_member_id("m".into()),
        });
        check(|_| {
            let partition = OffsetCommitRequestPartition::default().with_committed_metadata(None);
            let topic = OffsetCommitRequestTopic::default().with_partitions(vec![partition; 2]);
            OffsetCommitRequest::default().with_topics(vec![topic; 2])
        });
        check(|version| match version {
            8.. => {
                let topic = OffsetFetchRequestTopics::default().with_partition_indexes(vec![1, 2]);
                let group = OffsetFetchRequestGroup::default().with_topics(Some(vec![topic; 2]));
                OffsetFetchRequest::default().with_groups(vec![group.clone(), group.with_topics(None)])
            }
            _ => {
                let topic = OffsetFetchRequestTopic::default().with_partition_indexes(vec![1, 2]);
                OffsetFetchRequest::default().with_topics(Some(vec![topic; 2]))
            }
        });
    }

    /// With every tagged field that its version has.
    fn fetch_sample(version: i16) -> FetchRequest {
        let mut partition = FetchPartition::default();
        if version >= 17 {
            partition.replica_directory_id = uuid::Uuid::from_bytes([5; 16]);
        }
        if version >= 18 {
            partition.high_watermark = 77;
        }
        let mut request =
            FetchRequest::default().with_topics(vec![FetchTopic::default().with_partitions(vec![partition; 2]); 2]);
        if version >= 7 {
            request.forgotten_topics_data = vec![ForgottenTopic::default().with_partitions(vec![1, 2])];
        }
        if version >= 12 {
            request.cluster_id = Some("cluster".into());
        }
        if version >= 15 {
            request.replica_state = ReplicaState::default().with_replica_epoch(9);
        }
        request
    }

    #[test]
    fn records_of_a_produce_request_are_slices_of_its_frame() {
        let records = PartitionProduceData::default().with_records(Some(Bytes::from_static(b"records")));
        let topic = TopicProduceData::default().with_partition_data(vec![records]);
        let mut body = BytesMut::new();
        ProduceRequest::default().with_topic_data(vec![topic]).encode(&mut body, 9).unwrap();
        let body = body.freeze();
        let head = Head { api_key: 0, version: 9, correlation_id: 0 };
        let request: ProduceRequest = decode(head, body.clone()).unwrap();
        let records = request.topic_data[0].partition_data[0].records.as_ref().unwrap();
        assert!(body.as_ptr_range().contains(&records.as_ptr()), "the records were copied");
    }
}
