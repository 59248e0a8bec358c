//! The reader of a group's dead letters: one more RocketMQ consumer, with a group of its own.

use std::sync::Arc;
use std::time::Duration;

use duolog_rocketmq::proto::{AckMessageEntry, AckMessageRequest, Message, MessageQueue, ReceiveMessageRequest};

use super::client::{CALL_LIMIT, Client, PAUSE};
use super::consumer::{everything, receive};
use super::ledger::Debt;
use super::{Context, Phase, codec};
use crate::history::messages::{MessageEvent, Spot};

const BATCH: i32 = 32;
const POLL: Duration = Duration::from_secs(1);
const INVISIBLE: Duration = Duration::from_secs(10);
const GROUP: &str = "readers-of-dead-letters";

/// The topic is there as soon as the first message has died.
pub async fn read(context: Arc<Context>, topic: u16) {
    let name = format!("%DLQ%{}", context.topic(topic).group);
    let mut client = Client::new(format!("reader of dead letters {topic}"), &context.ports, usize::from(topic));
    while context.phase() != Phase::Over {
        let request = ReceiveMessageRequest {
            group: Some(codec::resource(GROUP)),
            message_queue: Some(MessageQueue {
                topic: Some(codec::resource(&name)),
                id: -1,
                ..MessageQueue::default()
            }),
            filter_expression: Some(everything()),
            batch_size: BATCH,
            invisible_duration: Some(codec::duration(INVISIBLE)),
            auto_renew: false,
            long_polling_timeout: Some(codec::duration(POLL)),
            attempt_id: None,
        };
        let mut entries = Vec::new();
        // What is lost comes again.
        let _ = receive(&mut client, request, |message| entries.extend(take(&context, topic, &message))).await;
        if entries.is_empty() {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let (group, topic) = (Some(codec::resource(GROUP)), Some(codec::resource(&name)));
        let request = AckMessageRequest { group, topic, entries };
        let _ =
            client.call(request, CALL_LIMIT, |mut stub, request| async move { stub.ack_message(request).await }).await;
    }
}

/// Records a dead letter with where it says that it comes from.
fn take(context: &Context, topic: u16, message: &Message) -> Option<AckMessageEntry> {
    let text = |name: &str| message.user_properties.get(name).map(String::as_str);
    let number = |name: &str| text(name).and_then(|text| text.parse().ok()).unwrap_or(-1_i64);
    // A letter of another topic has no place in this one.
    let is_ours = text("DLQ_ORIGIN_TOPIC") == Some(&context.topic(topic).name);
    let offset = if is_ours { number("DLQ_ORIGIN_OFFSET") } else { -1 };
    let value = codec::value(message);
    context.ledger.pay(Debt::Letter, value);
    context.ledger.pay(Debt::Message, value);
    let origin = Spot { topic, partition: number("DLQ_ORIGIN_PARTITION") as i32, offset };
    context.record(MessageEvent::DeadLetter { origin, value });
    let system = message.system_properties.clone()?;
    let (message_id, receipt_handle) = (system.message_id, system.receipt_handle?);
    Some(AckMessageEntry { message_id, receipt_handle, lite_topic: None })
}
