//! Producers of half messages. Some end their transactions at once; some go away and leave that to whoever the broker asks. How a
//! transaction ends depends on the message alone, so whoever is asked knows.

use std::time::Duration;

use duolog_broker::message_api::{Delivery, HiddenHandle, MessageApi, Orphan, Resolution};
use duolog_chaos::history::Value;
use duolog_chaos::history::messages::{End, Form, MessageEvent, Outcome};
use duolog_chaos::workload::messages::codec;
use duolog_chaos::workload::messages::ledger::Debt;
use duolog_types::TimestampMs;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep};

use super::send::{Attempt, Letter, send};
use super::{PARTITIONS, digest, pace};
use crate::cluster::{Failure, PAUSE, value_of};
use crate::random::Random;
use crate::workload::{Clients, Phase, wall_now};

const PRODUCERS_PER_TOPIC: u32 = 3;
const PER_SECOND: u64 = 4;
/// When the broker asks first.
const ASK_AFTER_MS: i64 = 1_500;
/// An end whose fate is unknown after this is left to the broker, which asks.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks for half messages that nobody ended.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// One question in so many is not heard.
const DEAF_ONE_IN: u64 = 10;

/// A transaction that is to end.
#[derive(Clone, Copy)]
struct Open {
    topic: u16,
    value: Value,
    handle: HiddenHandle,
    asked: bool,
}

pub fn spawn(clients: &Clients, topic: u16, random: &mut Random) -> Vec<JoinHandle<()>> {
    let produce = |number| produce(clients.clone(), topic, 50_000 + u32::from(topic) * 10 + number, random.fork());
    (0..PRODUCERS_PER_TOPIC).map(produce).map(|work| clients.spawn_producer(work)).collect()
}

async fn produce(clients: Clients, topic: u16, producer: u32, mut random: Random) {
    let (mut node, mut sequence) = (0, 0);
    while clients.phase.get() == Phase::Load {
        pace(&mut random, PER_SECOND).await;
        let value = Value::Sent { producer, sequence };
        sequence += 1;
        let (end, asked) = codec::decided(value);
        let delivery = Delivery::OnCommit { check_at: TimestampMs(wall_now().0 + ASK_AFTER_MS) };
        let partition = random.below(PARTITIONS as u64) as i32;
        let letter = Letter { topic, partition, value, form: Form::Half { end, asked }, delivery };
        let Attempt::Acked(sent) = send(&clients, &mut node, &letter).await else { continue };
        clients.owe(Debt::End, value);
        let handle = sent.handle.expect("a half message has a handle");
        if !asked {
            finish(&clients, node, Open { topic, value, handle, asked: false }).await;
        }
    }
}

/// Asks every node for half messages whose producers have to be asked, and answers as was decided, until the run is over.
pub async fn answer(clients: Clients, mut random: Random) {
    while clients.phase.get() != Phase::Over {
        for node in 0..clients.cluster.nodes.len() {
            let look = clients.cluster.attempt(node, |broker| async move { Ok(broker.orphans().await) });
            for orphan in look.await.unwrap_or_default() {
                // The broker asks again after a while.
                if clients.phase.get() == Phase::Load && random.one_in(DEAF_ONE_IN) {
                    continue;
                }
                drop(spawn_local(heard(clients.clone(), node, orphan)));
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn heard(clients: Clients, node: usize, orphan: Orphan) {
    let Orphan { handle, topic: name, record, checks } = orphan;
    let asked = clients.cluster.attempt(node, move |broker| async move {
        broker.asked(vec![(handle, checks)]).await;
        Ok(())
    });
    // A question that is not counted is asked again.
    let _ = asked.await;
    let topic = clients.cluster.message_topics.iter().position(|topic| topic.name == name);
    let topic = topic.expect("a topic of this run") as u16;
    finish(&clients, node, Open { topic, value: value_of(&record), handle, asked: true }).await;
}

/// Ends a transaction as was decided. It may be asked for again and again.
async fn finish(clients: &Clients, mut node: usize, open: Open) {
    let Open { topic, value, handle, asked } = open;
    let (end, _) = codec::decided(value);
    let resolution = match end {
        End::Commit => Resolution::Commit,
        End::RollBack => Resolution::Rollback,
    };
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until && clients.phase.get() != Phase::Over {
        let asked_ms = clients.recorder.now_ms();
        let answer = clients
            .cluster
            .attempt(node, move |broker| async move { broker.end_transaction(handle, resolution).await })
            .await;
        let outcome = match answer {
            Ok(()) => Outcome::Ok,
            Err(Failure::Final(error)) => Outcome::Refused(error.to_string()),
            Err(Failure::Unknown(error)) => Outcome::Open(error),
            Err(Failure::Refused) => {
                node = clients.cluster.after(node);
                sleep(PAUSE).await;
                continue;
            }
        };
        if outcome == Outcome::Ok {
            if end == End::Commit {
                clients.owe(Debt::Message, value);
            }
            clients.ledger.pay(Debt::End, value);
        }
        let (is_open, transaction) = (matches!(outcome, Outcome::Open(_)), digest(&handle));
        let time_ms = clients.recorder.now_ms();
        clients.record(MessageEvent::Ended { asked_ms, time_ms, topic, value, transaction, end, asked, outcome });
        if !is_open {
            return;
        }
        node = clients.cluster.after(node);
        sleep(PAUSE).await;
    }
}
