//! RocketMQ clients of a run, beside the Kafka ones, on topics of their own.
//!
//! ```text
//!   Load ────────────────────▶ Drain ─────────────────────▶ Over
//!   producers, consumers,      consumers and answers go on,  all end
//!   acks withheld on purpose   until nothing is owed
//! ```
//!
//! All are tasks of one thread. Each call is recorded with an exactly known outcome: done, surely not done, or open.

mod client;
pub mod codec;
mod consumer;
mod dead_letters;
mod delayed;
mod kafka;
pub mod ledger;
mod ordered;
mod plain;
mod send;
pub mod topics;
mod transactions;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::{Shared, Threads};
use crate::history::Event;
use crate::history::messages::{Kind, MessageEvent, MessageTopic};
use crate::recorder::wait_until;
use ledger::Ledger;

/// How long the broker may give nothing to anybody, after the faults, while something is owed. A half message is asked about every 30 s, so
/// one whose question was lost in the last fault needs that long. On a machine with few cores more is owed after an hour than
/// consumers can take within any short time, so the time in all is another matter.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);
/// How long it may take in all.
const DRAIN_LIMIT: Duration = Duration::from_secs(900);
/// Longer than any message is invisible: after this silence nothing comes any more.
const SILENCE: Duration = Duration::from_secs(8);
/// How long producers may take, after the load, to learn how their last messages ended.
const PRODUCERS_LIMIT: Duration = Duration::from_secs(45);

const CONSUMERS_PER_TOPIC: usize = 2;
/// Clients that say how transactions end. With one, questions that came again would fill its time while nodes are down.
const ANSWERERS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Load,
    Drain,
    Over,
}

/// What all tasks share.
struct Context {
    shared: Arc<Shared>,
    /// The nodes' ports for RocketMQ.
    ports: Vec<u16>,
    ledger: Ledger,
    phase: watch::Receiver<Phase>,
    next_number: AtomicU64,
}

impl Context {
    fn now_ms(&self) -> u64 {
        self.shared.recorder.now_ms()
    }

    fn record(&self, event: MessageEvent) {
        self.shared.recorder.record(Event::Message(event));
    }

    fn topic(&self, topic: u16) -> &MessageTopic {
        &self.shared.message_topics[usize::from(topic)]
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// A number that nobody else of the run has.
    fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }
}

/// The clients at work.
pub struct Messages {
    context: Arc<Context>,
    phase: watch::Sender<Phase>,
    thread: JoinHandle<()>,
    producers_ended: std::sync::mpsc::Receiver<()>,
    /// Kafka clients that follow topics whose messages are hidden at first.
    readers: Threads,
}

impl Messages {
    pub fn start(shared: &Arc<Shared>, ports: Vec<u16>) -> Result<Messages> {
        let (phase, watched) = watch::channel(Phase::Load);
        let context = Arc::new(Context {
            shared: Arc::clone(shared),
            ports,
            ledger: Ledger::new(),
            phase: watched,
            next_number: AtomicU64::new(0),
        });
        let (ended, producers_ended) = std::sync::mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let of_thread = Arc::clone(&context);
        let thread = std::thread::spawn(move || runtime.block_on(run(of_thread, ended)));
        let mut readers = Threads::default();
        for (topic, of_topic) in (0..).zip(&shared.message_topics) {
            if matches!(of_topic.kind, Kind::Delay | Kind::Transaction) {
                let shared = Arc::clone(shared);
                let name = format!("Kafka reader of {}", of_topic.name);
                readers.spawn(name, move |stop| kafka::follow(&shared, topic, stop));
            }
        }
        Ok(Messages { context, phase, thread, producers_ended, readers })
    }

    /// The producers end; consumers acknowledge all that they get from now on.
    pub fn end_load(&self) {
        // The thread has a receiver as long as it runs.
        let _ = self.phase.send(Phase::Drain);
    }

    /// After [`Messages::end_load`] and with all nodes up: waits until nothing is owed any more, and ends the clients.
    pub fn drain(self) -> Result<()> {
        let Messages { context, phase, thread, producers_ended, readers } = self;
        producers_ended.recv_timeout(PRODUCERS_LIMIT).context("producers of messages do not end")?;
        let begin = Instant::now();
        wait_until(DRAIN_LIMIT, || {
            let is_paid = context.ledger.owed() == 0 && context.ledger.silence() >= SILENCE;
            is_paid || (context.ledger.stands_still() >= STANDSTILL_MAX && begin.elapsed() >= STANDSTILL_MAX)
        });
        let waited_ms = begin.elapsed().as_millis() as u64;
        let owed = context.ledger.owed();
        context.record(MessageEvent::Drained { waited_ms, owed });
        let _ = phase.send(Phase::Over);
        thread.join().map_err(|_| anyhow!("the clients of messages panicked"))?;
        readers.join()
    }
}

/// Reads all topics by Kafka, from the start to the end.
pub fn read_back(shared: &Shared) -> Result<()> {
    (0..shared.message_topics.len() as u16).try_for_each(|topic| kafka::read_back(shared, topic))
}

async fn run(context: Arc<Context>, producers_ended: std::sync::mpsc::Sender<()>) {
    let (questions, asked) = mpsc::unbounded_channel();
    let (mut producers, mut others) = (JoinSet::new(), JoinSet::new());
    for (topic, of_topic) in (0..).zip(&context.shared.message_topics) {
        match of_topic.kind {
            Kind::Normal | Kind::Letters | Kind::Filtered => plain::spawn(&context, topic, &mut producers),
            Kind::Fifo => ordered::spawn(&context, topic, &mut producers),
            Kind::Delay => delayed::spawn(&context, topic, &mut producers),
            Kind::Transaction => transactions::spawn(&context, topic, &questions, &mut producers),
        }
        if of_topic.kind == Kind::Letters {
            others.spawn(dead_letters::read(Arc::clone(&context), topic));
        }
        for member in 0..CONSUMERS_PER_TOPIC {
            others.spawn(consumer::run(Arc::clone(&context), topic, member));
        }
        for member in 0..of_topic.broadcast_members {
            others.spawn(consumer::run_copies(Arc::clone(&context), topic, member));
        }
    }
    let asked = Arc::new(tokio::sync::Mutex::new(asked));
    for number in 0..ANSWERERS {
        others.spawn(transactions::answer(Arc::clone(&context), number, questions.clone(), Arc::clone(&asked)));
    }
    drop(questions);
    while producers.join_next().await.is_some() {}
    // Nobody listens when the run has failed meanwhile.
    let _ = producers_ended.send(());
    let mut phase = context.phase.clone();
    let _ = phase.wait_for(|phase| *phase == Phase::Over).await;
    while others.join_next().await.is_some() {}
}
