//! Single messages for consumer groups: receive, acknowledge, make visible again, dead letters.
//!
//! ```text
//!  receive ─▶ lock the queue ─▶ due again, then new records ─▶ delivery ─▶ PopUpdate ─▶ proposer ─▶ Raft ─▶ answered
//!               (group, partition)   read from the log                    (in order)    coalesces    when applied
//! ```
//!
//! A message is given to a consumer only when its delivery is committed: a leader that is lost takes no delivery with it, and
//! one that only thought that it led delivers nothing.

mod dead_letters;
mod filter;
mod progress;
mod proposer;
mod pull;
mod queues;
mod receive;
mod records;
mod settle;
mod start;
mod undelivered;

use std::sync::Arc;

use duolog_types::{TimestampMs, TopicPartition};

use crate::api::{ItemResult, TopicRef};
use crate::broker::Broker;
use crate::catalog::Located;
use crate::error::BrokerError;
use crate::produce::now;
use crate::runtime::GroupRuntime;

pub(crate) use dead_letters::dead_letter;
pub(crate) use progress::publish;
pub(crate) use proposer::run as propose;
pub(crate) use pull::pull;
pub(crate) use queues::{PopQueues, Submitted};
pub(crate) use receive::receive;
pub(crate) use settle::{acknowledge, change_invisible, renew};

/// Where a partition of a receipt is.
fn place_of(broker: &Broker, partition: TopicPartition) -> ItemResult<(Located, Arc<GroupRuntime>)> {
    let number = i32::try_from(partition.partition).unwrap_or(i32::MAX);
    let located = broker.locate(&TopicRef::Id(partition.topic), number)?;
    let runtime = broker.runtime(located.group)?;
    Ok((located, runtime))
}

fn after(ms: u64) -> TimestampMs {
    TimestampMs(now().0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
}

fn bad_receipt() -> BrokerError {
    BrokerError::InvalidReceipt(
        "the receipt is not good any more: the message was acknowledged or delivered again since".to_owned(),
    )
}
