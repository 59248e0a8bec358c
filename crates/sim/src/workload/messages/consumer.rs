//! A member of a topic's consumer group: receives, records, acknowledges. Some acknowledgements are withheld on purpose during the
//! load, so that messages come again.
//!
//! The first member takes what any node has. The others ask for one partition after the other, and repeat a lost call under the same
//! attempt id.

use std::time::Duration;

use duolog_broker::api::{GroupId, TopicRef};
use duolog_broker::message_api::{Consumer, DeliveredMessage, Filter, MessageApi, Receipt, Receive};
use duolog_chaos::history::Value;
use duolog_chaos::history::messages::{Kind, MessageEvent, Outcome, Spot, WANTED_TAG};
use duolog_chaos::workload::messages::codec;
use duolog_chaos::workload::messages::ledger::Debt;
use tokio::time::sleep;

use super::{digest, ms, spot};
use crate::cluster::{Failure, PAUSE, value_of};
use crate::random::Random;
use crate::workload::{Clients, Phase};

const BATCH: u32 = 16;
const POLL_MS: u64 = 200;
const INVISIBLE: Duration = Duration::from_millis(2_000);
const INVISIBLE_LETTER: Duration = Duration::from_millis(1_000);
const ATTEMPTS_MAX: u32 = 16;
/// Deliveries before a letter is dead.
const LETTER_ATTEMPTS_MAX: u32 = 3;
const WITHHELD_PERCENT: u64 = 5;
/// After so many deliveries nothing is withheld: no message but letters shall become a dead letter.
const WITHHELD_ATTEMPTS_MAX: u32 = 3;
const ACKS_MAX: u32 = 4;

/// Of messages that are to be acknowledged, so many are made invisible for another time before.
const MOVED_PERCENT: u64 = 8;
const MOVED_TO: [Duration; 3] =
    [Duration::from_millis(300), Duration::from_millis(1_200), Duration::from_millis(4_000)];

/// Longer than any message is invisible.
const SILENCE: Duration = Duration::from_millis(5_500);

/// A delivered message that is to be acknowledged.
#[derive(Clone, Copy)]
struct Held {
    spot: Spot,
    value: Value,
    receipt: Receipt,
}

struct Member {
    clients: Clients,
    topic: u16,
    /// Unique in the run.
    reader: u32,
    consumer: Consumer,
    node: usize,
}

pub async fn run(clients: Clients, topic: u16, number: u32, mut random: Random) {
    let is_push = number > 0;
    let (group, partitions) = {
        let of_topic = clients.message_topic(topic);
        (GroupId(of_topic.group.clone()), of_topic.partition_count)
    };
    let reader = 10 * u32::from(topic) + number;
    let consumer = Consumer { group, client_id: format!("consumer-{reader}") };
    let node = random.below(clients.cluster.nodes.len() as u64) as usize;
    let mut member = Member { clients, topic, reader, consumer, node };
    let (mut partition, mut attempt_id) = (0, None);
    let mut tries = 0;
    while member.clients.phase.get() != Phase::Over {
        if is_push && attempt_id.is_none() {
            partition = (partition + 1) % partitions;
            attempt_id = Some(format!("attempt-{reader}-{}", member.clients.number()));
            tries = 0;
        }
        let wanted = is_push.then_some(partition);
        match member.receive(wanted, attempt_id.clone()).await {
            Ok(held) => {
                attempt_id = None;
                if !is_push {
                    member.node = member.clients.cluster.after(member.node);
                }
                let held = member.move_some(held).await;
                member.settle(held).await;
            }
            Err(_) => {
                tries += 1;
                // Nobody leads it for now: others may have messages.
                if tries > 2 * member.clients.cluster.nodes.len() {
                    attempt_id = None;
                }
                member.node = member.clients.cluster.after(member.node);
                sleep(PAUSE).await;
            }
        }
    }
}

impl Member {
    /// What was given and is to be acknowledged.
    async fn receive(&self, partition: Option<i32>, attempt_id: Option<String>) -> Result<Vec<Held>, Failure> {
        let Self { clients, topic, reader, .. } = self;
        let of_topic = clients.message_topic(*topic);
        let is_letters = of_topic.kind == Kind::Letters;
        let invisible_ms = ms(if is_letters { INVISIBLE_LETTER } else { INVISIBLE });
        let request = Receive {
            consumer: self.consumer.clone(),
            topic: TopicRef::Name(of_topic.name.clone()),
            partition,
            count_max: BATCH,
            filter: wanted(of_topic.kind),
            invisible_ms,
            auto_renew: false,
            connection: None,
            attempt_id,
            attempts_max: if is_letters { LETTER_ATTEMPTS_MAX } else { ATTEMPTS_MAX },
            wait_ms_max: POLL_MS,
        };
        let (asked_ms, call) = (clients.recorder.now_ms(), clients.number());
        let delivered =
            clients.cluster.attempt(self.node, |broker| async move { broker.receive(request).await }).await?;
        let mut held = Vec::new();
        for DeliveredMessage { partition, record, attempt, receipt } in delivered {
            let (spot, value) = (spot(*topic, partition.partition, record.offset.0), value_of(&record));
            clients.ledger.delivered();
            clients.record(MessageEvent::Delivered {
                asked_ms,
                time_ms: clients.recorder.now_ms(),
                reader: *reader,
                call,
                spot,
                value,
                attempt: attempt as i32,
                receipt: digest(&receipt),
                invisible_ms: clients.at_least_ms(invisible_ms),
            });
            let is_doomed = is_letters && codec::is_doomed(value);
            let is_withheld = clients.phase.get() == Phase::Load
                && attempt <= WITHHELD_ATTEMPTS_MAX
                && codec::percent(value, &format!("withhold {attempt}")) < WITHHELD_PERCENT;
            if !is_doomed && !is_withheld {
                held.push(Held { spot, value, receipt });
            }
        }
        Ok(held)
    }

    /// Changes the invisible time of some messages; gives those that are to be acknowledged, with the receipts that are good now.
    async fn move_some(&self, held: Vec<Held>) -> Vec<Held> {
        let mut left = Vec::new();
        for held in held {
            let number = self.clients.number();
            if self.clients.phase.get() != Phase::Load || number % 100 >= MOVED_PERCENT {
                left.push(held);
            } else if let Some(receipt) = self.change(&held, MOVED_TO[number as usize % MOVED_TO.len()]).await {
                // Every other one is left alone, so that it comes again.
                left.extend(number.is_multiple_of(2).then_some(Held { receipt, ..held }));
            }
        }
        left
    }

    /// The receipt that is good from then on; `None` where nobody knows which one is.
    async fn change(&self, held: &Held, invisible: Duration) -> Option<Receipt> {
        let (consumer, recorder, receipt) = (self.consumer.clone(), self.clients.recorder.clone(), held.receipt);
        let asked_ms = recorder.now_ms();
        let answer = self.clients.cluster.attempt(self.node, move |broker| async move {
            broker.change_invisible(consumer, receipt, ms(invisible)).await
        });
        let answer = answer.await;
        let outcome = match &answer {
            Ok(_) => Outcome::Ok,
            Err(Failure::Final(error)) => Outcome::Refused(error.to_string()),
            Err(failure) => Outcome::Open(format!("{failure:?}")),
        };
        let next = answer.ok();
        self.clients.record(MessageEvent::Moved {
            asked_ms,
            time_ms: recorder.now_ms(),
            spot: held.spot,
            receipt: digest(&receipt),
            invisible_ms: self.clients.at_least_ms(ms(invisible)),
            outcome,
            next: next.as_ref().map(digest),
        });
        next
    }

    async fn settle(&mut self, mut held: Vec<Held>) {
        for attempt in 0..ACKS_MAX {
            if held.is_empty() {
                return;
            }
            let receipts: Vec<Receipt> = held.iter().map(|held| held.receipt).collect();
            let (consumer, recorder) = (self.consumer.clone(), self.clients.recorder.clone());
            let asked_ms = recorder.now_ms();
            let answer = self
                .clients
                .cluster
                .attempt(self.node, |broker| async move { Ok(broker.acknowledge(consumer, receipts).await) });
            let answer = answer.await;
            let time_ms = recorder.now_ms();
            let mut open = Vec::new();
            for (at, held) in held.into_iter().enumerate() {
                let outcome = match &answer {
                    Ok(results) => match &results[at] {
                        Ok(()) => Outcome::Ok,
                        // An earlier attempt may have used the receipt up.
                        Err(duolog_broker::BrokerError::InvalidReceipt(text)) if attempt == 0 => {
                            Outcome::Refused(text.clone())
                        }
                        Err(error) => Outcome::Open(error.to_string()),
                    },
                    Err(failure) => Outcome::Open(format!("{failure:?}")),
                };
                let is_known = !matches!(outcome, Outcome::Open(_));
                if outcome == Outcome::Ok {
                    self.clients.ledger.pay(Debt::Message, held.value);
                }
                let (spot, receipt) = (held.spot, digest(&held.receipt));
                self.clients.record(MessageEvent::Settled { asked_ms, time_ms, spot, receipt, outcome });
                if !is_known {
                    open.push(held);
                }
            }
            held = open;
            if !held.is_empty() {
                self.node = self.clients.cluster.after(self.node);
                sleep(PAUSE).await;
            }
        }
        // Open to the end: if it did not happen, the message comes again.
        for held in held {
            self.clients.ledger.pay(Debt::Message, held.value);
        }
    }
}

fn wanted(kind: Kind) -> Filter {
    match kind {
        Kind::Filtered => Filter::Tags(vec![WANTED_TAG.to_owned()]),
        _ => Filter::All,
    }
}

impl Clients {
    /// How long a message is invisible at least that was asked to be for so long: one node hides it by its clock, another one shows it.
    fn at_least_ms(&self, invisible_ms: u64) -> u64 {
        invisible_ms.saturating_sub(2 * ms(self.skew))
    }

    /// After this silence nothing comes any more.
    pub(super) fn silence(&self) -> Duration {
        SILENCE + 2 * self.skew
    }
}
