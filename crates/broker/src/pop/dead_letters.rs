//! Dead letters: messages that were delivered as often as is allowed go to a topic of their group.
//!
//! First the dead letter is stored, then the message is settled: in between it may be stored twice, but never lost.

use bytes::Bytes;
use duolog_record::group::GroupId;
use duolog_record::{BatchBuilder, BuildError, Record, RecordHeader};
use duolog_types::TimestampMs;

use super::settle::{Led, led, settle};
use super::{bad_receipt, place_of, records};
use crate::api::{ItemResult, ProducePartition, TopicRef};
use crate::beside::{self, partition_beside};
use crate::broker::Broker;
use crate::consumers;
use crate::error::BrokerError;
use crate::message_api::{BORN_TIME_HEADER, Receipt, dead_letter_topic};
use crate::produce::{now, produce_own};
use crate::trace::Fate;

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
    let partition = partition_beside(broker, &topic, &[], origin.group).await?;
    let records = letter(&origin.topic.row.name, receipt, record, now())?;
    let produce = ProducePartition { topic: TopicRef::Name(topic), partition, records };
    produce_own(broker, produce, beside::TIMEOUT_MS).await?;
    settle(broker, group, receipt.partition, &[receipt]).await?;
    broker.trace(&name, (receipt.partition, receipt.offset), || Fate::DeadLetter);
    Ok(())
}

/// The record with where it comes from, as a record of now: its time to be kept begins anew. When it was made stays in a header.
fn letter(topic: &str, receipt: Receipt, record: Record, now: TimestampMs) -> ItemResult<Bytes> {
    let mut headers = record.headers;
    let tells_born = headers.iter().any(|header| header.key == BORN_TIME_HEADER.as_bytes());
    headers.push(RecordHeader::text("DLQ_ORIGIN_TOPIC", topic));
    headers.push(RecordHeader::text("DLQ_ORIGIN_PARTITION", receipt.partition.partition.to_string()));
    headers.push(RecordHeader::text("DLQ_ORIGIN_OFFSET", receipt.offset.to_string()));
    if !tells_born {
        headers.push(RecordHeader::text(BORN_TIME_HEADER, record.timestamp.0.to_string()));
    }
    let invalid = |error: BuildError| BrokerError::InvalidRecord(error.to_string());
    let mut builder = BatchBuilder::new();
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    builder.push_with_headers(now, key, value, &headers).map_err(invalid)?;
    Ok(builder.build().map_err(invalid)?.into_bytes())
}
