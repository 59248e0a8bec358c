//! Producers of normal and of ordered messages.

use std::time::Duration;

use duolog_broker::message_api::Delivery;
use duolog_chaos::history::Value;
use duolog_chaos::history::messages::{Form, Kind};
use duolog_chaos::workload::messages::codec;
use duolog_chaos::workload::messages::ledger::Debt;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::send::{Attempt, Letter, send};
use super::{PARTITIONS, pace};
use crate::random::Random;
use crate::workload::{Clients, Phase};

const PLAIN_PER_TOPIC: u32 = 2;
const PLAIN_PER_SECOND: u64 = 12;
const LETTERS_PER_SECOND: u64 = 3;
const ORDERS_PER_TOPIC: u32 = 4;
const ORDERED_PER_SECOND: u64 = 5;
/// An ordered message without a fate after this is left alone, and its producer ends.
const PATIENCE: Duration = Duration::from_secs(40);

pub fn spawn_plain(clients: &Clients, topic: u16, random: &mut Random) -> Vec<JoinHandle<()>> {
    let produce = |number| plain(clients.clone(), topic, 20_000 + u32::from(topic) * 10 + number, random.fork());
    (0..PLAIN_PER_TOPIC).map(produce).map(|work| clients.spawn_producer(work)).collect()
}

/// An attempt whose fate is unknown is left alone.
async fn plain(clients: Clients, topic: u16, producer: u32, mut random: Random) {
    let is_letter = clients.message_topic(topic).kind == Kind::Letters;
    let (mut node, mut sequence) = (0, 0);
    while clients.phase.get() == Phase::Load {
        pace(&mut random, if is_letter { LETTERS_PER_SECOND } else { PLAIN_PER_SECOND }).await;
        let value = Value::Sent { producer, sequence };
        sequence += 1;
        let is_doomed = is_letter && codec::is_doomed(value);
        let form = if is_doomed { Form::Doomed } else { Form::Plain };
        let partition = random.below(PARTITIONS as u64) as i32;
        let letter = Letter { topic, partition, value, form, delivery: Delivery::Now };
        let is_stored = matches!(send(&clients, &mut node, &letter).await, Attempt::Acked(_));
        if is_stored && clients.message_topic(topic).wants(value) {
            clients.owe(if is_doomed { Debt::Letter } else { Debt::Message }, value);
        }
    }
}

pub fn spawn_ordered(clients: &Clients, topic: u16, random: &mut Random) -> Vec<JoinHandle<()>> {
    let produce = |number| ordered(clients.clone(), topic, 30_000 + u32::from(topic) * 10 + number, random.fork());
    (0..ORDERS_PER_TOPIC).map(produce).map(|work| clients.spawn_producer(work)).collect()
}

/// The producer's number is also the message group, which has one partition. Each message is sent until its fate is known.
async fn ordered(clients: Clients, topic: u16, producer: u32, mut random: Random) {
    let (mut node, mut sequence) = (0, 0);
    let partition = producer as i32 % PARTITIONS;
    while clients.phase.get() == Phase::Load {
        pace(&mut random, ORDERED_PER_SECOND).await;
        let value = Value::Sent { producer, sequence };
        sequence += 1;
        let form = Form::Ordered { order: producer };
        let letter = Letter { topic, partition, value, form, delivery: Delivery::Now };
        let end = Instant::now() + PATIENCE;
        loop {
            match send(&clients, &mut node, &letter).await {
                Attempt::Acked(_) => {
                    clients.owe(Debt::Message, value);
                    break;
                }
                Attempt::Refused { is_elsewhere: false } => break,
                Attempt::Refused { .. } | Attempt::Open if Instant::now() < end => {}
                Attempt::Refused { .. } | Attempt::Open => return,
            }
        }
    }
}
