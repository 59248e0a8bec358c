//! Acknowledging, and moving deliveries in time.

use std::collections::BTreeMap;
use std::sync::Arc;

use duolog_coordinator::pop::{ConnectionId, Renewal};
use duolog_record::group::GroupId;
use duolog_types::{DeliveryId, TimestampMs, TopicPartition};

use super::queues::QueueHandle;
use super::{after, bad_receipt, place_of};
use crate::api::{EpochCheck, ItemResult};
use crate::broker::Broker;
use crate::fetch::serve;
use crate::message_api::Receipt;
use crate::produce::now;
use crate::runtime::GroupRuntime;

/// A consumer that lives keeps its messages for this time, from its last sign of life.
const KEEP_MS: i64 = 60_000;
/// Only what would be due within this time is prolonged, so that a sign of life costs little.
const KEEP_BELOW_MS: i64 = 40_000;

/// See [`crate::message_api::MessageApi::acknowledge`].
pub(crate) async fn acknowledge(broker: &Broker, group: &GroupId, receipts: &[Receipt]) -> Vec<ItemResult<()>> {
    let mut by_partition: BTreeMap<TopicPartition, Vec<usize>> = BTreeMap::new();
    for (at, receipt) in receipts.iter().enumerate() {
        by_partition.entry(receipt.partition).or_default().push(at);
    }
    let mut results = vec![Ok(()); receipts.len()];
    for (partition, places) in by_partition {
        let wanted: Vec<Receipt> = places.iter().map(|at| receipts[*at]).collect();
        match settle(broker, group, partition, &wanted).await {
            Ok(good) => {
                for (at, is_good) in places.into_iter().zip(good) {
                    results[at] = if is_good { Ok(()) } else { Err(bad_receipt()) };
                }
            }
            Err(error) => places.into_iter().for_each(|at| results[at] = Err(error.clone())),
        }
    }
    results
}

/// Settles messages of one partition; which of the receipts were good, once that is committed.
pub(super) async fn settle(
    broker: &Broker,
    group: &GroupId,
    partition: TopicPartition,
    receipts: &[Receipt],
) -> ItemResult<Vec<bool>> {
    let Led { runtime, handle } = led(broker, group, partition).await?;
    let receipts: Vec<_> = receipts.iter().map(|receipt| (receipt.delivery, receipt.offset)).collect();
    let mut queue = handle.lock().await;
    let (good, update) = queue.pop.settle(&receipts);
    if update.is_empty() {
        return Ok(good);
    }
    let applied = runtime.pop().submit(&queue, update);
    drop(queue);
    applied.await.map_err(|_| runtime.not_leader())??;
    // Others of its message group may have waited for it.
    runtime.wakeups().wake(&[partition]);
    Ok(good)
}

/// See [`crate::message_api::MessageApi::change_invisible`].
pub(crate) async fn change_invisible(
    broker: &Broker,
    group: &GroupId,
    receipt: Receipt,
    invisible_ms: u64,
) -> ItemResult<Receipt> {
    let Led { runtime, handle } = led(broker, group, receipt.partition).await?;
    let delivery = DeliveryId(rand::random());
    let mut queue = handle.lock().await;
    if !queue.pop.is_out(receipt.delivery, receipt.offset) {
        return Err(bad_receipt());
    }
    queue.forget_answer(receipt.delivery);
    let update = queue.pop.move_message((receipt.delivery, receipt.offset), delivery, after(invisible_ms));
    let applied = runtime.pop().submit(&queue, update.ok_or_else(bad_receipt)?);
    drop(queue);
    applied.await.map_err(|_| runtime.not_leader())??;
    // Whoever waits learns the new time.
    runtime.wakeups().wake(&[receipt.partition]);
    Ok(Receipt { delivery, ..receipt })
}

/// See [`crate::message_api::MessageApi::renew`].
pub(crate) async fn renew(broker: &Broker, client_id: &str, connection: ConnectionId) {
    let now = now();
    let at = |ms: i64| TimestampMs(now.0.saturating_add(ms));
    let ms_max = i64::try_from(broker.settings().renew_max_ms).unwrap_or(i64::MAX);
    let renewal = Renewal { now, before: at(KEEP_BELOW_MS), due: at(KEEP_MS), ms_max };
    for runtime in broker.runtimes() {
        let Some(term) = *runtime.subscribe_serving().borrow() else { continue };
        let mut under_way = Vec::new();
        for handle in runtime.pop().all(term) {
            let mut queue = handle.lock().await;
            let update = queue.pop.keep(client_id, connection, renewal);
            if !update.is_empty() {
                under_way.push(runtime.pop().submit(&queue, update));
            }
        }
        for applied in under_way {
            // It is tried again at the next sign of life, and there are several before the time is up.
            let _ = applied.await;
        }
    }
}

/// A queue of a partition that this node leads.
pub(super) struct Led {
    pub(super) runtime: Arc<GroupRuntime>,
    pub(super) handle: QueueHandle,
}

pub(super) async fn led(broker: &Broker, group: &GroupId, partition: TopicPartition) -> ItemResult<Led> {
    let (located, runtime) = place_of(broker, partition)?;
    let served = serve(&located, &runtime, EpochCheck::default()).await?;
    let handle = runtime.pop().queue(broker, &runtime, &served, group, partition)?;
    Ok(Led { runtime, handle })
}
