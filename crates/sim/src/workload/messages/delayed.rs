//! Producers of delayed messages, some of which are taken back: most before their time, some when it has come.

use std::time::Duration;

use duolog_broker::message_api::{Delivery, HiddenHandle, MessageApi};
use duolog_chaos::history::Value;
use duolog_chaos::history::messages::{Form, MessageEvent, Outcome};
use duolog_chaos::workload::messages::codec;
use duolog_chaos::workload::messages::ledger::Debt;
use duolog_types::TimestampMs;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::send::{Attempt, Letter, send};
use super::{PARTITIONS, pace};
use crate::cluster::{Failure, PAUSE};
use crate::random::Random;
use crate::workload::{Clients, Phase, wall_now};

const PRODUCERS_PER_TOPIC: u32 = 2;
const PER_SECOND: u64 = 5;
const DELAY_MS_MIN: u64 = 300;
const DELAY_MS_PER_PERCENT: u64 = 40;
const RECALLED_PERCENT: u64 = 25;
/// Of those that are recalled, so many are when their time has come.
const LATE_PERCENT: u64 = 25;
/// A recall whose fate is unknown is asked for again so often.
const RECALLS_MAX: u32 = 8;
/// A send is tried at so many nodes.
const SENDS_MAX: u32 = 3;

pub fn spawn(clients: &Clients, topic: u16, random: &mut Random) -> Vec<JoinHandle<()>> {
    let produce = |number| produce(clients.clone(), topic, 40_000 + u32::from(topic) * 10 + number, random.fork());
    (0..PRODUCERS_PER_TOPIC).map(produce).map(|work| clients.spawn_producer(work)).collect()
}

async fn produce(clients: Clients, topic: u16, producer: u32, mut random: Random) {
    let (mut node, mut sequence) = (0, 0);
    while clients.phase.get() == Phase::Load {
        pace(&mut random, PER_SECOND).await;
        let value = Value::Sent { producer, sequence };
        sequence += 1;
        let delay = Duration::from_millis(DELAY_MS_MIN + DELAY_MS_PER_PERCENT * codec::percent(value, "delay"));
        let due_ms = clients.due_ms(delay);
        let at = TimestampMs(wall_now().0 + i64::try_from(delay.as_millis()).unwrap_or(i64::MAX));
        let form = Form::Delayed { due_ms };
        let partition = random.below(PARTITIONS as u64) as i32;
        let letter = Letter { topic, partition, value, form, delivery: Delivery::At(at) };
        for _ in 0..SENDS_MAX {
            match send(&clients, &mut node, &letter).await {
                Attempt::Acked(sent) => {
                    clients.owe(Debt::Message, value);
                    // A message whose time has come already has no handle.
                    if let Some(handle) = sent.handle.filter(|_| codec::percent(value, "recall") < RECALLED_PERCENT) {
                        let is_late = codec::percent(value, "late") < LATE_PERCENT;
                        let part = if is_late { 100 } else { codec::percent(value, "when") as u32 };
                        let work = recall(clients.clone(), (topic, value, handle), delay * part / 100, node);
                        drop(clients.spawn_producer(work));
                    }
                    break;
                }
                Attempt::Refused { is_elsewhere: true } => {}
                Attempt::Refused { .. } | Attempt::Open => break,
            }
        }
    }
}

async fn recall(
    clients: Clients,
    (topic, value, handle): (u16, Value, HiddenHandle),
    after: Duration,
    mut node: usize,
) {
    sleep(after).await;
    let mut is_first = true;
    for _ in 0..RECALLS_MAX {
        let asked_ms = clients.recorder.now_ms();
        let answer = clients.cluster.attempt(node, move |broker| async move { broker.recall(handle).await }).await;
        let outcome = match answer {
            Ok(()) => Outcome::Ok,
            // A message can be taken back once: an earlier attempt may have done it.
            Err(Failure::Final(error)) if is_first => Outcome::Refused(error.to_string()),
            Err(Failure::Final(error)) => Outcome::Open(error.to_string()),
            Err(Failure::Refused) => {
                node = clients.cluster.after(node);
                sleep(PAUSE).await;
                continue;
            }
            Err(Failure::Unknown(error)) => {
                is_first = false;
                let outcome = Outcome::Open(error);
                // It may be gone, so nobody waits for it.
                clients.ledger.pay(Debt::Message, value);
                let time_ms = clients.recorder.now_ms();
                clients.record(MessageEvent::Recalled { asked_ms, time_ms, topic, value, outcome });
                node = clients.cluster.after(node);
                sleep(PAUSE).await;
                continue;
            }
        };
        if !matches!(outcome, Outcome::Refused(_)) {
            clients.ledger.pay(Debt::Message, value);
        }
        let time_ms = clients.recorder.now_ms();
        clients.record(MessageEvent::Recalled { asked_ms, time_ms, topic, value, outcome });
        return;
    }
}

impl Clients {
    /// Before this time, on the history's clock, nobody may be given a message that is delayed as long from now: a leader delivers by
    /// its own clock.
    fn due_ms(&self, delay: Duration) -> u64 {
        (self.recorder.now_ms() + super::ms(delay)).saturating_sub(super::ms(self.skew))
    }
}
