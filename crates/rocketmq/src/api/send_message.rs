//! SendMessage: checks each message, chooses its partition, stores it where that is led. Each message has a result of its own.

use std::sync::Arc;

use bytes::Bytes;
use duolog_broker::api::{AckLease, Produced, TopicRef};
use duolog_broker::message_api::{Delivery, MessageApi, SendMessage, Sent};
use duolog_types::limits::DELAY_MS_MAX;
use duolog_types::{NodeId, Offset, TimestampMs, TimestampType, TopicPartition, partition_of_message_group};
use tokio::time::Instant;

use crate::caller::Caller;
use crate::check::{self, Kind};
use crate::context::Context;
use crate::errors::{Refusal, ok, overall};
use crate::handles;
use crate::mapping::{Stamp, to_batch};
use crate::names;
use crate::place::scatter;
use crate::proto::{Code, Message, SendMessageRequest, SendMessageResponse, SendResultEntry, Status, SystemProperties};
use crate::time::{from_duration, from_timestamp, now};

/// When the producer of a half message is asked first, unless it says something else.
const CHECK_AFTER_MS: u64 = 10_000;

/// A message that was checked.
#[derive(Clone)]
struct Ready {
    topic: TopicRef,
    partition: u32,
    kind: Kind,
    batch: Bytes,
    delivery: Delivery,
    /// For another node, if that leads. Shared, since every attempt gets what it needs anew.
    message: Arc<Message>,
}

/// How a message ended that was stored.
enum Stored {
    Here(Sent),
    /// The other node's answer.
    There(SendResultEntry),
}

pub(crate) async fn handle<B: MessageApi>(
    context: Context<B>,
    caller: Caller,
    request: SendMessageRequest,
) -> Result<SendMessageResponse, Refusal> {
    if request.messages.is_empty() {
        return Err(Refusal::new(Code::BadRequest, "there are no messages"));
    }
    let ids: Vec<String> = request.messages.iter().map(message_id).collect();
    let mut entries: Vec<Option<SendResultEntry>> = vec![None; ids.len()];
    let (mut items, mut places) = (Vec::new(), Vec::new());
    for (place, message) in request.messages.into_iter().enumerate() {
        match prepare(&context, &caller, message) {
            Ok(item) => {
                items.push(item);
                places.push(place);
            }
            Err(refusal) => entries[place] = Some(refused(&refusal)),
        }
    }
    let deadline = caller.deadline(context.retry());
    let here = |messages| store(&context, messages, deadline);
    let there = |node, messages| forward(&context, &caller, node, messages, deadline);
    let results = scatter(&context, &caller, deadline, &items, here, there).await;
    // Nothing waits between this and the answer.
    for ((place, result), (_, ready)) in places.into_iter().zip(results).zip(&items) {
        let confirmed = result.and_then(|stored| confirm(&context, stored, ready.kind, &ids[place]));
        entries[place] = Some(confirmed.unwrap_or_else(|refusal| refused(&refusal)));
    }
    let entries = entries.into_iter().zip(ids).map(|(entry, id)| {
        let entry = entry.unwrap_or_default();
        SendResultEntry { message_id: id, ..entry }
    });
    let entries: Vec<SendResultEntry> = entries.collect();
    let status = overall(entries.iter().map(|entry| entry.status.as_ref()));
    Ok(SendMessageResponse { status: Some(status), entries })
}

fn message_id(message: &Message) -> String {
    message.system_properties.as_ref().map(|system| system.message_id.clone()).unwrap_or_default()
}

fn refused(refusal: &Refusal) -> SendResultEntry {
    SendResultEntry { status: Some(refusal.status()), ..SendResultEntry::default() }
}

fn prepare<B: MessageApi>(
    context: &Context<B>,
    caller: &Caller,
    mut message: Message,
) -> Result<(TopicPartition, Ready), Refusal> {
    let name = names::topic(message.topic.as_ref())?;
    let topic = context.broker.topic_head(&TopicRef::Name(name.clone()))?;
    let kind = check::message(&message, topic.message_type)?;
    let system = message.system_properties.get_or_insert_default();
    let turn = context.next_turn();
    let own = || context.broker.own_partition(topic.id, turn);
    let partition =
        choose_partition(system, topic.partitions, caller.is_forwarded, own).unwrap_or(turn % topic.partitions.max(1));
    // So that the node that leads chooses the same.
    system.queue_id = i32::try_from(partition).unwrap_or(i32::MAX);
    let delivery = delivery_of(system, kind, now())?;
    if kind == Kind::Transaction {
        context.clients.publishes(&caller.client_id, &name);
    }
    let stamp = Stamp {
        host: &context.own_address,
        now: now(),
        is_log_append_time: topic.timestamp_type == TimestampType::LogAppendTime,
    };
    let batch = to_batch(&message, kind, stamp)?;
    let place = TopicPartition { topic: topic.id, partition };
    let message = Arc::new(message);
    Ok((place, Ready { topic: TopicRef::Id(topic.id), partition, kind, batch, delivery, message }))
}

/// A message group has a partition, and so has a priority: the one of its number, or the last. Else the producer's choice counts,
/// unless it is 0, which most clients send without having chosen: then the partitions that this node leads take turns, for clients
/// spread over the nodes. Of a message that another node forwards every choice counts. `None`: any will do.
fn choose_partition(
    system: &SystemProperties,
    partitions: u32,
    is_forwarded: bool,
    own: impl FnOnce() -> Option<u32>,
) -> Option<u32> {
    if let Some(group) = &system.message_group {
        return Some(partition_of_message_group(group, partitions));
    }
    if let Some(priority) = system.priority {
        return Some(u32::try_from(priority).unwrap_or(0).min(partitions.saturating_sub(1)));
    }
    let chosen = u32::try_from(system.queue_id).ok().filter(|chosen| *chosen < partitions);
    match chosen {
        Some(0) if !is_forwarded => own(),
        Some(chosen) => Some(chosen),
        None if is_forwarded => None,
        None => own(),
    }
}

fn delivery_of(system: &SystemProperties, kind: Kind, now: TimestampMs) -> Result<Delivery, Refusal> {
    let delivery = match (kind, &system.delivery_timestamp) {
        (Kind::Delay, Some(time)) => {
            let time = from_timestamp(time);
            if time.0.saturating_sub(now.0) > DELAY_MS_MAX {
                let sentence = format!("the delivery time is more than {DELAY_MS_MAX} ms away");
                return Err(Refusal::new(Code::IllegalDeliveryTime, sentence));
            }
            Delivery::At(time)
        }
        (Kind::Transaction, _) => {
            let asked = system.orphaned_transaction_recovery_duration.as_ref().and_then(from_duration);
            let after_ms = i64::try_from(asked.filter(|ms| *ms > 0).unwrap_or(CHECK_AFTER_MS)).unwrap_or(i64::MAX);
            Delivery::OnCommit { check_at: TimestampMs(now.0.saturating_add(after_ms)) }
        }
        _ => Delivery::Now,
    };
    Ok(delivery)
}

async fn store<B: MessageApi>(
    context: &Context<B>,
    messages: Vec<Ready>,
    deadline: Instant,
) -> Vec<Result<Stored, Refusal>> {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout_ms = i32::try_from(left.as_millis()).unwrap_or(i32::MAX).max(1);
    let count = messages.len();
    let messages = messages.into_iter().map(|ready| SendMessage {
        topic: ready.topic,
        partition: i32::try_from(ready.partition).unwrap_or(i32::MAX),
        batch: ready.batch,
        delivery: ready.delivery,
    });
    let sent = context.broker.send_messages(messages.collect(), timeout_ms).await;
    context.metrics.count_sent(sent.iter().filter(|result| result.is_ok()).count());
    debug_assert_eq!(sent.len(), count, "the broker answers each message");
    sent.into_iter().map(|result| result.map(Stored::Here).map_err(Refusal::from)).collect()
}

async fn forward<B: MessageApi>(
    context: &Context<B>,
    caller: &Caller,
    node: NodeId,
    messages: Vec<Ready>,
    deadline: Instant,
) -> Vec<Result<Stored, Refusal>> {
    let count = messages.len();
    let messages = messages.into_iter().map(|ready| Arc::unwrap_or_clone(ready.message)).collect();
    let request = SendMessageRequest { messages };
    match context.peers.forward(node, caller, request, deadline).await {
        Ok(answer) if answer.entries.len() == count => answer.entries.into_iter().map(stored_there).collect(),
        Ok(answer) => vec![answer.status; count].into_iter().map(|status| Err(refusal_of(status))).collect(),
        Err(refusal) => vec![refusal; count].into_iter().map(Err).collect(),
    }
}

fn stored_there(entry: SendResultEntry) -> Result<Stored, Refusal> {
    match entry.status.as_ref().map(Status::code) {
        Some(Code::Ok) => Ok(Stored::There(entry)),
        _ => Err(refusal_of(entry.status)),
    }
}

fn refusal_of(status: Option<Status>) -> Refusal {
    let status = status.unwrap_or_default();
    match status.code() {
        Code::Ok => Refusal::new(Code::InternalServerError, "the node that leads did not answer each message"),
        code => Refusal::Own(code, status.message),
    }
}

/// The answer about a message, if what it rests on still holds.
fn confirm<B: MessageApi>(
    context: &Context<B>,
    stored: Stored,
    kind: Kind,
    message_id: &str,
) -> Result<SendResultEntry, Refusal> {
    let sent = match stored {
        Stored::Here(sent) => sent,
        Stored::There(entry) => return Ok(entry),
    };
    if let Some(lease) = sent.lease {
        confirm_lease(context, sent.offset, lease)?;
    }
    let handle = sent.handle.map(|handle| handles::write_hidden(&handle, message_id)).unwrap_or_default();
    let (transaction_id, recall_handle) = match kind {
        Kind::Transaction => (handle, String::new()),
        _ => (String::new(), handle),
    };
    Ok(SendResultEntry {
        status: Some(ok()),
        message_id: message_id.to_owned(),
        transaction_id,
        offset: sent.offset.map_or(0, |offset| offset.0),
        recall_handle,
    })
}

fn confirm_lease<B: MessageApi>(context: &Context<B>, offset: Option<Offset>, lease: AckLease) -> Result<(), Refusal> {
    let produced = Produced {
        base_offset: offset.unwrap_or_default(),
        log_append_time: None,
        log_start_offset: Offset::default(),
        lease: Some(lease),
    };
    context.broker.confirm(produced)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{to_duration, to_timestamp};

    #[test]
    fn a_group_chooses_its_partition_and_a_producer_otherwise() {
        let free = |queue_id| SystemProperties { queue_id, ..SystemProperties::default() };
        let choose = |system: &SystemProperties, is_forwarded| choose_partition(system, 4, is_forwarded, || Some(3));
        assert_eq!((choose(&free(2), false), choose(&free(2), true)), (Some(2), Some(2)));
        assert_eq!((choose(&free(0), false), choose(&free(0), true)), (Some(3), Some(0)), "what the node leads");
        assert_eq!((choose(&free(-1), false), choose(&free(-1), true)), (Some(3), None));
        assert_eq!((choose(&free(4), false), choose(&free(4), true)), (Some(3), None), "there is none");
        assert_eq!(choose_partition(&free(0), 4, false, || None), None, "the node leads nothing");
        let grouped = SystemProperties { message_group: Some("abc".to_owned()), ..free(0) };
        assert_eq!(choose(&grouped, false), Some(partition_of_message_group("abc", 4)));
        assert_eq!(choose(&grouped, false), choose(&grouped, true));
        let urgent = |priority| SystemProperties { priority: Some(priority), ..free(1) };
        assert_eq!([0, 2, 3, 9].map(|priority| choose(&urgent(priority), false)), [0, 2, 3, 3].map(Some));
    }

    #[test]
    fn a_kind_decides_when_a_message_is_delivered() {
        let (plain, at) = (SystemProperties::default(), TimestampMs(1_000));
        assert_eq!(delivery_of(&plain, Kind::Normal, at), Ok(Delivery::Now));
        let late = |ms| {
            let time = Some(to_timestamp(TimestampMs(ms)));
            delivery_of(&SystemProperties { delivery_timestamp: time, ..plain.clone() }, Kind::Delay, at)
        };
        for ms in [9, 1_000 + DELAY_MS_MAX] {
            assert_eq!(late(ms), Ok(Delivery::At(TimestampMs(ms))));
        }
        assert_eq!(late(1_001 + DELAY_MS_MAX).unwrap_err().code(), Code::IllegalDeliveryTime);
        let check = |system: &SystemProperties| match delivery_of(system, Kind::Transaction, at) {
            Ok(Delivery::OnCommit { check_at }) => check_at.0,
            other => panic!("{other:?}"),
        };
        assert_eq!(check(&plain), 11_000);
        let asked = SystemProperties { orphaned_transaction_recovery_duration: Some(to_duration(500)), ..plain };
        assert_eq!(check(&asked), 1_500);
    }
}
