//! The nodes as clients see them: whoever leads is asked.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use duolog_broker::api::{
    BrokerApi, EpochCheck, Fetch, FetchPartition, GroupError, ItemResult, NewTopic, ProducePartition, Produced,
    TopicRef,
};
use duolog_broker::{Broker, BrokerError};
use duolog_chaos::history::messages::{Kind, MessageTopic};
use duolog_chaos::history::{Place, Topic, Value};
use duolog_record::{Record, RecordBatch};
use duolog_types::{LeaderEpoch, Offset};
use tokio::time::{Instant, sleep, timeout};

use crate::node::{SimNode, Standing};

/// A client that gets no answer in this time asks again.
const CALL_TIMEOUT: Duration = Duration::from_millis(3_000);
/// Before another node is asked.
pub const PAUSE: Duration = Duration::from_millis(20);

/// All nodes.
#[derive(Clone)]
pub struct SimCluster {
    pub nodes: Arc<Vec<Arc<SimNode>>>,
    pub topics: Arc<Vec<Topic>>,
    pub message_topics: Arc<Vec<MessageTopic>>,
}

/// Why an attempt was not the last one.
#[derive(Debug)]
pub enum Failure {
    /// It certainly did not happen.
    Refused,
    /// It may have happened.
    Unknown(String),
    /// The broker says that there is no sense in trying again.
    Final(BrokerError),
}

/// What a partition's leader has from an offset on.
pub struct Read {
    /// With the leader epoch of each. Empty at the end.
    pub records: Vec<(Record, LeaderEpoch)>,
    pub high_watermark: i64,
    pub log_start_offset: i64,
}

impl Read {
    /// Offsets and values.
    pub fn values(&self) -> impl Iterator<Item = (i64, Value)> + '_ {
        self.records.iter().map(|(record, _)| (record.offset.0, value_of(record)))
    }
}

/// The value that a record carries.
pub fn value_of(record: &Record) -> Value {
    Value::of_payload(record.value.as_deref().unwrap_or_default())
}

impl SimCluster {
    pub fn topic_name(&self, place: Place) -> &str {
        &self.topics[usize::from(place.topic)].name
    }

    /// One attempt at one node.
    pub async fn attempt<T, F>(&self, node: usize, call: impl FnOnce(Broker) -> F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = ItemResult<T>> + Send + 'static,
    {
        match timeout(CALL_TIMEOUT, self.nodes[node].call(call)).await {
            Ok(Some(Ok(answer))) => Ok(answer),
            Ok(Some(Err(error))) => Err(failure(error)),
            Ok(None) => Err(Failure::Unknown("the node is down".to_owned())),
            Err(_) => Err(Failure::Unknown("no answer in time".to_owned())),
        }
    }

    /// The node after this one, of those that are there.
    pub fn after(&self, node: usize) -> usize {
        let all = 1..=self.nodes.len();
        let next = all.map(|step| (node + step) % self.nodes.len()).find(|next| self.nodes[*next].is_present());
        next.expect("some node is there")
    }

    /// Sends a batch to a node, once; gives where it lies.
    pub async fn produce(&self, node: usize, place: Place, records: Bytes) -> Result<Offset, Failure> {
        let topic = TopicRef::Name(self.topic_name(place).to_owned());
        let produced = self.attempt(node, move |broker| async move {
            let partition = ProducePartition { topic, partition: place.partition, records };
            let produced: Produced = broker.produce(vec![partition], 2_000).await.remove(0)?;
            // Nothing waits between this and the acknowledgement.
            broker.confirm(produced)
        });
        produced.await.map(|produced| produced.base_offset)
    }

    /// Reads a partition of one of the run's topics, if this node leads it.
    pub async fn read(&self, node: usize, place: Place, from: i64) -> Result<Read, Failure> {
        self.read_topic(node, self.topic_name(place), place.partition, from).await
    }

    /// Reads a partition of any topic, if this node leads it.
    pub async fn read_topic(&self, node: usize, topic: &str, partition: i32, from: i64) -> Result<Read, Failure> {
        let topic = TopicRef::Name(topic.to_owned());
        let fetched = self
            .attempt(node, move |broker| async move {
                let partition = FetchPartition {
                    topic,
                    partition,
                    fetch_offset: Offset(from),
                    bytes_max: 1 << 20,
                    epoch: EpochCheck::default(),
                    last_fetched_epoch: None,
                };
                let fetch = Fetch { partitions: vec![partition], bytes_min: 1, bytes_max: 1 << 20, wait_ms_max: 200 };
                broker.fetch(fetch).await.remove(0)
            })
            .await?;
        let mut records = Vec::new();
        for bytes in fetched.records {
            let batch = RecordBatch::parse(bytes).expect("a batch that was stored");
            let epoch = batch.view().leader_epoch();
            for record in batch.records(1 << 20).expect("a batch that was stored") {
                let record = record.expect("a record that was stored");
                if record.offset.0 >= from {
                    records.push((record, epoch));
                }
            }
        }
        let (high_watermark, log_start_offset) = (fetched.high_watermark.0, fetched.log_start_offset.0);
        Ok(Read { records, high_watermark, log_start_offset })
    }

    /// Creates the topics, wherever that is possible.
    pub async fn create_topics(&self) {
        let of_modes =
            self.topics.iter().map(|topic| new_topic(&topic.name, topic.partition_count, topic.mode(), None));
        let of_messages = self.message_topics.iter().map(|topic| {
            let mode = format!("{}/{}", topic.replication.as_str(), topic.flush.as_str());
            new_topic(&topic.name, topic.partition_count, mode, Some(message_type(topic.kind)))
        });
        for topic in of_modes.chain(of_messages) {
            for turn in 0.. {
                let topics = vec![topic.clone()];
                let node = turn % self.nodes.len();
                let created = self.attempt(node, move |broker| async move {
                    broker.create_topics(topics, 5_000, false).await.remove(0)
                });
                match created.await {
                    Ok(_) | Err(Failure::Final(BrokerError::TopicExists(_))) => break,
                    Err(Failure::Final(error)) => panic!("topic {}: {error}", topic.name),
                    Err(Failure::Refused | Failure::Unknown(_)) => sleep(PAUSE).await,
                }
            }
        }
    }

    /// Waits until every node is ready.
    pub async fn ready(&self, limit: Duration) -> Vec<u32> {
        let end = Instant::now() + limit;
        loop {
            let present = self.nodes.iter().filter(|node| node.standing() == Standing::Present);
            let waiting: Vec<u32> = present.filter(|node| !node.is_ready()).map(|node| node.id).collect();
            if waiting.is_empty() || Instant::now() >= end {
                return waiting;
            }
            sleep(PAUSE).await;
        }
    }
}

fn new_topic(name: &str, partitions: i32, mode: String, message_type: Option<&str>) -> NewTopic {
    let (replication, flush) = mode.split_once('/').expect("replication/flush");
    let config = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
    let mut configs = vec![config("duolog.replication", replication), config("duolog.flush", flush)];
    configs.extend(message_type.map(|kind| config("message.type", kind)));
    NewTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        replication_factor: None,
        assignments: Vec::new(),
        configs,
    }
}

fn message_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Normal | Kind::Letters | Kind::Filtered => "NORMAL",
        Kind::Fifo => "FIFO",
        Kind::Delay => "DELAY",
        Kind::Transaction => "TRANSACTION",
    }
}

fn failure(error: BrokerError) -> Failure {
    match error {
        BrokerError::NotLeader { .. }
        | BrokerError::LeaderNotAvailable
        | BrokerError::FencedLeaderEpoch { .. }
        | BrokerError::UnknownLeaderEpoch { .. }
        | BrokerError::UnknownTopic(_)
        | BrokerError::UnknownTopicId(_)
        | BrokerError::UnknownPartition { .. } => Failure::Refused,
        BrokerError::RequestTimedOut(_)
        | BrokerError::Storage(_)
        | BrokerError::NotCoordinator
        | BrokerError::CoordinatorNotAvailable
        | BrokerError::CoordinatorLoading
        | BrokerError::Group(GroupError::NotCoordinator | GroupError::CoordinatorNotAvailable) => {
            Failure::Unknown(error.to_string())
        }
        error => Failure::Final(error),
    }
}
