//! What the front end asks of a broker beside messages: topics, nodes, confirmations. Everything else is not its business.

use std::sync::atomic::Ordering;

use duolog_broker::api::*;
use duolog_broker::{Admission, BrokerError};
use duolog_types::{Durability, GroupConfig, LeaderEpoch, NodeId, Offset, TimestampMs};

use super::FakeBroker;

fn no_business<T>() -> ItemResult<T> {
    Err(BrokerError::Unsupported("no business of this front end".to_owned()))
}

impl BrokerApi for FakeBroker {
    fn node_id(&self) -> NodeId {
        self.id
    }

    fn cluster(&self) -> ClusterView {
        let node = |(id, host): (u64, &String)| NodeView {
            id: NodeId(id),
            host: host.clone(),
            kafka_port: 0,
            rocketmq_port: 0,
            http_port: 0,
        };
        let nodes = (0..).zip(&self.state.lock().hosts).map(node).collect();
        ClusterView { cluster_id: "fake".to_owned(), nodes, controller: None }
    }

    fn topics(&self) -> Vec<TopicView> {
        self.state.lock().topics.values().cloned().collect()
    }

    fn topic(&self, topic: &TopicRef) -> ItemResult<TopicView> {
        self.view(topic)
    }

    fn auto_create_topics(&self) -> bool {
        true
    }

    fn broker_configs(&self) -> Vec<BrokerConfigValue> {
        Vec::new()
    }

    async fn create_topics(&self, _: Vec<NewTopic>, _: i32, _: bool) -> Vec<ItemResult<CreatedTopic>> {
        Vec::new()
    }

    async fn delete_topics(&self, _: Vec<TopicRef>, _: i32) -> Vec<ItemResult<TopicView>> {
        Vec::new()
    }

    async fn alter_topic_config(&self, _: String, _: ConfigEdit, _: bool) -> ItemResult<()> {
        no_business()
    }

    fn group_config(&self, _: &GroupId) -> GroupConfig {
        self.state.lock().group_config.clone()
    }

    fn member_group(&self, group: &GroupId, _: &str) -> GroupId {
        group.clone()
    }

    fn configured_groups(&self) -> Vec<GroupId> {
        Vec::new()
    }

    async fn alter_group_config(&self, _: GroupId, _: ConfigEdit, _: bool) -> ItemResult<()> {
        no_business()
    }

    async fn create_partitions(&self, _: Vec<NewPartitions>, _: i32, _: bool) -> Vec<ItemResult<()>> {
        Vec::new()
    }

    async fn delete_records(&self, _: TopicRef, _: i32, _: Option<Offset>, _: i32) -> ItemResult<Offset> {
        no_business()
    }

    fn log_dir(&self) -> ItemResult<LogDirView> {
        no_business()
    }

    async fn producers(&self, _: TopicRef, _: i32) -> ItemResult<Vec<ProducerView>> {
        no_business()
    }

    async fn elect_leaders(&self, _: Vec<(TopicRef, i32)>, _: Election, _: i32) -> Vec<ItemResult<Elected>> {
        Vec::new()
    }

    async fn system_quorum(&self) -> ItemResult<QuorumView> {
        no_business()
    }

    async fn produce(&self, _: Vec<ProducePartition>, _: i32) -> Vec<ItemResult<Produced>> {
        Vec::new()
    }

    fn confirm(&self, produced: Produced) -> ItemResult<Produced> {
        match produced.lease {
            Some(_) if !self.leads.load(Ordering::Relaxed) => {
                Err(BrokerError::RequestTimedOut("another node may lead".to_owned()))
            }
            _ => Ok(produced),
        }
    }

    async fn fetch(&self, _: Fetch) -> Vec<ItemResult<Fetched>> {
        Vec::new()
    }

    async fn list_offset(
        &self,
        topic: TopicRef,
        partition: i32,
        query: OffsetQuery,
        _: EpochCheck,
    ) -> ItemResult<FoundOffset> {
        let at = self.led(&topic, partition)?;
        let state = self.state.lock();
        let stored = state.stored.get(&at).map(Vec::as_slice).unwrap_or_default();
        let end = stored.last().map_or(0, |(record, _)| record.offset.0 + 1);
        let offset = match query {
            OffsetQuery::Earliest => 0,
            OffsetQuery::MayHold(search) => search.from.0,
            OffsetQuery::Latest | OffsetQuery::MaxTimestamp => end,
            OffsetQuery::AtOrAfter(time) => {
                let found = stored.iter().find(|(record, _)| record.timestamp >= time);
                found.map_or(-1, |(record, _)| record.offset.0)
            }
        };
        Ok(FoundOffset { offset: Offset(offset), timestamp: TimestampMs(-1), leader_epoch: None })
    }

    async fn leader_epoch_end(
        &self,
        _: TopicRef,
        _: i32,
        _: LeaderEpoch,
        _: EpochCheck,
    ) -> ItemResult<Option<EpochEnd>> {
        no_business()
    }

    async fn init_producer_id(&self, _: Option<ProducerIdentity>) -> ItemResult<ProducerIdentity> {
        no_business()
    }

    fn find_group_coordinator(&self, _: &str) -> ItemResult<NodeView> {
        Ok(NodeView { id: self.coordinator, host: String::new(), kafka_port: 0, rocketmq_port: 0, http_port: 0 })
    }

    async fn join_group(&self, _: JoinRequest, _: Option<Admission>) -> Result<JoinReply, JoinRefusal> {
        Err(JoinRefusal { error: BrokerError::NotCoordinator, member_id: None })
    }

    async fn sync_group(&self, _: SyncRequest, _: Option<Admission>) -> ItemResult<SyncReply> {
        no_business()
    }

    async fn heartbeat(&self, _: HeartbeatRequest) -> ItemResult<()> {
        no_business()
    }

    async fn leave_group(&self, _: LeaveRequest) -> ItemResult<Vec<ItemResult<()>>> {
        no_business()
    }

    async fn commit_offsets(&self, commits: OffsetCommits) -> Vec<ItemResult<()>> {
        let commit = |at: PartitionOffset| {
            if self.id != self.coordinator {
                return Err(BrokerError::NotCoordinator);
            }
            let committed = &mut self.state.lock().committed;
            let TopicRef::Id(topic) = at.topic else { panic!("topics are named by id") };
            committed.insert((commits.group.clone(), topic, at.partition), at.offset);
            Ok(())
        };
        commits.partitions.into_iter().map(commit).collect()
    }

    async fn fetch_offsets(
        &self,
        group: GroupId,
        wanted: Option<Vec<(TopicRef, i32)>>,
    ) -> ItemResult<Vec<GroupOffset>> {
        if self.id != self.coordinator {
            return Err(BrokerError::NotCoordinator);
        }
        let state = self.state.lock();
        let find = |(topic, partition): (TopicRef, i32)| {
            let TopicRef::Id(id) = topic else { panic!("topics are named by id") };
            let offset = state.committed.get(&(group.clone(), id, partition)).copied();
            let committed = offset.map(|offset| CommittedOffset {
                offset,
                leader_epoch: None,
                metadata: String::new(),
                commit_timestamp: TimestampMs(1),
            });
            GroupOffset { topic, partition, committed }
        };
        Ok(wanted.unwrap_or_default().into_iter().map(find).collect())
    }

    async fn list_groups(&self) -> ItemResult<Vec<GroupListing>> {
        no_business()
    }

    async fn describe_group(&self, _: GroupId) -> ItemResult<Option<GroupDescription>> {
        no_business()
    }

    async fn delete_group(&self, _: GroupId) -> ItemResult<()> {
        no_business()
    }

    async fn delete_offsets(&self, _: GroupId, _: Vec<(TopicRef, i32)>) -> ItemResult<Vec<ItemResult<()>>> {
        no_business()
    }

    fn durability(&self, topic: &TopicRef) -> ItemResult<Durability> {
        Ok(self.view(topic)?.config.durability())
    }
}
