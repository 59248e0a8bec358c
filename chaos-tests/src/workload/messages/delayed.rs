//! Producers of delayed messages, some of which are taken back: most before their time, some when it has come.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use duolog_rocketmq::proto::RecallMessageRequest;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Context;
use super::client::{CALL_LIMIT, Client, Failure, PAUSE, outcome, perhaps_done};
use super::codec;
use super::ledger::Debt;
use super::send::{Attempt, goes_on, pace, send};
use crate::history::Value;
use crate::history::messages::{Form, Kind, MessageEvent, Outcome};

const PRODUCERS_PER_TOPIC: u32 = 3;
const PER_SECOND: u64 = 7;
const DELAY_MS_MIN: u64 = 1_000;
const DELAY_MS_PER_PERCENT: u64 = 50;
const RECALLED_PERCENT: u64 = 20;
/// Of those that are recalled, so many are when their time has come.
const LATE_PERCENT: u64 = 25;
/// A recall whose fate is unknown is asked for again so often.
const RECALLS_MAX: u32 = 4;

/// A recall to come.
struct Recall {
    at: Instant,
    handle: String,
    value: Value,
}

pub fn spawn(context: &Arc<Context>, topic: u16, producers: &mut JoinSet<()>) {
    let (recalls, wanted) = mpsc::unbounded_channel();
    for i in 0..PRODUCERS_PER_TOPIC {
        let producer = 40_000 + u32::from(topic) * PRODUCERS_PER_TOPIC + i;
        producers.spawn(produce(Arc::clone(context), topic, producer, recalls.clone()));
    }
    producers.spawn(recall_all(Arc::clone(context), topic, wanted));
}

async fn produce(context: Arc<Context>, topic: u16, producer: u32, recalls: mpsc::UnboundedSender<Recall>) {
    let mut client = Client::new(format!("producer-{producer}"), &context.ports, producer as usize);
    let mut pace = pace(PER_SECOND);
    let mut sequence = 0;
    while goes_on(&context) {
        pace.tick().await;
        let value = Value::Sent { producer, sequence };
        sequence += 1;
        let delay = Duration::from_millis(DELAY_MS_MIN + DELAY_MS_PER_PERCENT * codec::percent(value, "delay"));
        // The history's clock is read first: its due time is not later than the broker's.
        let (due_ms, now) = (context.now_ms() + delay.as_millis() as u64, Instant::now());
        let mut message = codec::message(&context.topic(topic).name, value);
        let system = message.system_properties.get_or_insert_default();
        system.delivery_timestamp = Some(codec::timestamp(SystemTime::now() + delay));
        system.set_message_type(codec::kind_of(Kind::Delay));
        let sent = send(&context, &mut client, (topic, value, Form::Delayed { due_ms }), message).await;
        if let Attempt::Acked(entry) = sent {
            context.ledger.owe(Debt::Message, value);
            // A message whose time has come already has no handle.
            if codec::percent(value, "recall") < RECALLED_PERCENT && !entry.recall_handle.is_empty() {
                let is_late = codec::percent(value, "late") < LATE_PERCENT;
                let at = now + if is_late { delay } else { delay * codec::percent(value, "when") as u32 / 100 };
                // The other task lives longer than this one.
                let _ = recalls.send(Recall { at, handle: entry.recall_handle, value });
            }
        }
    }
}

/// Ends when the producers have ended and nothing is left.
async fn recall_all(context: Arc<Context>, topic: u16, mut wanted: mpsc::UnboundedReceiver<Recall>) {
    let mut client = Client::new(format!("recaller-{topic}"), &context.ports, usize::from(topic) + 1);
    let mut waiting: Vec<Recall> = Vec::new();
    loop {
        let next = waiting.iter().map(|recall| recall.at).min();
        let until = next.unwrap_or_else(|| Instant::now() + PAUSE);
        tokio::select! {
            more = wanted.recv(), if !wanted.is_closed() || !wanted.is_empty() => waiting.extend(more),
            () = tokio::time::sleep_until(until.into()) => {}
        }
        let now = Instant::now();
        for due in waiting.extract_if(.., |recall| recall.at <= now).collect::<Vec<_>>() {
            recall(&context, &mut client, topic, due).await;
        }
        if waiting.is_empty() && wanted.is_closed() && wanted.is_empty() {
            return;
        }
    }
}

async fn recall(context: &Context, client: &mut Client, topic: u16, Recall { handle, value, .. }: Recall) {
    let mut is_first = true;
    for _ in 0..RECALLS_MAX {
        let request = RecallMessageRequest {
            topic: Some(codec::resource(&context.topic(topic).name)),
            recall_handle: handle.clone(),
        };
        let asked_ms = context.now_ms();
        let answer =
            client.call(request, CALL_LIMIT, |mut stub, request| async move { stub.recall_message(request).await });
        let answered = match answer.await {
            Ok(answer) => outcome(answer.status.as_ref()),
            Err(Failure::Lost(error)) => Outcome::Open(error),
            Err(Failure::NotSent) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let is_known = !matches!(answered, Outcome::Open(_));
        // A message can be taken back once.
        let outcome = if is_first { answered } else { perhaps_done(answered) };
        if !matches!(outcome, Outcome::Refused(_)) {
            context.ledger.pay(Debt::Message, value);
        }
        context.record(MessageEvent::Recalled { asked_ms, time_ms: context.now_ms(), topic, value, outcome });
        if is_known {
            return;
        }
        is_first = false;
        client.turn();
        tokio::time::sleep(PAUSE).await;
    }
}
