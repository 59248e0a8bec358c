//! DeleteRecords: an administrator moves a partition's log start offset.

use std::time::Duration;

use duolog_replication::{CommandResponse, ProposeError};
use duolog_state::command::{Command, PartitionCommand};
use duolog_state::{Response, reader};
use duolog_types::{FlushWish, Offset};

use crate::api::{EpochCheck, ItemResult, TopicRef};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::fetch::serve;
use crate::runtime::storage;

/// Deletes the records before an offset, or before the high watermark; gives the log start offset once it is committed
/// and applied here.
pub(crate) async fn delete_before(
    broker: &Broker,
    topic: &TopicRef,
    partition: i32,
    before: Option<Offset>,
    timeout_ms: i32,
) -> ItemResult<Offset> {
    let place = broker.locate(topic, partition)?;
    let runtime = broker.runtime(place.group)?;
    serve(&place, &runtime, EpochCheck::default()).await?;
    let partition = place.partition;
    let (high_watermark, _) = runtime.ends(partition)?.ok_or(BrokerError::LeaderNotAvailable)?;
    let offset = before.unwrap_or(high_watermark);
    if !(Offset(0)..=high_watermark).contains(&offset) {
        let start = reader::log_start(&*runtime.tables(), partition).map_err(storage)?.0;
        return Err(BrokerError::OffsetOutOfRange { found: offset.0, start, end_inclusive: high_watermark.0 });
    }
    // Everything below the high watermark lies in the log before this command, so apply has no reason to cut it.
    let command = Command::Partitions(PartitionCommand::AdvanceLogStart { partition, offset });
    let proposed = runtime.group().propose_command(command.encode(), FlushWish::Now);
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0)).max(crate::topics::TIMEOUT_MIN);
    match tokio::time::timeout(timeout, proposed).await {
        Ok(Ok((_, CommandResponse(Response::LogStart { offset })))) => Ok(offset),
        Ok(Ok((_, CommandResponse(Response::NoSuchTopic)))) => {
            Err(BrokerError::UnknownTopic(place.topic.row.name.clone()))
        }
        Ok(Ok((_, other))) => Err(BrokerError::Storage(format!("unexpected answer of the broker group: {other}"))),
        Ok(Err(ProposeError::NotLeader { .. })) => Err(runtime.not_leader()),
        Ok(Err(ProposeError::Unknown(reason))) => Err(BrokerError::RequestTimedOut(reason)),
        Err(_) => Err(BrokerError::RequestTimedOut("the deletion is not committed yet".to_owned())),
    }
}
