//! Sending single messages: visible at once, or hidden.

use std::time::Duration;

use duolog_record::RecordBatch;
use duolog_record::entry::{Hidden, HiddenReason};
use duolog_types::{ProducerId, TimestampMs};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::check_backs::AGE_MS_MAX;
use super::delayed;
use crate::api::ItemResult;
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::message_api::{Delivery, HiddenHandle, SendMessage, Sent};
use crate::produce::{checked, hand_over, now, wait};
use crate::runtime::Sequenced;
use crate::unpack::Part;

/// Stores messages; all are handed to their sequencers in the first poll, in order.
pub(crate) async fn send(broker: &Broker, messages: Vec<SendMessage>, timeout_ms: i32) -> Vec<ItemResult<Sent>> {
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0).max(1));
    let deadline = Instant::now() + timeout;
    join_all(messages.into_iter().map(|message| send_one(broker, message, deadline))).await
}

async fn send_one(broker: &Broker, message: SendMessage, deadline: Instant) -> ItemResult<Sent> {
    let place = broker.locate(&message.topic, message.partition)?;
    let runtime = broker.runtime(place.group)?;
    let hidden = hidden(message.delivery, now())?;
    let batch = checked(broker, &place, &runtime, message.batch)?;
    check_single(&batch)?;
    let answer = hand_over(&place, &runtime, Part { batch, hidden })?;
    let Sequenced { base_offset, lease, entry, hidden_slot, .. } = wait(&runtime, answer, deadline).await?;
    let partition = place.partition;
    let handle = entry.zip(hidden_slot).map(|((term, index), slot)| HiddenHandle { partition, index, term, slot });
    let offset = handle.is_none().then_some(base_offset);
    Ok(Sent { partition, offset, handle, lease })
}

/// What the message waits for; nothing, when its time has come already.
fn hidden(delivery: Delivery, now: TimestampMs) -> ItemResult<Option<Hidden>> {
    match delivery {
        Delivery::Now => Ok(None),
        Delivery::At(time) => delayed(time, now).map_err(BrokerError::InvalidRecord),
        // One whose first question lay further ahead would end after its age has passed, or never, and keep the log until then.
        Delivery::OnCommit { check_at } => {
            let time = check_at.min(TimestampMs(now.0.saturating_add(AGE_MS_MAX)));
            Ok(Some(Hidden { reason: HiddenReason::Half, time }))
        }
    }
}

fn check_single(batch: &RecordBatch) -> ItemResult<()> {
    let view = batch.view();
    match (view.record_count(), view.producer_id()) {
        (1, ProducerId::NONE) => Ok(()),
        (1, _) => Err(BrokerError::InvalidRecord("a message of an idempotent producer".to_owned())),
        (found, _) => Err(BrokerError::InvalidRecord(format!("a message is one record, found {found}"))),
    }
}

#[cfg(test)]
mod tests {
    use duolog_types::limits;

    use super::*;

    #[test]
    fn what_is_due_is_not_hidden_and_a_delay_has_a_limit() {
        let (now, max) = (TimestampMs(1_000), limits::DELAY_MS_MAX);
        for due in [Delivery::Now, Delivery::At(TimestampMs(-5)), Delivery::At(now)] {
            assert_eq!(hidden(due, now), Ok(None), "{due:?}");
        }
        let at = |time| hidden(Delivery::At(TimestampMs(time)), now);
        assert_eq!(at(1_001), Ok(Some(Hidden { reason: HiddenReason::Delayed, time: TimestampMs(1_001) })));
        assert!(at(1_000 + max).is_ok());
        assert!(matches!(at(1_001 + max), Err(BrokerError::InvalidRecord(_))));
        let check_at = TimestampMs(7);
        let half = Hidden { reason: HiddenReason::Half, time: check_at };
        assert_eq!(hidden(Delivery::OnCommit { check_at }, now), Ok(Some(half)));
        let far = Hidden { reason: HiddenReason::Half, time: TimestampMs(1_000 + AGE_MS_MAX) };
        assert_eq!(hidden(Delivery::OnCommit { check_at: TimestampMs(i64::MAX) }, now), Ok(Some(far)));
    }
}
