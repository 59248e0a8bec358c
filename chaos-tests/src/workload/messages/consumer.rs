//! A member of a topic's consumer group: receives, records, acknowledges. Some acknowledgements are withheld on purpose during the
//! load, so that messages come again.
//!
//! The first member of a group is a simple consumer, which takes what any node has. The others are as push consumers: in a FIFO topic
//! they ask for one partition after the other, and they repeat a lost call under the same attempt id. Members of a broadcasting
//! group are the same in all that, but each gets every message.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::{CALL_LIMIT, Client, Failure, PAUSE, outcome, perhaps_done};
use super::codec;
use super::ledger::Debt;
use super::{Context, Phase};
use crate::history::messages::{Kind, MessageEvent, MessageTopic, Outcome, Spot, WANTED_TAG};
use crate::history::{Value, fnv1a};
use duolog_rocketmq::proto::receive_message_response::Content;
use duolog_rocketmq::proto::settings::PubSub;
use duolog_rocketmq::proto::{
    AckMessageEntry, AckMessageRequest, AckMessageResponse, ClientType, FilterExpression, FilterType, Message,
    MessageQueue, ReceiveMessageRequest, ReceiveMessageResponse, RetryPolicy, Settings, Status, Subscription,
    SubscriptionEntry,
};

const BATCH: i32 = 16;
const POLL: Duration = Duration::from_secs(2);
const POLL_OF_ONE: Duration = Duration::from_millis(300);
/// The broker waits three seconds more for a leader.
const RECEIVE_LIMIT: Duration = Duration::from_secs(6);
const INVISIBLE: Duration = Duration::from_secs(5);
const INVISIBLE_LETTER: Duration = Duration::from_secs(2);
/// Deliveries before a letter is dead.
const LETTER_ATTEMPTS_MAX: i32 = 3;
const WITHHELD_PERCENT: u64 = 5;
/// After so many deliveries nothing is withheld: no message but letters shall become a dead letter.
const WITHHELD_ATTEMPTS_MAX: i32 = 3;
const ACKS_MAX: u32 = 3;

/// The broker pauses at least so long before it tries a call again on its own. A call that took less was tried once, so when it was
/// refused the receipt was bad from the start; else the broker's own first attempt may have used it up.
const TRIED_ONCE: Duration = Duration::from_millis(20);

/// A delivered message that is to be acknowledged.
struct Held {
    spot: Spot,
    value: Value,
    message_id: String,
    receipt_handle: String,
}

struct Consumer {
    context: Arc<Context>,
    client: Client,
    topic: u16,
    group: String,
    role: Role,
}

#[derive(Clone, Copy)]
enum Role {
    /// Shares the messages with others. The number is unique in the run.
    Reader(u32),
    /// The member of the broadcasting group.
    Copier(u32),
}

impl Role {
    /// What an acknowledgement pays.
    fn debt(self) -> Debt {
        match self {
            Role::Reader(_) => Debt::Message,
            Role::Copier(member) => Debt::Copy(member),
        }
    }
}

/// A member of the topic's group.
pub async fn run(context: Arc<Context>, topic: u16, member: usize) {
    let client = Client::new(format!("consumer-{topic}-{member}"), &context.ports, usize::from(topic) + member);
    let (group, role) = (context.topic(topic).group.clone(), Role::Reader(10 * u32::from(topic) + member as u32));
    consume(Consumer { context, client, topic, group, role }, member > 0).await;
}

/// A member of the topic's broadcasting group.
pub async fn run_copies(context: Arc<Context>, topic: u16, member: u32) {
    let client = Client::new(format!("copier-{topic}-{member}"), &context.ports, member as usize);
    let group = context.topic(topic).broadcasting_group();
    consume(Consumer { context, client, topic, group, role: Role::Copier(member) }, member > 0).await;
}

async fn consume(mut consumer: Consumer, is_push: bool) {
    let of_topic = consumer.context.topic(consumer.topic);
    let (is_fifo, partition_count) = (of_topic.kind == Kind::Fifo, of_topic.partition_count);
    consumer.client.describe(&settings(of_topic, &consumer.group, is_push), None);
    let mut queue = -1;
    let mut attempt_id = None;
    while consumer.context.phase() != Phase::Over {
        if attempt_id.is_none() {
            queue = if is_push && is_fifo { (queue + 1) % partition_count } else { -1 };
            attempt_id = is_push.then(|| format!("attempt-{}", consumer.context.number()));
        }
        let (held, is_lost) = consumer.receive(queue, attempt_id.clone()).await;
        if !is_lost {
            attempt_id = None;
        }
        consumer.settle(held).await;
    }
}

impl Consumer {
    /// What was given and is to be acknowledged, and whether the answer was lost.
    async fn receive(&mut self, queue: i32, attempt_id: Option<String>) -> (Vec<Held>, bool) {
        let Self { context, client, topic, group, role } = self;
        let of_topic = context.topic(*topic);
        let invisible = if of_topic.kind == Kind::Letters { INVISIBLE_LETTER } else { INVISIBLE };
        let request = ReceiveMessageRequest {
            group: Some(codec::resource(group)),
            message_queue: Some(MessageQueue {
                topic: Some(codec::resource(&of_topic.name)),
                id: queue,
                ..MessageQueue::default()
            }),
            filter_expression: Some(wanted(of_topic.kind)),
            batch_size: BATCH,
            invisible_duration: Some(codec::duration(invisible)),
            auto_renew: false,
            long_polling_timeout: Some(codec::duration(if queue >= 0 { POLL_OF_ONE } else { POLL })),
            attempt_id,
        };
        let (asked_ms, call) = (context.now_ms(), context.number());
        let given = Given { asked_ms, role: *role, call, topic: *topic, invisible };
        let mut held = Vec::new();
        let result = receive(client, request, |message| held.extend(take(context, &given, &message))).await;
        (held, matches!(result, Err(Failure::Lost(_))))
    }

    async fn settle(&mut self, mut held: Vec<Held>) {
        let Self { context, client, topic, group, role } = self;
        let of_topic = context.topic(*topic);
        for attempt in 0..ACKS_MAX {
            if held.is_empty() {
                return;
            }
            let entry = |held: &Held| AckMessageEntry {
                message_id: held.message_id.clone(),
                receipt_handle: held.receipt_handle.clone(),
                lite_topic: None,
            };
            let request = AckMessageRequest {
                group: Some(codec::resource(group)),
                topic: Some(codec::resource(&of_topic.name)),
                entries: held.iter().map(entry).collect(),
            };
            let (asked_ms, began) = (context.now_ms(), Instant::now());
            let answer =
                client.call(request, CALL_LIMIT, |mut stub, request| async move { stub.ack_message(request).await });
            let answer = answer.await;
            let is_tried_once = attempt == 0 && began.elapsed() < TRIED_ONCE;
            if let Err(Failure::NotSent) = answer {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let time_ms = context.now_ms();
            let mut open = Vec::new();
            for (at, held) in held.into_iter().enumerate() {
                let answered = match &answer {
                    Ok(answer) => outcome(status(answer, at)),
                    Err(failure) => Outcome::Open(format!("{failure:?}")),
                };
                let is_known = !matches!(answered, Outcome::Open(_));
                let outcome = if is_tried_once { answered } else { perhaps_done(answered) };
                if is_known && !matches!(outcome, Outcome::Refused(_)) {
                    context.ledger.pay(role.debt(), held.value);
                }
                if let Role::Reader(_) = role {
                    let (spot, receipt) = (held.spot, fnv1a(held.receipt_handle.as_bytes()));
                    context.record(MessageEvent::Settled { asked_ms, time_ms, spot, receipt, outcome });
                }
                if !is_known {
                    open.push(held);
                }
            }
            held = open;
            if !held.is_empty() {
                client.turn();
                tokio::time::sleep(PAUSE).await;
            }
        }
        // Open to the end: if it did not happen, the message comes again.
        for held in held {
            context.ledger.pay(role.debt(), held.value);
        }
    }
}

/// What all messages of an answer have in common.
struct Given {
    asked_ms: u64,
    role: Role,
    call: u64,
    topic: u16,
    invisible: Duration,
}

/// Records a delivery; gives what is to be acknowledged.
fn take(context: &Context, given: &Given, message: &Message) -> Option<Held> {
    let system = message.system_properties.clone().unwrap_or_default();
    let value = codec::value(message);
    let offset = system.queue_offset.unwrap_or(-1);
    let spot = Spot { topic: given.topic, partition: system.queue_id, offset };
    let receipt_handle = system.receipt_handle.unwrap_or_default();
    let attempt = system.delivery_attempt.unwrap_or(0);
    context.ledger.delivered();
    let time_ms = context.now_ms();
    context.record(match given.role {
        Role::Copier(member) => MessageEvent::Copied { time_ms, member, spot, value },
        Role::Reader(reader) => MessageEvent::Delivered {
            asked_ms: given.asked_ms,
            time_ms,
            reader,
            call: given.call,
            spot,
            value,
            attempt,
            receipt: fnv1a(receipt_handle.as_bytes()),
            invisible_ms: given.invisible.as_millis() as u64,
        },
    });
    let is_doomed = context.topic(given.topic).kind == Kind::Letters && codec::is_doomed(value);
    let is_withheld = context.phase() == Phase::Load
        && attempt <= WITHHELD_ATTEMPTS_MAX
        && codec::percent(value, &format!("withhold {attempt}")) < WITHHELD_PERCENT;
    (!is_doomed && !is_withheld).then_some(Held { spot, value, message_id: system.message_id, receipt_handle })
}

/// One call: `each` gets the messages as they come.
///
/// # Errors
/// The answer did not come, or not to its end; there was a pause.
pub async fn receive(
    client: &mut Client,
    request: ReceiveMessageRequest,
    mut each: impl FnMut(Message),
) -> Result<(), Failure> {
    let answer =
        client.call(request, RECEIVE_LIMIT, |mut stub, request| async move { stub.receive_message(request).await });
    let mut result = answer.await;
    while let Ok(answer) = &mut result {
        match tokio::time::timeout(CALL_LIMIT, answer.message()).await {
            Ok(Ok(Some(ReceiveMessageResponse { content: Some(Content::Message(message)) }))) => each(message),
            // The other parts say nothing that is needed here.
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(status)) => result = Err(Failure::Lost(status.to_string())),
            Err(_) => result = Err(Failure::Lost(format!("no more of the answer in {CALL_LIMIT:?}"))),
        }
    }
    client.turn();
    tokio::time::sleep(PAUSE).await;
    result.map(|_| ())
}

/// The entry's own status, else the whole answer's.
fn status(answer: &AckMessageResponse, at: usize) -> Option<&Status> {
    answer.entries.get(at).and_then(|entry| entry.status.as_ref()).or(answer.status.as_ref())
}

pub fn everything() -> FilterExpression {
    FilterExpression { r#type: FilterType::Tag.into(), expression: "*".to_string() }
}

fn wanted(kind: Kind) -> FilterExpression {
    match kind {
        Kind::Filtered => FilterExpression { r#type: FilterType::Tag.into(), expression: WANTED_TAG.to_string() },
        _ => everything(),
    }
}

fn settings(topic: &MessageTopic, group: &str, is_push: bool) -> Settings {
    let entry = SubscriptionEntry { topic: Some(codec::resource(&topic.name)), expression: Some(wanted(topic.kind)) };
    let subscription =
        Subscription { group: Some(codec::resource(group)), subscriptions: vec![entry], ..Subscription::default() };
    let mut settings = Settings { pub_sub: Some(PubSub::Subscription(subscription)), ..Settings::default() };
    if topic.kind == Kind::Letters {
        settings.backoff_policy = Some(RetryPolicy { max_attempts: LETTER_ATTEMPTS_MAX, strategy: None });
    }
    settings.set_client_type(if is_push { ClientType::PushConsumer } else { ClientType::SimpleConsumer });
    settings
}
