//! Producers of half messages. Some end their transactions at once; some go away and leave that to whoever the broker asks.
//!
//! A producer lives for a few seconds, then another one takes its place under a new name and with new connections. Whoever is asked
//! answers as was decided: that depends on the message alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use duolog_rocketmq::proto::settings::PubSub;
use duolog_rocketmq::proto::{
    ClientType, EndTransactionRequest, Publishing, RecoverOrphanedTransactionCommand, Settings, TransactionResolution,
    TransactionSource,
};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::client::{CALL_LIMIT, Client, Failure, PAUSE, Questions, outcome};
use super::codec;
use super::ledger::Debt;
use super::send::{Attempt, goes_on, pace, send};
use super::{Context, Phase};
use crate::history::messages::{End, Form, Kind, MessageEvent, Outcome};
use crate::history::{Value, fnv1a};

const PRODUCERS_PER_TOPIC: u32 = 4;
const PER_SECOND: u64 = 5;
const LIFE: Duration = Duration::from_secs(5);
/// When the broker asks first.
const ASK_AFTER: Duration = Duration::from_millis(1_500);
/// An end whose fate is unknown after this is left to the broker, which asks.
const PATIENCE: Duration = Duration::from_secs(30);

/// A transaction that is to end.
struct Open {
    topic: u16,
    value: Value,
    message_id: String,
    transaction_id: String,
    asked: bool,
}

pub fn spawn(context: &Arc<Context>, topic: u16, questions: &Questions, producers: &mut JoinSet<()>) {
    for i in 0..PRODUCERS_PER_TOPIC {
        let producer = 50_000 + u32::from(topic) * PRODUCERS_PER_TOPIC + i;
        producers.spawn(produce(Arc::clone(context), topic, producer, questions.clone()));
    }
}

async fn produce(context: Arc<Context>, topic: u16, producer: u32, questions: Questions) {
    let mut pace = pace(PER_SECOND);
    let mut sequence = 0;
    while goes_on(&context) {
        let name = format!("producer-{producer}-{}", context.number());
        let mut client = Client::new(name, &context.ports, producer as usize);
        client.describe(&settings(&[context.topic(topic).name.as_str()]), Some(&questions));
        let born = Instant::now();
        while goes_on(&context) && born.elapsed() < LIFE {
            pace.tick().await;
            let value = Value::Sent { producer, sequence };
            sequence += 1;
            one(&context, &mut client, topic, value).await;
        }
    }
}

async fn one(context: &Context, client: &mut Client, topic: u16, value: Value) {
    let (end, asked) = codec::decided(value);
    let mut message = codec::message(&context.topic(topic).name, value);
    let system = message.system_properties.get_or_insert_default();
    system.orphaned_transaction_recovery_duration = Some(codec::duration(ASK_AFTER));
    system.set_message_type(codec::kind_of(Kind::Transaction));
    let message_id = system.message_id.clone();
    let sent = send(context, client, (topic, value, Form::Half { end, asked }), message).await;
    let Attempt::Acked(entry) = sent else { return };
    context.ledger.owe(Debt::End, value);
    if !asked {
        let open = Open { topic, value, message_id, transaction_id: entry.transaction_id, asked: false };
        finish(context, client, open).await;
    }
}

/// Answers questions until the run is over, as one more producer of several.
pub async fn answer(
    context: Arc<Context>,
    number: usize,
    questions: Questions,
    asked: Arc<Mutex<mpsc::UnboundedReceiver<RecoverOrphanedTransactionCommand>>>,
) {
    let topics = || (0..).zip(&context.shared.message_topics).filter(|(_, topic)| topic.kind == Kind::Transaction);
    let names: Vec<&str> = topics().map(|(_, topic)| topic.name.as_str()).collect();
    let mut client = Client::new(format!("answerer-{number}"), &context.ports, number);
    client.describe(&settings(&names), Some(&questions));
    let mut phase = context.phase.clone();
    loop {
        let question = tokio::select! {
            question = async { asked.lock().await.recv().await } => question,
            _ = phase.wait_for(|phase| *phase == Phase::Over) => return,
        };
        let Some(RecoverOrphanedTransactionCommand { message: Some(message), transaction_id }) = question else {
            continue;
        };
        let name = message.topic.as_ref().map(|topic| topic.name.clone()).unwrap_or_default();
        let Some((topic, _)) = topics().find(|(_, topic)| topic.name == name) else { continue };
        let message_id = message.system_properties.as_ref().map(|system| system.message_id.clone()).unwrap_or_default();
        let value = codec::value(&message);
        finish(&context, &mut client, Open { topic, value, message_id, transaction_id, asked: true }).await;
    }
}

/// Ends a transaction as was decided. It may be asked for again and again.
async fn finish(context: &Context, client: &mut Client, open: Open) {
    let Open { topic, value, asked, .. } = open;
    let (end, _) = codec::decided(value);
    let transaction = fnv1a(open.transaction_id.as_bytes());
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE && context.phase() != Phase::Over {
        let mut request = EndTransactionRequest {
            topic: Some(codec::resource(&context.topic(topic).name)),
            message_id: open.message_id.clone(),
            transaction_id: open.transaction_id.clone(),
            ..EndTransactionRequest::default()
        };
        request.set_resolution(match end {
            End::Commit => TransactionResolution::Commit,
            End::RollBack => TransactionResolution::Rollback,
        });
        request.set_source(if asked { TransactionSource::SourceServerCheck } else { TransactionSource::SourceClient });
        let asked_ms = context.now_ms();
        let answer =
            client.call(request, CALL_LIMIT, |mut stub, request| async move { stub.end_transaction(request).await });
        let outcome = match answer.await {
            Ok(answer) => outcome(answer.status.as_ref()),
            Err(Failure::Lost(error)) => Outcome::Open(error),
            Err(Failure::NotSent) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if outcome == Outcome::Ok {
            if end == End::Commit {
                context.ledger.owe(Debt::Message, value);
            }
            context.ledger.pay(Debt::End, value);
        }
        let is_open = matches!(outcome, Outcome::Open(_));
        let time_ms = context.now_ms();
        context.record(MessageEvent::Ended { asked_ms, time_ms, topic, value, transaction, end, asked, outcome });
        if !is_open {
            return;
        }
        client.turn();
        tokio::time::sleep(PAUSE).await;
    }
}

fn settings(topics: &[&str]) -> Settings {
    let topics = topics.iter().map(|name| codec::resource(name)).collect();
    let publishing = Publishing { topics, ..Publishing::default() };
    let mut settings = Settings { pub_sub: Some(PubSub::Publishing(publishing)), ..Settings::default() };
    settings.set_client_type(ClientType::Producer);
    settings
}
