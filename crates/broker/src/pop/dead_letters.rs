//! Dead letters: messages that were delivered as often as is allowed go to a topic of their group.
//!
//! First the dead letter is stored, then the message is settled: in between it may be stored twice, but never lost.

use std::time::Duration;

use bytes::Bytes;
use duolog_record::group::GroupId;
use duolog_record::{BatchBuilder, BuildError, Record, RecordHeader};
use duolog_types::BrokerGroupId;
use tokio::time::{Instant, sleep};

use super::settle::{Led, led, settle};
use super::{bad_receipt, place_of, records};
use crate::api::{BrokerApi, ItemResult, NewPartitions, NewTopic, ProducePartition, TopicRef};
use crate::broker::Broker;
use crate::catalog::Topic;
use crate::consumers;
use crate::error::BrokerError;
use crate::message_api::{Receipt, dead_letter_topic};
use crate::topics::{deadline, place, wait_hosted};

const TIMEOUT_MS: i32 = 5_000;
/// Before a second look at a topic that another node is making.
const PAUSE: Duration = Duration::from_millis(20);

/// See [`crate::message_api::MessageApi::dead_letter`].
pub(crate) async fn dead_letter(broker: &Broker, group: &GroupId, receipt: Receipt) -> ItemResult<()> {
    let Led { runtime, handle } = led(broker, group, receipt.partition).await?;
    if !handle.lock().await.pop.is_out(receipt.delivery, receipt.offset) {
        return Err(bad_receipt());
    }
    let (high_watermark, _) = runtime.ends(receipt.partition)?.ok_or(BrokerError::LeaderNotAvailable)?;
    let record = records::at(&runtime, receipt.partition, receipt.offset, high_watermark)?;
    match record {
        Some(record) => bury(broker, group, receipt, record).await,
        // Its time was over meanwhile.
        None => settle(broker, group, receipt.partition, &[receipt]).await.map(drop),
    }
}

/// Buries a message without waiting for it. When it fails the message comes due again.
pub(super) fn bury_later(broker: &Broker, group: GroupId, receipt: Receipt, record: Record) {
    let broker = broker.clone();
    tokio::spawn(async move {
        if let Err(error) = bury(&broker, &group, receipt, record).await {
            tracing::warn!(consumer_group = %group, partition = %receipt.partition, offset = %receipt.offset, %error,
                "a dead letter could not be stored; it is tried again");
        }
    });
}

async fn bury(broker: &Broker, group: &GroupId, receipt: Receipt, record: Record) -> ItemResult<()> {
    let (origin, _) = place_of(broker, receipt.partition)?;
    let (name, _) = consumers::configured(&broker.catalog(), group);
    let topic = dead_letter_topic(&name);
    let partition = partition_beside(broker, &topic, origin.group).await?;
    let records = letter(&origin.topic.row.name, receipt, record)?;
    let produce = ProducePartition { topic: TopicRef::Name(topic), partition, records };
    broker.produce(vec![produce], TIMEOUT_MS).await.swap_remove(0)?;
    settle(broker, group, receipt.partition, &[receipt]).await?;
    Ok(())
}

/// A partition of the dead-letter topic in the same broker group, which this node leads, too. The topic is made where it is missing, and
/// grows where somebody made it with too few partitions.
async fn partition_beside(broker: &Broker, topic: &str, group: BrokerGroupId) -> ItemResult<i32> {
    let deadline = deadline(TIMEOUT_MS);
    let name = TopicRef::Name(topic.to_owned());
    while Instant::now() < deadline {
        let groups = broker.data_groups(deadline).await?;
        let found = match broker.catalog().find(&name) {
            Ok(found) => Some(found.clone()),
            Err(BrokerError::UnknownTopic(_)) => None,
            Err(error) => return Err(error),
        };
        let changed = match found {
            Some(found) => {
                if let Some(beside) = found.row.partitions.iter().position(|host| *host == group) {
                    // Somebody else may have made it a moment ago.
                    wait_hosted(broker, found.id, found.row.version, deadline).await?;
                    return Ok(i32::try_from(beside).unwrap_or(i32::MAX));
                }
                grow(broker, &found, group, &groups).await
            }
            None => make(broker, topic, groups.len()).await,
        };
        match changed {
            Ok(()) => {}
            // Somebody else was faster; this node may not know it yet.
            Err(BrokerError::TopicExists(_) | BrokerError::InvalidPartitions(_)) => sleep(PAUSE).await,
            Err(error) => return Err(error),
        }
    }
    Err(BrokerError::RequestTimedOut(format!("topic {topic} has no partition in broker group {group} yet")))
}

async fn make(broker: &Broker, topic: &str, partitions: usize) -> ItemResult<()> {
    let new = NewTopic {
        name: topic.to_owned(),
        partitions: i32::try_from(partitions.max(1)).ok(),
        replication_factor: None,
        assignments: Vec::new(),
        configs: Vec::new(),
    };
    broker.create_topics(vec![new], TIMEOUT_MS, false).await.swap_remove(0).map(drop)
}

/// Adds partitions until one of them lies in the broker group.
async fn grow(broker: &Broker, topic: &Topic, group: BrokerGroupId, groups: &[BrokerGroupId]) -> ItemResult<()> {
    let old = topic.row.partitions.len();
    let placed = place(topic.id, u32::try_from(old + groups.len()).unwrap_or(u32::MAX), groups);
    let beside = placed.iter().skip(old).position(|host| *host == group);
    let beside =
        beside.ok_or_else(|| BrokerError::InvalidRequest(format!("broker group {group} takes no partitions")))?;
    let count = i32::try_from(old + beside + 1).unwrap_or(i32::MAX);
    tracing::info!(
        topic = topic.row.name,
        count,
        "a dead-letter topic gets a partition in each broker group that needs one"
    );
    let more = NewPartitions { topic: topic.row.name.clone(), count, assignments: Vec::new() };
    broker.create_partitions(vec![more], TIMEOUT_MS, false).await.swap_remove(0)
}

/// The record with where it comes from.
fn letter(topic: &str, receipt: Receipt, record: Record) -> ItemResult<Bytes> {
    let header = |key: &'static str, value: String| RecordHeader {
        key: Bytes::from_static(key.as_bytes()),
        value: Some(Bytes::from(value)),
    };
    let mut headers = record.headers;
    headers.push(header("DLQ_ORIGIN_TOPIC", topic.to_owned()));
    headers.push(header("DLQ_ORIGIN_PARTITION", receipt.partition.partition.to_string()));
    headers.push(header("DLQ_ORIGIN_OFFSET", receipt.offset.to_string()));
    let invalid = |error: BuildError| BrokerError::InvalidRecord(error.to_string());
    let mut builder = BatchBuilder::new();
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    builder.push_with_headers(record.timestamp, key, value, &headers).map_err(invalid)?;
    Ok(builder.build().map_err(invalid)?.into_bytes())
}
