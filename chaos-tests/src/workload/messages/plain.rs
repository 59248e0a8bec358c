//! Producers of normal messages. An attempt whose fate is unknown is left alone. Some messages are damaged on purpose: the broker
//! must refuse them. Of letters, some are never acknowledged.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::client::Client;
use super::codec;
use super::ledger::Debt;
use super::send::{Attempt, goes_on, pace, send};
use super::{Context, Kind};
use crate::history::Value;
use crate::history::messages::Form;

const PRODUCERS_PER_TOPIC: u32 = 2;
const PER_SECOND: u64 = 25;
const LETTERS_PER_SECOND: u64 = 5;
const SPOILED_PERCENT: u64 = 1;

pub fn spawn(context: &Arc<Context>, topic: u16, producers: &mut JoinSet<()>) {
    for i in 0..PRODUCERS_PER_TOPIC {
        let producer = 20_000 + u32::from(topic) * PRODUCERS_PER_TOPIC + i;
        producers.spawn(produce(Arc::clone(context), topic, producer));
    }
}

async fn produce(context: Arc<Context>, topic: u16, producer: u32) {
    let mut client = Client::new(format!("producer-{producer}"), &context.ports, producer as usize);
    let is_letter = context.topic(topic).kind == Kind::Letters;
    let mut pace = pace(if is_letter { LETTERS_PER_SECOND } else { PER_SECOND });
    let mut sequence = 0;
    while goes_on(&context) {
        pace.tick().await;
        let value = Value::Sent { producer, sequence };
        sequence += 1;
        let mut message = codec::message(&context.topic(topic).name, value);
        if codec::percent(value, "spoil") < SPOILED_PERCENT {
            message = codec::spoil(message);
        }
        let is_doomed = is_letter && codec::is_doomed(value);
        let form = if is_doomed { Form::Doomed } else { Form::Plain };
        if let Attempt::Acked(_) = send(&context, &mut client, (topic, value, form), message).await {
            if context.topic(topic).wants(value) {
                context.ledger.owe(if is_doomed { Debt::Letter } else { Debt::Message }, value);
            }
            for member in 0..context.topic(topic).broadcast_members {
                context.ledger.owe(Debt::Copy(member), value);
            }
        }
    }
}
