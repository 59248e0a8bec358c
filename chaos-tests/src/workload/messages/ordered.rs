//! Producers of ordered messages, one per message group. Each message is sent until its fate is known, and only then the next one, so
//! that the order is known.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::Context;
use super::client::Client;
use super::codec;
use super::ledger::Debt;
use super::send::{Attempt, goes_on, pace, send};
use crate::history::Value;
use crate::history::messages::{Form, Kind};

const ORDERS_PER_TOPIC: u32 = 8;
const PER_SECOND: u64 = 5;
/// A message without a fate after this is left alone, and its producer ends.
const PATIENCE: Duration = Duration::from_secs(40);

pub fn spawn(context: &Arc<Context>, topic: u16, producers: &mut JoinSet<()>) {
    for i in 0..ORDERS_PER_TOPIC {
        let producer = 30_000 + u32::from(topic) * ORDERS_PER_TOPIC + i;
        producers.spawn(produce(Arc::clone(context), topic, producer));
    }
}

/// The producer's number is also the message group.
async fn produce(context: Arc<Context>, topic: u16, producer: u32) {
    let mut client = Client::new(format!("producer-{producer}"), &context.ports, producer as usize);
    let mut pace = pace(PER_SECOND);
    let mut sequence = 0;
    while goes_on(&context) {
        pace.tick().await;
        let value = Value::Sent { producer, sequence };
        sequence += 1;
        let mut message = codec::message(&context.topic(topic).name, value);
        let system = message.system_properties.get_or_insert_default();
        system.message_group = Some(format!("order-{producer}"));
        system.set_message_type(codec::kind_of(Kind::Fifo));
        let begin = Instant::now();
        loop {
            let form = Form::Ordered { order: producer };
            match send(&context, &mut client, (topic, value, form), message.clone()).await {
                Attempt::Acked(_) => {
                    context.ledger.owe(Debt::Message, value);
                    break;
                }
                Attempt::Refused => break,
                Attempt::Open if begin.elapsed() < PATIENCE => {}
                Attempt::Open => return,
            }
        }
    }
}
