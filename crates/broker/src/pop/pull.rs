//! Pull: a consumer that keeps its own offsets reads a partition, filtered by the broker. Nothing is delivered, nothing remembered.

use std::sync::Arc;
use std::time::Duration;

use duolog_record::Record;
use duolog_state::reader;
use duolog_types::{Offset, TopicPartition};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::filter::Compiled;
use super::records::{self, READ_BYTES, SCAN_BYTES_MAX};
use crate::api::{EpochCheck, ItemResult};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::fetch::serve;
use crate::message_api::{Pull, Pulled};
use crate::runtime::{GroupRuntime, storage};

/// See [`crate::message_api::MessageApi::pull`].
pub(crate) async fn pull(broker: &Broker, pull: Pull) -> ItemResult<Pulled> {
    let filter = Compiled::new(&pull.filter)?;
    let place = broker.locate(&pull.topic, pull.partition)?;
    let runtime = broker.runtime(place.group)?;
    let deadline = Instant::now() + Duration::from_millis(pull.wait_ms_max);
    let poll = Arc::new(Notify::new());
    let _registration = runtime.wakeups().register(vec![place.partition], &poll);
    let mut next_offset = pull.offset;
    loop {
        let served = serve(&place, &runtime, EpochCheck::default()).await?;
        check_range(&runtime, place.partition, next_offset, served.high_watermark)?;
        let at = Pull { offset: next_offset, ..pull.clone() };
        let pulled = read(&runtime, place.partition, &at, served.high_watermark, &filter)?;
        if !pulled.records.is_empty() || Instant::now() >= deadline {
            return Ok(pulled);
        }
        let is_at_end = pulled.next_offset >= served.high_watermark || pulled.next_offset == next_offset;
        next_offset = pulled.next_offset;
        if is_at_end {
            // Either something changed or it is time: both are looked at above.
            let _ = tokio::time::timeout_at(deadline, poll.notified()).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}

fn check_range(
    runtime: &GroupRuntime,
    partition: TopicPartition,
    offset: Offset,
    high_watermark: Offset,
) -> ItemResult<()> {
    let log_start = reader::log_start(&*runtime.tables(), partition).map_err(storage)?;
    if (log_start..=high_watermark).contains(&offset) {
        return Ok(());
    }
    Err(BrokerError::OffsetOutOfRange { found: offset.0, start: log_start.0, end_inclusive: high_watermark.0 })
}

fn read(
    runtime: &GroupRuntime,
    partition: TopicPartition,
    pull: &Pull,
    high_watermark: Offset,
    filter: &Compiled,
) -> ItemResult<Pulled> {
    let count_max = usize::try_from(pull.count_max).unwrap_or(1).max(1);
    let mut pulled = Pulled { partition, records: Vec::new(), next_offset: pull.offset };
    let mut scanned = 0;
    while pulled.next_offset < high_watermark && scanned < SCAN_BYTES_MAX {
        let wanted = (filter, count_max - pulled.records.len());
        let (reached, found) = records::wanted(runtime, partition, (pulled.next_offset, high_watermark), wanted)?;
        pulled.next_offset = reached;
        scanned += READ_BYTES;
        if found.is_empty() {
            break;
        }
        for record in found {
            if take(&mut pulled, record, filter) && pulled.records.len() == count_max {
                return Ok(pulled);
            }
        }
    }
    Ok(pulled)
}

fn take(pulled: &mut Pulled, record: Record, filter: &Compiled) -> bool {
    pulled.next_offset = Offset(record.offset.0 + 1);
    let is_wanted = filter.wants(&record);
    if is_wanted {
        pulled.records.push(record);
    }
    is_wanted
}
