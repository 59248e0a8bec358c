//! The nodes as clients see them: whoever leads is asked.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use duolog_broker::api::{
    BrokerApi, EpochCheck, Fetch, FetchPartition, ItemResult, NewTopic, ProducePartition, Produced, TopicRef,
};
use duolog_broker::{Broker, BrokerError};
use duolog_chaos::history::{Place, Topic, Value};
use duolog_record::RecordBatch;
use duolog_types::Offset;
use tokio::time::{Instant, sleep, timeout};

use crate::node::SimNode;

/// A client that gets no answer in this time asks again.
const CALL_TIMEOUT: Duration = Duration::from_millis(3_000);
const PAUSE: Duration = Duration::from_millis(20);

/// All nodes.
#[derive(Clone)]
pub struct SimCluster {
    pub nodes: Arc<Vec<Arc<SimNode>>>,
    pub topics: Arc<Vec<Topic>>,
}

/// Why an attempt was not the last one.
pub enum Failure {
    /// It certainly did not happen.
    Refused,
    /// It may have happened.
    Unknown,
    /// The broker says that there is no sense in trying again.
    Final(BrokerError),
}

impl SimCluster {
    fn topic_ref(&self, place: Place) -> TopicRef {
        TopicRef::Name(self.topics[usize::from(place.topic)].name.clone())
    }

    /// One attempt at one node.
    async fn attempt<T, F>(&self, node: usize, call: impl FnOnce(Broker) -> F) -> Result<T, Failure>
    where
        F: Future<Output = ItemResult<T>>,
    {
        match timeout(CALL_TIMEOUT, self.nodes[node].call(call)).await {
            Ok(Some(Ok(answer))) => Ok(answer),
            Ok(Some(Err(error))) => Err(failure(error)),
            Ok(None) | Err(_) => Err(Failure::Unknown),
        }
    }

    /// Sends a batch to a node, once; gives where it lies.
    pub async fn produce(&self, node: usize, place: Place, records: Bytes) -> Result<Offset, Failure> {
        let topic = self.topic_ref(place);
        let produced = self.attempt(node, |broker| async move {
            let partition = ProducePartition { topic, partition: place.partition, records };
            let produced: Produced = broker.produce(vec![partition], 2_000).await.remove(0)?;
            // Nothing waits between this and the acknowledgement.
            broker.confirm(produced)
        });
        produced.await.map(|produced| produced.base_offset)
    }

    /// Reads a partition at whoever leads it: the values from an offset on, and the high watermark. Empty at the end.
    pub async fn read(&self, node: usize, place: Place, from: i64) -> Result<(Vec<(i64, Value)>, i64, i64), Failure> {
        let topic = self.topic_ref(place);
        let fetched = self
            .attempt(node, |broker| async move {
                let partition = FetchPartition {
                    topic,
                    partition: place.partition,
                    fetch_offset: Offset(from),
                    bytes_max: 1 << 20,
                    epoch: EpochCheck::default(),
                    last_fetched_epoch: None,
                };
                let fetch = Fetch { partitions: vec![partition], bytes_min: 1, bytes_max: 1 << 20, wait_ms_max: 200 };
                broker.fetch(fetch).await.remove(0)
            })
            .await?;
        let mut values = Vec::new();
        for bytes in fetched.records {
            let batch = RecordBatch::parse(bytes).expect("a batch that was stored");
            for record in batch.records(1 << 20).expect("a batch that was stored") {
                let record = record.expect("a record that was stored");
                if record.offset.0 >= from {
                    values.push((record.offset.0, Value::of_payload(record.value.as_deref().unwrap_or_default())));
                }
            }
        }
        Ok((values, fetched.high_watermark.0, fetched.log_start_offset.0))
    }

    /// Creates the topics, wherever that is possible.
    pub async fn create_topics(&self) {
        let new = |topic: &Topic| NewTopic {
            name: topic.name.clone(),
            partitions: Some(topic.partition_count),
            replication_factor: None,
            has_manual_assignment: false,
            configs: vec![
                ("duolog.replication".to_owned(), Some(topic.replication.as_str().to_owned())),
                ("duolog.flush".to_owned(), Some(topic.flush.as_str().to_owned())),
            ],
        };
        for topic in self.topics.iter() {
            for turn in 0.. {
                let topics = vec![new(topic)];
                let node = turn % self.nodes.len();
                let created = self
                    .attempt(node, |broker| async move { broker.create_topics(topics, 5_000, false).await.remove(0) });
                match created.await {
                    Ok(_) | Err(Failure::Final(BrokerError::TopicExists(_))) => break,
                    Err(Failure::Final(error)) => panic!("topic {}: {error}", topic.name),
                    Err(Failure::Refused | Failure::Unknown) => sleep(PAUSE).await,
                }
            }
        }
    }

    /// Waits until every node is ready.
    pub async fn ready(&self, limit: Duration) -> Vec<u32> {
        let end = Instant::now() + limit;
        loop {
            let waiting: Vec<u32> = self.nodes.iter().filter(|node| !node.is_ready()).map(|node| node.id).collect();
            if waiting.is_empty() || Instant::now() >= end {
                return waiting;
            }
            sleep(PAUSE).await;
        }
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
        BrokerError::RequestTimedOut(_) | BrokerError::Storage(_) => Failure::Unknown,
        error => Failure::Final(error),
    }
}
