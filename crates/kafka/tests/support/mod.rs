//! A broker in memory, and in [`client`] a server and a client.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

mod access;
mod client;
mod fetch;
pub mod names;
mod samples;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use duolog_broker::api::{
    AckLease, BrokerApi, BrokerConfigValue, ClusterView, CommittedOffset, ConfigChange, ConfigEdit, CreatedTopic,
    Elected, Election, EpochCheck, EpochEnd, Fetch, Fetched, FoundOffset, GroupDescription, GroupError, GroupId,
    GroupListing, GroupOffset, HeartbeatRequest, ItemResult, JoinRefusal, JoinReply, JoinRequest, JoinedMember,
    LeaveRequest, LogDirView, MemberId, NewPartitions, NewTopic, NodeView, OffsetCommits, OffsetQuery, PartitionSize,
    PartitionView, ProducePartition, Produced, ProducerIdentity, ProducerView, QuorumReplica, QuorumView, SyncReply,
    SyncRequest, TopicRef, TopicView,
};
use duolog_broker::{Admission, BrokerError};
use duolog_types::{
    Acl, BrokerGroupId, Durability, GroupConfig, LeaderEpoch, NodeId, Offset, ProducerEpoch, ProducerId, Term,
    TimestampMs, TopicConfig, TopicId,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

pub use client::{Client, TestServer, frame};

/// More partitions than this are refused: a request that asks for a billion of them must not fill the memory.
const PARTITIONS_MAX: i32 = 1_000;

/// A topic and the record sets of its partitions; one record set counts as one offset.
struct FakeTopic {
    view: TopicView,
    partitions: Vec<Vec<Bytes>>,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<String, FakeTopic>,
    enqueued: Vec<Bytes>,
    next_id: u8,
    /// By group, topic and partition.
    committed: BTreeMap<(GroupId, String, i32), CommittedOffset>,
    joins: Vec<JoinRequest>,
    group_configs: BTreeMap<GroupId, GroupConfig>,
    acls: BTreeSet<Acl>,
}

/// Node 0 of three, all topics led here, except those whose name begins with "elsewhere": node 2 leads them.
#[derive(Clone)]
pub struct FakeBroker {
    state: Arc<Mutex<State>>,
    appended: Arc<Notify>,
    /// A produce is acknowledged when it gets a permit.
    pub acks: Arc<Semaphore>,
    /// Whether it leads for sure: every acknowledgement rests on it.
    pub leads: Arc<AtomicBool>,
}

impl FakeBroker {
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            appended: Arc::default(),
            acks: Arc::new(Semaphore::new(1 << 20)),
            leads: Arc::new(AtomicBool::new(true)),
        }
    }

    pub fn with_topic(self, name: &str, partitions: u32) -> Self {
        self.create(name, partitions);
        self
    }

    /// Record sets in the order in which they were enqueued.
    pub fn enqueued(&self) -> Vec<Bytes> {
        self.state.lock().enqueued.clone()
    }

    /// JoinGroup requests as they came.
    pub fn joins(&self) -> Vec<JoinRequest> {
        self.state.lock().joins.clone()
    }

    pub fn topic_id(&self, name: &str) -> TopicId {
        self.state.lock().topics[name].view.id
    }

    fn create(&self, name: &str, partitions: u32) -> TopicView {
        let mut state = self.state.lock();
        state.next_id = state.next_id.wrapping_add(1);
        let leader = if name.starts_with("elsewhere") { NodeId(2) } else { NodeId(0) };
        let view = TopicView {
            name: name.to_owned(),
            id: TopicId([state.next_id; 16]),
            partitions: (0..partitions)
                .map(|partition| PartitionView {
                    partition,
                    broker_group: BrokerGroupId(1),
                    leader: Some(leader),
                    leader_epoch: LeaderEpoch(7),
                    replicas: vec![NodeId(0), NodeId(1), NodeId(2)],
                    in_sync_replicas: vec![NodeId(0), NodeId(2)],
                })
                .collect(),
            config: TopicConfig::new([("retention.ms", "5")]).unwrap(),
        };
        let topic = FakeTopic { view: view.clone(), partitions: vec![Vec::new(); partitions as usize] };
        state.topics.insert(name.to_owned(), topic);
        view
    }

    fn with_partition<T>(
        &self,
        topic: &TopicRef,
        partition: i32,
        f: impl FnOnce(&mut Vec<Bytes>) -> ItemResult<T>,
    ) -> ItemResult<T> {
        let name = self.topic(topic)?.name;
        if name.starts_with("elsewhere") {
            return Err(BrokerError::NotLeader { leader: Some(NodeId(2)), epoch: Some(LeaderEpoch(7)) });
        }
        if name.starts_with("leaderless") {
            return Err(BrokerError::LeaderNotAvailable);
        }
        let mut state = self.state.lock();
        let records =
            state.topics.get_mut(&name).unwrap().partitions.get_mut(usize::try_from(partition).unwrap_or(usize::MAX));
        f(records.ok_or(BrokerError::UnknownPartition { topic: name, partition })?)
    }
}

fn node(id: u64) -> NodeView {
    NodeView {
        id: NodeId(id),
        host: format!("node-{id}"),
        kafka_port: 9092 + 100 * id as u16,
        rocketmq_port: 0,
        http_port: 0,
    }
}

/// Groups whose name begins with "elsewhere" are coordinated there; the coordinator of "loading" is not ready yet.
fn elsewhere(group: &GroupId) -> ItemResult<()> {
    match group.0.as_str() {
        "loading" => Err(BrokerError::CoordinatorLoading),
        name if name.starts_with("elsewhere") => Err(BrokerError::NotCoordinator),
        _ => Ok(()),
    }
}

/// Every group is in generation 5.
fn check_generation(group: &GroupId, generation: i32) -> ItemResult<()> {
    elsewhere(group)?;
    if generation == 5 { Ok(()) } else { Err(GroupError::IllegalGeneration.into()) }
}

impl BrokerApi for FakeBroker {
    fn node_id(&self) -> NodeId {
        NodeId(0)
    }

    fn cluster(&self) -> ClusterView {
        ClusterView {
            cluster_id: "fake".to_owned(),
            nodes: vec![node(0), node(1), node(2)],
            controller: Some(NodeId(1)),
        }
    }

    fn topics(&self) -> Vec<TopicView> {
        self.state.lock().topics.values().map(|topic| topic.view.clone()).collect()
    }

    fn topic(&self, topic: &TopicRef) -> ItemResult<TopicView> {
        let state = self.state.lock();
        match topic {
            TopicRef::Name(name) => {
                state.topics.get(name).map(|t| t.view.clone()).ok_or_else(|| BrokerError::UnknownTopic(name.clone()))
            }
            TopicRef::Id(id) => state
                .topics
                .values()
                .find(|t| t.view.id == *id)
                .map(|t| t.view.clone())
                .ok_or(BrokerError::UnknownTopicId(*id)),
        }
    }

    fn auto_create_topics(&self) -> bool {
        true
    }

    fn broker_configs(&self) -> Vec<BrokerConfigValue> {
        vec![
            BrokerConfigValue { name: "num.partitions", value: "4".to_owned(), default: Some("4".to_owned()) },
            BrokerConfigValue {
                name: "auto.create.topics.enable",
                value: "true".to_owned(),
                default: Some("false".to_owned()),
            },
            BrokerConfigValue { name: "broker.id", value: "0".to_owned(), default: None },
        ]
    }

    async fn create_topics(&self, topics: Vec<NewTopic>, _: i32, validate_only: bool) -> Vec<ItemResult<CreatedTopic>> {
        tokio::task::yield_now().await;
        topics
            .into_iter()
            .map(|topic| {
                if !topic.assignments.is_empty() {
                    return Err(BrokerError::InvalidReplicaAssignment("assignment is not yours".to_owned()));
                }
                if self.topic(&TopicRef::Name(topic.name.clone())).is_ok() {
                    return Err(BrokerError::TopicExists(topic.name));
                }
                let configs = topic.configs.into_iter().filter_map(|(key, value)| Some((key, value?)));
                let config = TopicConfig::new(configs).map_err(|e| BrokerError::InvalidConfig(e.to_string()))?;
                let partitions = topic.partitions.unwrap_or(4);
                if !(1..=PARTITIONS_MAX).contains(&partitions) {
                    return Err(BrokerError::InvalidPartitions(format!("{partitions} are too few or too many")));
                }
                let id = match validate_only {
                    true => TopicId::default(),
                    false => self.create(&topic.name, partitions as u32).id,
                };
                Ok(CreatedTopic { id, partitions, replication_factor: 3, configs: config.describe() })
            })
            .collect()
    }

    async fn delete_topics(&self, topics: Vec<TopicRef>, _: i32) -> Vec<ItemResult<TopicView>> {
        topics
            .into_iter()
            .map(|topic| {
                let view = self.topic(&topic)?;
                self.state.lock().topics.remove(&view.name);
                Ok(view)
            })
            .collect()
    }

    async fn alter_topic_config(&self, topic: String, edit: ConfigEdit, validate_only: bool) -> ItemResult<()> {
        let view = self.topic(&TopicRef::Name(topic.clone()))?;
        let config = match &edit {
            ConfigEdit::Changes(changes) => view.config.altered(changes.iter().map(|change| match change {
                ConfigChange::Set(key, value)
                | ConfigChange::Append(key, value)
                | ConfigChange::Subtract(key, value) => (key.as_str(), Some(value.as_str())),
                ConfigChange::Delete(key) => (key.as_str(), None),
            })),
            ConfigEdit::Replacement(configs) => TopicConfig::new(configs.clone()),
        };
        let config = config.map_err(|e| BrokerError::InvalidConfig(e.to_string()))?;
        if !validate_only {
            self.state.lock().topics.get_mut(&topic).unwrap().view.config = config;
        }
        Ok(())
    }

    fn group_config(&self, group: &GroupId) -> GroupConfig {
        self.state.lock().group_configs.get(group).cloned().unwrap_or_default()
    }

    fn member_group(&self, group: &GroupId, _: &str) -> GroupId {
        group.clone()
    }

    fn configured_groups(&self) -> Vec<GroupId> {
        self.state.lock().group_configs.keys().cloned().collect()
    }

    async fn alter_group_config(&self, group: GroupId, edit: ConfigEdit, _: bool) -> ItemResult<()> {
        let ConfigEdit::Replacement(configs) = edit else { panic!("groups are only replaced here") };
        let config = GroupConfig::new(configs).map_err(|e| BrokerError::InvalidConfig(e.to_string()))?;
        self.state.lock().group_configs.insert(group, config);
        Ok(())
    }

    async fn produce(&self, partitions: Vec<ProducePartition>, _: i32) -> Vec<ItemResult<Produced>> {
        let results = partitions
            .into_iter()
            .map(|p| {
                self.with_partition(&p.topic, p.partition, |records| {
                    records.push(p.records.clone());
                    Ok(Offset(records.len() as i64 - 1))
                })
                .inspect(|_| self.state.lock().enqueued.push(p.records))
            })
            .collect::<Vec<_>>();
        self.acks.acquire().await.unwrap().forget();
        self.appended.notify_waiters();
        let lease = Some(AckLease { broker_group: BrokerGroupId(1), term: Term(7) });
        let produced =
            |base_offset| Produced { base_offset, log_append_time: None, log_start_offset: Offset(0), lease };
        results.into_iter().map(|result| result.map(produced)).collect()
    }

    fn confirm(&self, produced: Produced) -> ItemResult<Produced> {
        match self.leads.load(Ordering::Relaxed) {
            true => Ok(produced),
            false => Err(BrokerError::RequestTimedOut("another node may lead".to_owned())),
        }
    }

    async fn fetch(&self, fetch: Fetch) -> Vec<ItemResult<Fetched>> {
        let wait = async {
            loop {
                let appended = self.appended.notified();
                let results = self.read(&fetch);
                let bytes: usize = results.iter().flatten().flat_map(|f| &f.records).map(Bytes::len).sum();
                if bytes as i32 >= fetch.bytes_min || results.iter().any(Result::is_err) {
                    return results;
                }
                appended.await;
            }
        };
        tokio::time::timeout(Duration::from_millis(fetch.wait_ms_max as u64), wait)
            .await
            .unwrap_or_else(|_| self.read(&fetch))
    }

    async fn list_offset(
        &self,
        topic: TopicRef,
        partition: i32,
        query: OffsetQuery,
        _: EpochCheck,
    ) -> ItemResult<FoundOffset> {
        self.with_partition(&topic, partition, |records| {
            let (offset, timestamp) = match query {
                OffsetQuery::Earliest => (0, -1),
                OffsetQuery::Latest => (records.len() as i64, -1),
                OffsetQuery::MaxTimestamp => (records.len() as i64 - 1, 99),
                OffsetQuery::AtOrAfter(time) => (1, time.0),
                OffsetQuery::MayHold(search) => (search.from.0 + 1, -1),
            };
            Ok(FoundOffset {
                offset: Offset(offset),
                timestamp: TimestampMs(timestamp),
                leader_epoch: Some(LeaderEpoch(7)),
            })
        })
    }

    async fn leader_epoch_end(
        &self,
        topic: TopicRef,
        partition: i32,
        leader_epoch: LeaderEpoch,
        _: EpochCheck,
    ) -> ItemResult<Option<EpochEnd>> {
        self.with_partition(&topic, partition, |records| {
            let end = EpochEnd { epoch: LeaderEpoch(7), end_offset: Offset(records.len() as i64) };
            Ok((leader_epoch.0 >= 7).then_some(end))
        })
    }

    async fn init_producer_id(&self, known: Option<ProducerIdentity>) -> ItemResult<ProducerIdentity> {
        Ok(match known {
            Some(known) => ProducerIdentity { id: known.id, epoch: ProducerEpoch(known.epoch.0.wrapping_add(1)) },
            None => ProducerIdentity { id: ProducerId(4_000), epoch: ProducerEpoch(0) },
        })
    }

    fn find_group_coordinator(&self, group_id: &str) -> ItemResult<NodeView> {
        if group_id == "lost" { Err(BrokerError::CoordinatorNotAvailable) } else { Ok(node(2)) }
    }

    /// In group "waiting" the answer never comes.
    async fn join_group(&self, request: JoinRequest, share: Option<Admission>) -> Result<JoinReply, JoinRefusal> {
        self.state.lock().joins.push(request.clone());
        drop(share);
        if request.group.0 == "waiting" {
            std::future::pending::<()>().await;
        }
        elsewhere(&request.group).map_err(|error| JoinRefusal { error, member_id: request.member_id.clone() })?;
        let member_id = request.member_id.unwrap_or_else(|| MemberId(format!("{}-1", request.client_id)));
        if request.requires_member_id && member_id.0.ends_with("-1") {
            return Err(JoinRefusal { error: GroupError::MemberIdRequired.into(), member_id: Some(member_id) });
        }
        let Some(protocol) = request.protocols.first() else {
            return Err(JoinRefusal {
                error: GroupError::InconsistentGroupProtocol.into(),
                member_id: Some(member_id),
            });
        };
        Ok(JoinReply {
            member_id: member_id.clone(),
            generation: 5,
            protocol_type: Some(request.protocol_type),
            protocol_name: Some(protocol.name.clone()),
            leader: member_id.clone(),
            skip_assignment: request.supports_skipping_assignment,
            members: vec![JoinedMember {
                member_id,
                instance_id: request.instance_id,
                metadata: protocol.metadata.clone(),
            }],
        })
    }

    async fn sync_group(&self, request: SyncRequest, _: Option<Admission>) -> ItemResult<SyncReply> {
        check_generation(&request.group, request.generation)?;
        let mine = request.assignments.iter().find(|(member, _)| *member == request.member_id);
        Ok(SyncReply {
            protocol_type: Some("consumer".to_owned()),
            protocol_name: Some("range".to_owned()),
            assignment: mine.map(|(_, assignment)| assignment.clone()).unwrap_or_default(),
        })
    }

    async fn heartbeat(&self, request: HeartbeatRequest) -> ItemResult<()> {
        check_generation(&request.group, request.generation)
    }

    async fn leave_group(&self, request: LeaveRequest) -> ItemResult<Vec<ItemResult<()>>> {
        elsewhere(&request.group)?;
        let left = request.members.into_iter().map(|member| match (member.member_id, member.instance_id) {
            (Some(_), _) => Ok(()),
            (None, Some(_)) => Err(GroupError::FencedInstanceId.into()),
            (None, None) => Err(GroupError::UnknownMemberId.into()),
        });
        Ok(left.collect())
    }

    async fn commit_offsets(&self, request: OffsetCommits) -> Vec<ItemResult<()>> {
        let commit = |wanted: duolog_broker::api::PartitionOffset| {
            self.with_partition(&wanted.topic, wanted.partition, |_| Ok(()))?;
            check_generation(&request.group, request.generation)?;
            let TopicRef::Name(topic) = wanted.topic else { panic!("no version that is served has topic ids") };
            let committed = CommittedOffset {
                offset: wanted.offset,
                leader_epoch: wanted.leader_epoch,
                metadata: wanted.metadata,
                commit_timestamp: TimestampMs(1),
            };
            self.state.lock().committed.insert((request.group.clone(), topic, wanted.partition), committed);
            Ok(())
        };
        request.partitions.into_iter().map(commit).collect()
    }

    async fn fetch_offsets(
        &self,
        group: GroupId,
        wanted: Option<Vec<(TopicRef, i32)>>,
    ) -> ItemResult<Vec<GroupOffset>> {
        elsewhere(&group)?;
        let committed = self.state.lock().committed.clone();
        let of_group = committed.keys().filter(|(of, ..)| *of == group);
        let all = of_group.map(|(_, topic, partition)| (TopicRef::Name(topic.clone()), *partition)).collect();
        let found = wanted.unwrap_or(all).into_iter().map(|(topic, partition)| {
            let TopicRef::Name(name) = &topic else { panic!("no version that is served has topic ids") };
            let committed = committed.get(&(group.clone(), name.clone(), partition)).cloned();
            GroupOffset { topic, partition, committed }
        });
        Ok(found.collect())
    }

    async fn create_partitions(&self, topics: Vec<NewPartitions>, _: i32, validate_only: bool) -> Vec<ItemResult<()>> {
        topics
            .into_iter()
            .map(|wanted| {
                let view = self.topic(&TopicRef::Name(wanted.topic.clone()))?;
                if !wanted.assignments.is_empty() {
                    return Err(BrokerError::InvalidReplicaAssignment("assignment is not yours".to_owned()));
                }
                if !(view.partitions.len() as i32 + 1..=PARTITIONS_MAX).contains(&wanted.count) {
                    return Err(BrokerError::InvalidPartitions("no growth, or too much of it".to_owned()));
                }
                if !validate_only {
                    self.create(&wanted.topic, wanted.count as u32);
                }
                Ok(())
            })
            .collect()
    }

    /// Nothing is deleted; the offset is checked.
    async fn delete_records(
        &self,
        topic: TopicRef,
        partition: i32,
        before: Option<Offset>,
        _: i32,
    ) -> ItemResult<Offset> {
        self.with_partition(&topic, partition, |records| {
            let end_inclusive = records.len() as i64;
            let found = before.map_or(end_inclusive, |offset| offset.0);
            match (0..=end_inclusive).contains(&found) {
                true => Ok(Offset(found)),
                false => Err(BrokerError::OffsetOutOfRange { found, start: 0, end_inclusive }),
            }
        })
    }

    fn log_dir(&self) -> ItemResult<LogDirView> {
        let state = self.state.lock();
        let partitions = state.topics.iter().flat_map(|(name, topic)| {
            topic.partitions.iter().zip(0_u32..).map(|(records, partition)| PartitionSize {
                topic: name.clone(),
                partition,
                size_bytes: records.iter().map(|record| record.len() as u64).sum(),
            })
        });
        let partitions = partitions.collect();
        Ok(LogDirView { path: "/data".to_owned(), total_bytes: 1_000, usable_bytes: 400, partitions })
    }

    /// One producer for each partition.
    async fn producers(&self, topic: TopicRef, partition: i32) -> ItemResult<Vec<ProducerView>> {
        self.with_partition(&topic, partition, |_| {
            Ok(vec![ProducerView {
                id: ProducerId(4_000),
                epoch: ProducerEpoch(2),
                last_sequence: 9,
                last_timestamp: TimestampMs(77),
            }])
        })
    }

    /// The preferred leader of partition 0 leads, that of partition 1 takes over, that of partition 2 is gone.
    async fn elect_leaders(
        &self,
        partitions: Vec<(TopicRef, i32)>,
        election: Election,
        _: i32,
    ) -> Vec<ItemResult<Elected>> {
        let elect = |(topic, partition): (TopicRef, i32)| {
            self.topic(&topic)?;
            match (election, partition) {
                (Election::Unclean, _) => Err(BrokerError::EligibleLeadersNotAvailable),
                (Election::Preferred, 0) => Ok(Elected::NotNeeded),
                (Election::Preferred, 1) => Ok(Elected::Done),
                (Election::Preferred, _) => Err(BrokerError::PreferredLeaderNotAvailable("it is gone".to_owned())),
            }
        };
        partitions.into_iter().map(elect).collect()
    }

    async fn system_quorum(&self) -> ItemResult<QuorumView> {
        let replica = |node: u64, log_end_next| QuorumReplica { node: NodeId(node), is_voter: node < 3, log_end_next };
        Ok(QuorumView {
            leader: NodeId(1),
            leader_epoch: LeaderEpoch(7),
            committed_next: 90,
            replicas: vec![replica(0, Some(95)), replica(1, Some(99)), replica(2, None), replica(3, Some(99))],
        })
    }

    /// Two groups: "g" of one member, and "offsets" that has none.
    async fn list_groups(&self) -> ItemResult<Vec<GroupListing>> {
        Ok(samples::group_listings())
    }

    async fn describe_group(&self, group: GroupId) -> ItemResult<Option<GroupDescription>> {
        elsewhere(&group)?;
        Ok((group.0 == "g").then(|| samples::group_description(group)))
    }

    async fn delete_group(&self, group: GroupId) -> ItemResult<()> {
        elsewhere(&group)?;
        match group.0.as_str() {
            "g" => Err(GroupError::NonEmptyGroup.into()),
            "offsets" => Ok(()),
            _ => Err(GroupError::GroupIdNotFound.into()),
        }
    }

    /// Group "g" subscribes to topic "subscribed".
    async fn delete_offsets(
        &self,
        group: GroupId,
        partitions: Vec<(TopicRef, i32)>,
    ) -> ItemResult<Vec<ItemResult<()>>> {
        elsewhere(&group)?;
        let delete = |(topic, partition): (TopicRef, i32)| {
            self.with_partition(&topic, partition, |_| Ok(()))?;
            match topic {
                TopicRef::Name(name) if name == "subscribed" => Err(GroupError::GroupSubscribedToTopic.into()),
                _ => Ok(()),
            }
        };
        Ok(partitions.into_iter().map(delete).collect())
    }

    fn durability(&self, topic: &TopicRef) -> ItemResult<Durability> {
        Ok(self.topic(topic)?.config.durability())
    }
}
