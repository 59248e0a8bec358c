//! Brokers in memory that are nodes of one cluster, and in [`server`] front ends and clients.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

mod access;
mod broker;
mod messages;
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use duolog_broker::BrokerError;
use duolog_broker::api::{GroupId, PartitionView, TopicRef, TopicView};
use duolog_broker::message_api::{ConnectionId, HiddenHandle, Orphan, Question, Receipt, Receive, Resolution};
use duolog_record::{Record, RecordBatch};
use duolog_types::{
    Acl, BrokerGroupId, GroupConfig, LeaderEpoch, LogIndex, NodeId, Offset, TopicConfig, TopicId, TopicPartition, User,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

pub use server::{Client, Credentials, Node, message, plain, signing, start, start_with, tls};

/// What the nodes of a cluster have in common.
#[derive(Default)]
pub struct State {
    pub topics: BTreeMap<String, TopicView>,
    /// Stored messages that wait for a consumer, with the number of their deliveries.
    pub stored: BTreeMap<TopicPartition, Vec<(Record, u32)>>,
    /// Delivered messages.
    pub delivered: Vec<(Receipt, Record, u32)>,
    /// Half and delayed messages.
    pub hidden: Vec<(HiddenHandle, Record)>,
    pub orphans: Vec<Orphan>,
    /// Half messages that a producer was asked about, and the node that counted it.
    pub asked: Vec<(NodeId, HiddenHandle)>,
    /// Where each node takes questions of others.
    pub questions: BTreeMap<NodeId, mpsc::Sender<Question>>,
    pub acknowledged: Vec<Receipt>,
    pub ended: Vec<(HiddenHandle, Resolution)>,
    pub renewed: Vec<(NodeId, String)>,
    /// The connection of each of them.
    pub renewed_over: Vec<ConnectionId>,
    pub received: Vec<(NodeId, Receive)>,
    /// Committed offsets by group, topic and partition.
    pub committed: BTreeMap<(GroupId, TopicId, i32), Offset>,
    /// The node that took each message.
    pub taken_by: Vec<NodeId>,
    pub users: BTreeMap<String, User>,
    pub acls: Vec<Acl>,
    /// The config of every group.
    pub group_config: GroupConfig,
    /// The advertised hosts of the nodes from 0 on, where a test needs them.
    pub hosts: Vec<String>,
    next: i64,
}

/// One node of the cluster.
#[derive(Clone)]
pub struct FakeBroker {
    pub id: NodeId,
    pub state: Arc<Mutex<State>>,
    pub changed: Arc<Notify>,
    /// Whether acknowledgements that rest on a lease hold.
    pub leads: Arc<std::sync::atomic::AtomicBool>,
    /// The node that coordinates consumer groups.
    pub coordinator: NodeId,
}

impl FakeBroker {
    pub fn new() -> Self {
        Self {
            id: NodeId(0),
            state: Arc::default(),
            changed: Arc::default(),
            leads: Arc::new(std::sync::atomic::AtomicBool::new(true)),
            coordinator: NodeId(0),
        }
    }

    /// Another node of the same cluster.
    pub fn node(&self, id: u64) -> Self {
        Self { id: NodeId(id), ..self.clone() }
    }

    /// A topic of this type whose partitions are led by these nodes.
    pub fn with_topic(self, name: &str, message_type: &str, leaders: &[u64]) -> Self {
        self.with_configured_topic(name, &[("message.type", message_type)], leaders)
    }

    pub fn with_configured_topic(self, name: &str, configs: &[(&str, &str)], leaders: &[u64]) -> Self {
        let mut state = self.state.lock();
        let id = TopicId([state.topics.len() as u8 + 1; 16]);
        let partition = |(partition, leader): (u32, &u64)| PartitionView {
            partition,
            broker_group: BrokerGroupId(1),
            leader: Some(NodeId(*leader)),
            leader_epoch: LeaderEpoch(7),
            replicas: vec![NodeId(0), NodeId(1)],
            in_sync_replicas: vec![NodeId(0), NodeId(1)],
        };
        let partitions = (0..).zip(leaders).map(partition).collect();
        let config = TopicConfig::new(configs.iter().copied()).unwrap();
        state.topics.insert(name.to_owned(), TopicView { name: name.to_owned(), id, partitions, config });
        drop(state);
        self
    }

    /// Changes who leads a topic.
    pub fn lead(&self, topic: &str, leader: Option<u64>) {
        let mut state = self.state.lock();
        for partition in &mut state.topics.get_mut(topic).unwrap().partitions {
            partition.leader = leader.map(NodeId);
        }
    }

    fn view(&self, topic: &TopicRef) -> Result<TopicView, BrokerError> {
        let state = self.state.lock();
        match topic {
            TopicRef::Name(name) => {
                state.topics.get(name).cloned().ok_or_else(|| BrokerError::UnknownTopic(name.clone()))
            }
            TopicRef::Id(id) => {
                let view = state.topics.values().find(|view| view.id == *id);
                view.cloned().ok_or(BrokerError::UnknownTopicId(*id))
            }
        }
    }

    /// The partition, if this node leads it.
    fn led(&self, topic: &TopicRef, partition: i32) -> Result<TopicPartition, BrokerError> {
        let view = self.view(topic)?;
        let found = usize::try_from(partition).ok().and_then(|partition| view.partitions.get(partition));
        let found = found.ok_or(BrokerError::UnknownPartition { topic: view.name, partition })?;
        match found.leader {
            Some(leader) if leader == self.id => Ok(TopicPartition { topic: view.id, partition: found.partition }),
            leader => Err(BrokerError::NotLeader { leader, epoch: None }),
        }
    }

    fn leads(&self, partition: TopicPartition) -> Result<TopicPartition, BrokerError> {
        self.led(&TopicRef::Id(partition.topic), partition.partition as i32)
    }
}

impl State {
    fn next(&mut self) -> i64 {
        self.next += 1;
        self.next
    }

    fn store(&mut self, partition: TopicPartition, record: Record) -> Offset {
        let stored = self.stored.entry(partition).or_default();
        let offset = Offset(stored.len() as i64);
        stored.push((Record { offset, ..record }, 0));
        offset
    }

    fn hide(&mut self, partition: TopicPartition, record: Record) -> HiddenHandle {
        let handle =
            HiddenHandle { partition, index: LogIndex(self.next() as u64), slot: 0, term: duolog_types::Term(1) };
        self.hidden.push((handle, record));
        handle
    }
}

fn record_of(batch: Bytes) -> Record {
    let batch = RecordBatch::parse(batch).expect("a batch");
    let mut records = batch.records(32 << 20).expect("records");
    let record = records.next().expect("a record").expect("a good one");
    assert!(records.next().is_none(), "exactly one");
    record
}
