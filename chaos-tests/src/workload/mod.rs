//! The clients of a run. Kafka's: per topic two idempotent producers, a tail reader, and (where wanted) a group of two members.
//! RocketMQ's are in [`messages`].
//!
//! Each is a thread that works until it is told to stop and writes what it learns into the recorder.

pub mod final_read;
pub mod group;
pub mod messages;
pub mod probe;
pub mod producer;
pub mod tail;
pub mod topics;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Result, anyhow};

use crate::history::messages::MessageTopic;
use crate::history::{Place, Topic};
use crate::recorder::Recorder;

/// What every client of the run shares.
pub struct Shared {
    pub bootstrap: String,
    pub topics: Vec<Topic>,
    /// Of RocketMQ clients; empty when there are none.
    pub message_topics: Vec<MessageTopic>,
    pub recorder: Recorder,
}

impl Shared {
    pub fn name(&self, topic: u16) -> &str {
        &self.topics[usize::from(topic)].name
    }

    pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
        (0..self.topics.len() as u16).flat_map(|topic| self.places_of(topic))
    }

    pub fn places_of(&self, topic: u16) -> impl Iterator<Item = Place> + use<> {
        let count = self.topics[usize::from(topic)].partition_count;
        (0..count).map(move |partition| Place { topic, partition })
    }
}

/// Tells threads to end.
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Lets nodes and the relays between them run before this thread and those that it starts: librdkafka's threads spin while they cannot
/// send, and on few cores nobody would be elected meanwhile.
fn give_way() {
    const NICE: libc::c_int = 10;
    // SAFETY: a plain system call; 0 is the calling thread. To be nicer needs no right.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// Threads with one owner and one way to end.
#[derive(Default)]
pub struct Threads {
    pub stop: Stop,
    handles: Vec<(String, JoinHandle<Result<()>>)>,
}

impl Threads {
    pub fn spawn(&mut self, name: String, work: impl FnOnce(&Stop) -> Result<()> + Send + 'static) {
        let stop = self.stop.clone();
        let handle = std::thread::spawn(move || {
            give_way();
            work(&stop)
        });
        self.handles.push((name, handle));
    }

    /// Stops all and waits. Every thread bounds its own waits.
    pub fn join(self) -> Result<()> {
        self.stop.now();
        for (name, handle) in self.handles {
            let ended = handle.join().map_err(|_| anyhow!("{name} panicked"))?;
            ended.map_err(|error| error.context(name))?;
        }
        Ok(())
    }
}
