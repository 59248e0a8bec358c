//! The clients of a simulation. All are tasks of one host; what they ask runs on the nodes.
//!
//! ```text
//!   Load ─────────────────────▶ Drain ─────────────────────▶ Over
//!   producers, consumers,       consumers of messages and    all end; everything is read
//!   groups, faults              answers go on, until
//!                               nothing is owed
//! ```

mod final_read;
mod groups;
mod messages;
mod records;
mod replicas;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use duolog_chaos::history::{Place, Value};
use duolog_chaos::recorder::Recorder;
use duolog_chaos::workload::messages::ledger::Ledger;
use duolog_record::BatchBuilder;
use duolog_types::{ProducerEpoch, ProducerId, TimestampMs};
use tokio::task::{JoinHandle, spawn_local};

use crate::cluster::SimCluster;
use crate::random::Random;

pub use final_read::final_read;
pub use messages::topics as message_topics;

/// Time for the cluster to come to rest.
pub const RECOVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Load,
    Drain,
    Over,
}

/// What all clients share.
#[derive(Clone)]
pub struct Clients {
    pub cluster: SimCluster,
    pub recorder: Arc<Recorder>,
    pub phase: Rc<Cell<Phase>>,
    /// What the broker owes to clients of messages.
    ledger: Rc<Ledger>,
    /// Producers of messages that have not ended yet.
    producers: Rc<Cell<usize>>,
    next_number: Rc<Cell<u64>>,
    /// Promises that no checker of histories knows, and that a client has seen broken.
    broken: Rc<RefCell<Vec<String>>>,
    /// How far the wall clock of a node may be off.
    skew: Duration,
}

impl Clients {
    pub fn new(cluster: SimCluster, recorder: Arc<Recorder>, skew: Duration) -> Self {
        Self {
            cluster,
            recorder,
            phase: Rc::new(Cell::new(Phase::Load)),
            ledger: Rc::new(Ledger::new()),
            producers: Rc::default(),
            next_number: Rc::default(),
            broken: Rc::default(),
            skew,
        }
    }

    fn report(&self, broken: String) {
        self.broken.borrow_mut().push(broken);
    }

    /// What clients have seen broken that is not in the history.
    pub fn take_broken(&self) -> Vec<String> {
        self.broken.take()
    }

    /// A number that nobody else of the run has.
    fn number(&self) -> u64 {
        self.next_number.replace(self.next_number.get() + 1)
    }
}

/// Runs all clients until the run is over.
pub async fn run(clients: Clients, mut random: Random) -> turmoil::Result {
    let mut tasks: Vec<JoinHandle<()>> = Vec::new();
    for (place, number) in places(&clients.cluster).zip(0_u32..) {
        tasks.push(spawn_local(records::produce(clients.clone(), place, number, random.fork())));
        tasks.push(spawn_local(records::consume(clients.clone(), place, number, random.fork())));
    }
    for topic in 0..clients.cluster.topics.len() as u16 {
        tasks.extend(groups::spawn(&clients, topic, &mut random));
    }
    for topic in 0..clients.cluster.message_topics.len() as u16 {
        tasks.extend(messages::spawn(&clients, topic, &mut random));
    }
    tasks.push(spawn_local(messages::answer(clients.clone(), random.fork())));
    for task in tasks {
        task.await?;
    }
    Ok(())
}

/// The partitions of the topics of all modes.
fn places(cluster: &SimCluster) -> impl Iterator<Item = Place> + use<'_> {
    let topics = (0_u16..).zip(cluster.topics.iter());
    topics.flat_map(|(topic, of)| (0..of.partition_count).map(move |partition| Place { topic, partition }))
}

fn batch(value: Value, identity: Option<(u32, u64)>) -> Bytes {
    let mut builder = BatchBuilder::new();
    if let Some((producer, sequence)) = identity {
        let sequence = i32::try_from(sequence).unwrap_or(i32::MAX);
        builder = builder.producer(ProducerId(i64::from(producer)), ProducerEpoch(0), sequence);
    }
    builder.push(TimestampMs(-1), None, Some(&value.payload())).expect("a small record");
    builder.build().expect("a small batch").into_bytes()
}

/// What the clock on the wall shows here.
fn wall_now() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimestampMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
