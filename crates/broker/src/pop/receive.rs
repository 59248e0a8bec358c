//! Receive: what is due again first, then what nobody was offered yet.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use duolog_coordinator::pop::{Offer, Taken, Taking};
use duolog_record::Record;
use duolog_record::group::GroupId;
use duolog_types::{ConsumptionOrder, DeliveryId, MessageType, Offset, TimestampMs, TopicPartition};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::dead_letters;
use super::filter::Compiled;
use super::queues::Queue;
use super::records::{READ_BYTES, SCAN_BYTES_MAX};
use super::undelivered::Undelivered;
use super::{after, place_of, records};
use crate::api::{EpochCheck, ItemResult};
use crate::broker::Broker;
use crate::catalog::Located;
use crate::consumers;
use crate::error::BrokerError;
use crate::fetch::serve;
use crate::message_api::{DeliveredMessage, Receipt, Receive};
use crate::produce::now;
use crate::runtime::GroupRuntime;
use crate::wakeups::Registration;

/// Messages of one answer, at most.
const COUNT_MAX: usize = 1_024;
/// A message that is on its way to the dead-letter topic is tried again after this time.
const BURIAL_MS: u64 = 10_000;
/// Longest sleep between two looks, so that nothing is missed for long.
const SLEEP_MAX: Duration = Duration::from_secs(5);

/// Where the next request begins, so that no partition is always last.
static TURN: AtomicUsize = AtomicUsize::new(0);

type Place = (Located, Arc<GroupRuntime>);

/// See [`crate::message_api::MessageApi::receive`].
pub(crate) async fn receive(broker: &Broker, request: Receive) -> ItemResult<Vec<DeliveredMessage>> {
    let filter = Compiled::new(&request.filter)?;
    let group = broker.group_of(&request.consumer);
    let (_, config) = consumers::configured(&broker.catalog(), &group);
    let consumer = Taker { group: &group, order: config.order(), request: &request, filter: &filter };
    let deadline = Instant::now() + Duration::from_millis(request.wait_ms_max);
    let poll = Arc::new(Notify::new());
    let mut registrations: Vec<Registration> = Vec::new();
    let mut undelivered = Undelivered::new(broker, &group);
    loop {
        let places = in_turn(places(broker, &request)?);
        let mut look = Look { delivered: Vec::new(), next_due: None, has_more: false };
        for place in &places {
            if let Err(error) = look_at(broker, place, &consumer, &mut look, &mut undelivered).await {
                // What was taken elsewhere is delivered all the same.
                if look.delivered.is_empty() {
                    return Err(error);
                }
                break;
            }
            if look.delivered.len() >= count_max(&request) {
                break;
            }
        }
        if !look.delivered.is_empty() || Instant::now() >= deadline {
            undelivered.forget();
            return Ok(look.delivered);
        }
        if registrations.is_empty() {
            registrations = places
                .iter()
                .map(|(located, runtime)| runtime.wakeups().register(vec![located.partition], &poll))
                .collect();
            continue;
        }
        if look.has_more {
            tokio::task::yield_now().await;
            continue;
        }
        let sleep = look.next_due.map_or(SLEEP_MAX, |due| until(due).min(SLEEP_MAX));
        let wake_at = deadline.min(Instant::now() + sleep);
        // Either something changed or it is time: both are looked at above.
        let _ = tokio::time::timeout_at(wake_at, poll.notified()).await;
    }
}

fn until(due: TimestampMs) -> Duration {
    Duration::from_millis(u64::try_from(due.0 - now().0).unwrap_or(0).max(1))
}

fn count_max(request: &Receive) -> usize {
    usize::try_from(request.count_max).unwrap_or(COUNT_MAX).clamp(1, COUNT_MAX)
}

/// The partitions of the request that this node leads.
fn places(broker: &Broker, request: &Receive) -> ItemResult<Vec<Place>> {
    if let Some(partition) = request.partition {
        let located = broker.locate(&request.topic, partition)?;
        let runtime = broker.runtime(located.group)?;
        return Ok(vec![(located, runtime)]);
    }
    let first = broker.locate(&request.topic, 0)?;
    let mut led = Vec::new();
    for number in 0..first.topic.row.partitions.len() {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let place = place_of(broker, TopicPartition { topic: first.topic.id, partition: number })?;
        if place.1.leadership().is_self {
            led.push(place);
        }
    }
    if led.is_empty() { Err(broker.runtime(first.group)?.not_leader()) } else { Ok(led) }
}

/// The partitions as they are looked at: where messages have priorities the highest first, else another one first each time.
fn in_turn(mut places: Vec<Place>) -> Vec<Place> {
    match places.first().map(|(located, _)| located.topic.row.config.message_type()) {
        Some(MessageType::Priority) => places.sort_by_key(|(located, _)| Reverse(located.partition)),
        _ => {
            let turn = TURN.fetch_add(1, Ordering::Relaxed) % places.len().max(1);
            places.rotate_left(turn);
        }
    }
    places
}

/// Who takes, and what.
struct Taker<'a> {
    /// The group whose state counts.
    group: &'a GroupId,
    order: ConsumptionOrder,
    request: &'a Receive,
    filter: &'a Compiled,
}

/// What a look at all partitions has found.
struct Look {
    delivered: Vec<DeliveredMessage>,
    /// When something is due again.
    next_due: Option<TimestampMs>,
    /// Whether a partition was not looked through to its end.
    has_more: bool,
}

async fn look_at(
    broker: &Broker,
    (located, runtime): &Place,
    taker: &Taker<'_>,
    look: &mut Look,
    undelivered: &mut Undelivered<'_>,
) -> ItemResult<()> {
    let Taker { group, request, .. } = *taker;
    let served = serve(located, runtime, EpochCheck::default()).await?;
    let partition = located.partition;
    let handle = runtime.pop().queue(broker, runtime, &served, group, partition)?;
    let mut queue = handle.lock().await;
    queue.is_used = true;
    if let Some(again) = answered_before(&queue, request) {
        let messages = read_again(runtime, &queue, partition, served.high_watermark, again)?;
        if let Some((delivery, messages)) = messages {
            let update = queue.pop.answer_again(again, delivery, after(request.invisible_ms));
            answered(&mut queue, delivery, request);
            queue.forget_answer(again);
            queue.remember(request.attempt_id.clone().unwrap_or_default(), delivery);
            let applied = runtime.pop().submit(&queue, update);
            drop(queue);
            undelivered.extend_again(messages.iter().map(|message| message.receipt), request.invisible_ms);
            applied.await.map_err(|_| runtime.not_leader())??;
            look.delivered.extend(messages);
            return Ok(());
        }
    }
    let room = count_max(request) - look.delivered.len();
    let mut taking = queue.pop.take(now(), room, request.attempts_max.max(1));
    let read = fill(located, runtime, taker, &mut queue, &mut taking, served.high_watermark);
    // Whatever could be read is delivered; an error that leaves nothing is told.
    let (mut found, has_more, error) = match read {
        Ok((found, has_more)) => (found, has_more, None),
        Err((found, error)) => (found, false, Some(error)),
    };
    look.has_more |= has_more;
    let of_all = taking.taken().map(|taken| taken.offset).chain(taking.exhausted());
    let unread: Vec<Offset> = of_all.filter(|offset| !found.contains_key(offset)).collect();
    for offset in unread {
        match records::at(runtime, partition, offset, served.high_watermark) {
            Ok(Some(record)) => drop(found.insert(offset, record)),
            Ok(None) => queue.pop.drop_taken(&mut taking, offset),
            // It is out without a consumer, and comes again when its time is over.
            Err(_) => {}
        }
    }
    let taken: Vec<Taken> = taking.taken().filter(|taken| found.contains_key(&taken.offset)).collect();
    let exhausted: Vec<Offset> = taking.exhausted().collect();
    let (delivery, burial) = (DeliveryId(rand::random()), DeliveryId(rand::random()));
    let keeper = request.auto_renew.then(|| request.consumer.client_id.clone());
    let update = queue.pop.deliver(taking, (delivery, after(request.invisible_ms), keeper), (burial, after(BURIAL_MS)));
    look.next_due = look.next_due.into_iter().chain(queue.pop.next_due(now())).min();
    let Some(update) = update else {
        return error.map_or(Ok(()), Err);
    };
    if let Some(attempt_id) = request.attempt_id.clone().filter(|_| !taken.is_empty()) {
        queue.remember(attempt_id, delivery);
    }
    answered(&mut queue, delivery, request);
    let applied = runtime.pop().submit(&queue, update);
    drop(queue);
    undelivered.extend(taken.iter().map(|taken| Receipt { partition, offset: taken.offset, delivery }));
    applied.await.map_err(|_| runtime.not_leader())??;
    for offset in exhausted {
        if let Some(record) = found.remove(&offset) {
            let receipt = Receipt { partition, offset, delivery: burial };
            dead_letters::bury_later(broker, group.clone(), receipt, record);
        }
    }
    look.delivered.extend(taken.into_iter().filter_map(|taken| {
        let record = found.remove(&taken.offset)?;
        let receipt = Receipt { partition, offset: taken.offset, delivery };
        Some(DeliveredMessage { partition, record, attempt: taken.attempt, receipt })
    }));
    Ok(())
}

fn answered(queue: &mut Queue, delivery: DeliveryId, request: &Receive) {
    if let Some(connection) = request.connection {
        queue.pop.answered_over(delivery, connection);
    }
}

type Found = HashMap<Offset, Record>;

/// Offers records from the cursor on until the delivery is full. Also says whether it stopped before the end for other reasons.
fn fill(
    located: &Located,
    runtime: &GroupRuntime,
    taker: &Taker<'_>,
    queue: &mut Queue,
    taking: &mut Taking,
    high_watermark: Offset,
) -> Result<(Found, bool), (Found, BrokerError)> {
    let mut found = Found::new();
    let mut scanned = 0;
    while taking.has_room() && queue.pop.cursor() < high_watermark {
        if scanned >= SCAN_BYTES_MAX {
            return Ok((found, true));
        }
        let from = queue.pop.cursor();
        let wanted = (taker.filter, taking.room());
        let read = records::wanted(runtime, located.partition, (from, high_watermark), wanted);
        let (reached, records) = match read {
            Ok(read) => read,
            Err(error) => return Err((found, error)),
        };
        scanned += READ_BYTES;
        queue.pop.pass_over(reached);
        for record in records {
            let (offset, is_wanted) = (record.offset, taker.filter.wants(&record));
            let order = records::order(&located.topic.row.config, taker.order, &record);
            if queue.pop.offer(taking, offset, order, is_wanted) == Offer::Full {
                return Ok((found, false));
            }
            if is_wanted {
                found.insert(offset, record);
            }
        }
        if queue.pop.cursor() == from {
            // Nothing is left there: the rest is not kept any more, or holds no records.
            break;
        }
    }
    Ok((found, false))
}

/// The delivery that a request with the same id was answered with, as long as it is out.
fn answered_before(queue: &Queue, request: &Receive) -> Option<DeliveryId> {
    let delivery = queue.answered(request.attempt_id.as_deref()?)?;
    (!queue.pop.delivery(delivery).is_empty()).then_some(delivery)
}

/// The messages of an answer that was lost, in a delivery of another name: the lost answer's receipts must be worth nothing, for
/// whoever finds that it was not taken gives its messages back. `None` when nothing of it is kept.
fn read_again(
    runtime: &GroupRuntime,
    queue: &Queue,
    partition: TopicPartition,
    high_watermark: Offset,
    before: DeliveryId,
) -> ItemResult<Option<(DeliveryId, Vec<DeliveredMessage>)>> {
    let delivery = DeliveryId(rand::random());
    let mut again = Vec::new();
    for message in queue.pop.delivery(before) {
        if let Some(record) = records::at(runtime, partition, message.offset, high_watermark)? {
            let receipt = Receipt { partition, offset: message.offset, delivery };
            again.push(DeliveredMessage { partition, record, attempt: message.attempts, receipt });
        }
    }
    Ok((!again.is_empty()).then_some((delivery, again)))
}
