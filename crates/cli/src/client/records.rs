//! Produce and Fetch: record batches to and from the leaders of partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use duolog_record::RecordBatch;
use duolog_types::{ProducerEpoch, ProducerId};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{BrokerId, FetchRequest, InitProducerIdRequest, ProduceRequest, TopicName};

use super::{Api, Client, ClientError, api, check, text};

const PRODUCE: Api = api("Produce", 8, 9);
const FETCH: Api = api("Fetch", 11, 11);
const INIT_PRODUCER_ID: Api = api("InitProducerId", 0, 4);

const ACKS_ALL: i16 = -1;
const FETCH_BYTES_MAX: i32 = 16 << 20;
/// Of a partition, for whoever reads on.
pub(crate) const FETCH_PARTITION_BYTES_MAX: i32 = 2 << 20;

/// A batch that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: i64,
}

/// A partition to fetch from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchFrom {
    /// The partition.
    pub partition: i32,
    /// The first offset that is wanted.
    pub offset: i64,
    /// So many bytes at most, but one batch at least.
    pub bytes_max: i32,
}

/// What a fetch gave for one partition.
#[derive(Debug)]
pub struct FetchedPartition {
    /// The partition.
    pub partition: i32,
    /// The record batches as they are stored, or why there are none. A batch may begin before the offset that was asked for.
    pub batches: Result<Vec<RecordBatch>, ClientError>,
}

impl Client {
    /// A producer id, so that a batch that is sent again is not stored again.
    ///
    /// # Errors
    /// No node answers.
    pub async fn init_producer_id(&self) -> Result<(ProducerId, ProducerEpoch), ClientError> {
        self.with_retries(async || {
            let request = |_version| {
                InitProducerIdRequest::default()
                    .with_transactional_id(None)
                    .with_transaction_timeout_ms(60_000)
                    .with_producer_id((-1).into())
                    .with_producer_epoch(-1)
            };
            let response = self.call_any(INIT_PRODUCER_ID, self.attempt(), request).await?;
            check(|| "a producer id".to_owned(), response.error_code, None)?;
            Ok((ProducerId(response.producer_id.0), ProducerEpoch(response.producer_epoch)))
        })
        .await
    }

    /// Appends a batch to a partition; answered at the ack point of the topic's durability. Sent again, to whoever leads,
    /// until it is acknowledged or refused for good.
    ///
    /// # Errors
    /// Refused, or not acknowledged within the time-out: then it may be stored or not.
    pub async fn append(&self, topic: &str, partition: i32, batch: &RecordBatch) -> Result<Appended, ClientError> {
        self.with_retries(async || {
            let result = self.append_once(topic, partition, batch).await;
            if result.is_err() {
                self.leaders.lock().remove(&(topic.to_owned(), partition));
            }
            result
        })
        .await
    }

    async fn append_once(&self, topic: &str, partition: i32, batch: &RecordBatch) -> Result<Appended, ClientError> {
        let leader = self.leader(topic, partition).await?;
        let timeout_ms = i32::try_from(self.attempt().as_millis() * 3 / 4).unwrap_or(i32::MAX);
        let request = |_version| {
            let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.bytes().clone()));
            let topic = TopicProduceData::default().with_name(TopicName(text(topic))).with_partition_data(vec![data]);
            ProduceRequest::default().with_acks(ACKS_ALL).with_timeout_ms(timeout_ms).with_topic_data(vec![topic])
        };
        let response = self.call_node(leader, PRODUCE, self.attempt(), request).await?;
        let answer = response.responses.first().and_then(|topic| topic.partition_responses.first());
        let Some(answer) = answer else { return Err(ClientError::NoLeader { what: words(topic, partition) }) };
        check(|| words(topic, partition), answer.error_code, answer.error_message.as_ref())?;
        Ok(Appended { base_offset: answer.base_offset })
    }

    /// Record batches of partitions with one leader, waiting for the first as long as `wait`. Asked once.
    ///
    /// # Errors
    /// The leader does not answer.
    pub async fn fetch(
        &self,
        leader: i32,
        topic: &str,
        from: &[FetchFrom],
        wait: Duration,
    ) -> Result<Vec<FetchedPartition>, ClientError> {
        let request = |_version| {
            let partition = |from: &FetchFrom| {
                FetchPartition::default()
                    .with_partition(from.partition)
                    .with_current_leader_epoch(-1)
                    .with_fetch_offset(from.offset)
                    .with_log_start_offset(-1)
                    .with_partition_max_bytes(from.bytes_max)
            };
            let topic = FetchTopic::default()
                .with_topic(TopicName(text(topic)))
                .with_partitions(from.iter().map(partition).collect());
            FetchRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_max_wait_ms(i32::try_from(wait.as_millis()).unwrap_or(i32::MAX))
                .with_min_bytes(1)
                .with_max_bytes(FETCH_BYTES_MAX)
                .with_session_epoch(-1)
                .with_topics(vec![topic])
        };
        let response = self.call_node(leader, FETCH, self.attempt() + wait, request).await?;
        check(|| format!("topic {topic:?}"), response.error_code, None)?;
        let partitions = response.responses.into_iter().flat_map(|topic| topic.partitions);
        let fetched = partitions.map(|data| {
            let batches = check(|| words(topic, data.partition_index), data.error_code, None)
                .and_then(|()| whole_batches(topic, data.partition_index, data.records.unwrap_or_default()));
            FetchedPartition { partition: data.partition_index, batches }
        });
        Ok(fetched.collect())
    }

    /// The leaders of a topic's partitions; those without one are left out.
    ///
    /// # Errors
    /// The topic is unknown, or no node answers.
    pub async fn leaders(&self, topic: &str) -> Result<BTreeMap<i32, i32>, ClientError> {
        let info = self.topic(topic).await?;
        Ok(info.partitions.iter().filter_map(|p| Some((p.partition, p.leader?))).collect())
    }

    async fn leader(&self, topic: &str, partition: i32) -> Result<i32, ClientError> {
        let key = (topic.to_owned(), partition);
        if let Some(leader) = self.leaders.lock().get(&key) {
            return Ok(*leader);
        }
        let info = self.topic(topic).await?;
        let known = info.partitions.iter().find(|known| known.partition == partition);
        let known = known.ok_or_else(|| {
            let sentence = format!("the topic has partitions 0 to {}", info.partitions.len().saturating_sub(1));
            // Not UNKNOWN_TOPIC_OR_PARTITION: that may pass, this does not.
            ClientError::refused(words(topic, partition), ResponseError::InvalidPartitions, Some(&sentence))
        })?;
        let leader = known.leader.ok_or_else(|| ClientError::NoLeader { what: words(topic, partition) })?;
        self.leaders.lock().insert(key, leader);
        Ok(leader)
    }
}

fn words(topic: &str, partition: i32) -> String {
    format!("partition {partition} of topic {topic:?}")
}

/// The batches of a fetch. The last one may be cut where the answer was full; it comes whole with the next fetch.
fn whole_batches(topic: &str, partition: i32, mut records: Bytes) -> Result<Vec<RecordBatch>, ClientError> {
    let corrupt = |error: duolog_record::BatchError| {
        let sentence = format!("a record batch that came is damaged: {error}");
        // KAFKA_STORAGE_ERROR passes for retriable; this does not pass.
        ClientError::refused(words(topic, partition), ResponseError::InvalidRecord, Some(&sentence))
    };
    let mut batches = Vec::new();
    while let Some(length) = records.get(8..12) {
        let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
        let size = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(12);
        if size > records.len() {
            break;
        }
        let batch = RecordBatch::parse(records.split_to(size)).map_err(corrupt)?;
        batch.check_crc().map_err(corrupt)?;
        batches.push(batch);
    }
    Ok(batches)
}
