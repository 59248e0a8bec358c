//! Clients of single messages, as those of the chaos runner, but at the broker's API instead of RocketMQ's.

mod consumer;
mod dead_letters;
mod delayed;
mod finish;
mod producers;
mod send;
mod transactions;

use std::time::Duration;

use duolog_chaos::history::messages::{Kind, MessageEvent, MessageTopic, Spot};
use duolog_chaos::history::{Event, Sync};
use duolog_chaos::workload::messages::ledger::Debt;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

use super::Clients;
use crate::random::Random;

pub use finish::{drain, read_back};
pub use transactions::answer;

const PARTITIONS: i32 = 2;
const CONSUMERS_PER_TOPIC: u32 = 2;

/// A topic per kind of message. A message is promised to survive with synchronous replication only.
pub fn topics(random: &mut Random) -> Vec<MessageTopic> {
    let kinds = [Kind::Normal, Kind::Fifo, Kind::Delay, Kind::Transaction, Kind::Letters, Kind::Filtered];
    let topic = |kind: Kind| {
        let name = format!("messages-{kind:?}").to_lowercase();
        let flush = if random.one_in(2) { Sync::Sync } else { Sync::Async };
        let group = format!("group-of-{name}");
        MessageTopic {
            name,
            kind,
            replication: Sync::Sync,
            flush,
            partition_count: PARTITIONS,
            group,
            broadcast_members: 0,
        }
    };
    kinds.map(topic).into()
}

/// The producers and consumers of a topic.
pub fn spawn(clients: &Clients, topic: u16, random: &mut Random) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    let kind = clients.message_topic(topic).kind;
    match kind {
        Kind::Normal | Kind::Letters | Kind::Filtered => tasks.extend(producers::spawn_plain(clients, topic, random)),
        Kind::Fifo => tasks.extend(producers::spawn_ordered(clients, topic, random)),
        Kind::Delay => tasks.extend(delayed::spawn(clients, topic, random)),
        Kind::Transaction => tasks.extend(transactions::spawn(clients, topic, random)),
    }
    if kind == Kind::Letters {
        tasks.push(spawn_local(dead_letters::follow(clients.clone(), topic)));
    }
    for member in 0..CONSUMERS_PER_TOPIC {
        tasks.push(spawn_local(consumer::run(clients.clone(), topic, member, random.fork())));
    }
    if matches!(kind, Kind::Delay | Kind::Transaction) {
        for partition in 0..PARTITIONS {
            tasks.push(spawn_local(finish::follow(clients.clone(), topic, partition)));
        }
    }
    tasks
}

impl Clients {
    fn message_topic(&self, topic: u16) -> &MessageTopic {
        &self.cluster.message_topics[usize::from(topic)]
    }

    fn record(&self, event: MessageEvent) {
        self.recorder.record(Event::Message(event));
    }

    /// A producer that is to end before anything is judged.
    fn spawn_producer(&self, work: impl Future<Output = ()> + 'static) -> JoinHandle<()> {
        let producers = self.producers.clone();
        producers.set(producers.get() + 1);
        spawn_local(async move {
            work.await;
            producers.set(producers.get() - 1);
        })
    }

    fn owe(&self, debt: Debt, value: duolog_chaos::history::Value) {
        self.ledger.owe(debt, value);
    }
}

fn spot(topic: u16, partition: u32, offset: i64) -> Spot {
    Spot { topic, partition: i32::try_from(partition).unwrap_or(i32::MAX), offset }
}

/// About so many per second.
async fn pace(random: &mut Random, per_second: u64) {
    let mean_ms = 1_000 / per_second;
    sleep(random.ms(mean_ms / 2..mean_ms + mean_ms / 2)).await;
}

/// Digests name receipts and transactions in the history.
fn digest(what: &impl std::fmt::Debug) -> u64 {
    duolog_chaos::history::fnv1a(format!("{what:?}").as_bytes())
}

const fn ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
