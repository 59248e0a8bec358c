//! Ends of hidden messages that somebody asks for.

use std::sync::Arc;
use std::time::Duration;

use duolog_coordinator::sequencer::{EndItem, HiddenEnd};
use duolog_types::{LogIndex, TimestampMs};
use tokio::time::Instant;

use crate::api::{ItemResult, TopicRef};
use crate::broker::Broker;
use crate::catalog::Located;
use crate::error::BrokerError;
use crate::fetch::PARK_MAX;
use crate::message_api::{HiddenHandle, Resolution};
use crate::produce::{Answer, now, submit, wait};
use crate::runtime::GroupRuntime;

/// Longest time until an end is acknowledged.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an end without a delivery is remembered, for those who ask again.
const REMEMBERED_MS: i64 = 3_600_000;
/// How long a message is kept whose producer never answered, so that it can be looked at.
const GIVEN_UP_KEPT_MS: i64 = 72 * 3_600_000;
/// What an end counts in the sequencer's queue.
const END_BYTES: usize = 256;

/// See [`crate::message_api::MessageApi::end_transaction`].
pub(crate) async fn end_transaction(broker: &Broker, handle: HiddenHandle, resolution: Resolution) -> ItemResult<()> {
    let end = match resolution {
        Resolution::Commit => HiddenEnd::Commit,
        Resolution::Rollback => HiddenEnd::RollBack,
    };
    end_hidden(broker, handle, end).await
}

/// See [`crate::message_api::MessageApi::recall`].
pub(crate) async fn recall(broker: &Broker, handle: HiddenHandle) -> ItemResult<()> {
    end_hidden(broker, handle, HiddenEnd::Recall).await
}

pub(super) async fn end_hidden(broker: &Broker, handle: HiddenHandle, end: HiddenEnd) -> ItemResult<()> {
    let deadline = Instant::now() + END_TIMEOUT;
    let place = locate(broker, &handle)?;
    let runtime = broker.runtime(place.group)?;
    wait_applied(&runtime, &handle, deadline).await?;
    let answer = submit_end(&runtime, &place, &handle, end)?;
    wait(&runtime, answer, deadline).await.map(|_| ())
}

/// The place that the handle's partition has in the catalog.
pub(super) fn locate(broker: &Broker, handle: &HiddenHandle) -> ItemResult<Located> {
    let number = i32::try_from(handle.partition.partition).map_err(|_| no_such_message())?;
    broker.locate(&TopicRef::Id(handle.partition.topic), number).map_err(|error| match error {
        // Its messages are gone with it.
        BrokerError::UnknownTopicId(_) | BrokerError::UnknownPartition { .. } => no_such_message(),
        other => other,
    })
}

/// Hands the end of a hidden message whose entry is applied to the sequencer.
pub(super) fn submit_end(
    runtime: &Arc<GroupRuntime>,
    place: &Located,
    handle: &HiddenHandle,
    end: HiddenEnd,
) -> ItemResult<Answer> {
    let (config, now) = (&place.topic.row.config, now());
    let kept_ms = if end == HiddenEnd::GiveUp { GIVEN_UP_KEPT_MS } else { REMEMBERED_MS };
    let item = EndItem {
        waiter: runtime.sequencer().waiter(),
        partition: handle.partition,
        address: handle.address(),
        term: handle.term,
        end,
        now,
        keep_until: TimestampMs(now.0.saturating_add(kept_ms)),
        durability: config.durability(),
        flush: config.flush_wish(),
        flush_records: config.flush_messages(),
    };
    submit(runtime, item.into(), END_BYTES)
}

/// A message may be acknowledged before it is applied, and only what is applied can be ended.
async fn wait_applied(runtime: &Arc<GroupRuntime>, handle: &HiddenHandle, deadline: Instant) -> ItemResult<()> {
    let term = runtime.served_term(Instant::now() + PARK_MAX).await?;
    let mut applied = runtime.group().applied();
    let is_applied = |index: LogIndex| applied.borrow().is_some_and(|mark| mark.index >= index.0);
    if is_applied(handle.index) {
        return Ok(());
    }
    // Everything of earlier terms is applied, so what is not applied is this term's, and in this leader's log.
    let last = runtime.group().log().last().map(|(_, index)| index);
    if handle.term != term || last.is_none_or(|last| last < handle.index) {
        return if runtime.group().lease_is_valid(term) { Err(no_such_message()) } else { Err(runtime.not_leader()) };
    }
    let reached = applied.wait_for(|mark| mark.is_some_and(|mark| mark.index >= handle.index.0));
    match tokio::time::timeout_at(deadline, reached).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(runtime.not_leader()),
        Err(_) => Err(BrokerError::RequestTimedOut("the message itself is not committed yet".to_owned())),
    }
}

fn no_such_message() -> BrokerError {
    BrokerError::InvalidReceipt("there is no such half or delayed message".to_owned())
}
