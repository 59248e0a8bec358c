//! What RocketMQ clients learned: sends with their outcomes, deliveries, acknowledgements, transactions, recalls.
//!
//! The topics are the run's own for single messages, [`History::message_topics`](super::History::message_topics). One topic has one
//! consumer group of RocketMQ clients, named in [`MessageTopic::group`].

use serde::{Deserialize, Serialize};

use super::{Sync, Value};

/// A topic that RocketMQ clients use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageTopic {
    pub name: String,
    pub kind: Kind,
    pub replication: Sync,
    pub flush: Sync,
    pub partition_count: i32,
    /// The consumer group.
    pub group: String,
    /// How many consumers the topic's broadcasting group has, each of which gets every message.
    #[serde(default)]
    pub broadcast_members: u32,
}

impl MessageTopic {
    pub fn broadcasting_group(&self) -> String {
        format!("all-of-{}", self.name)
    }

    /// Whether the topic's consumer group asks for a message.
    pub fn wants(&self, value: Value) -> bool {
        self.kind != Kind::Filtered || tag(value) == WANTED_TAG
    }
}

/// What a topic is for: its `message.type`, but for letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Normal,
    Fifo,
    Delay,
    Transaction,
    /// Normal messages, some of which nobody acknowledges.
    Letters,
    /// Normal messages, of which the group wants those with [`WANTED_TAG`].
    Filtered,
}

/// What the group of a filtered topic asks for.
pub const WANTED_TAG: &str = "tag-1";

/// The tag of a value's message: every third one has the same.
pub fn tag(value: Value) -> String {
    let Value::Sent { sequence, .. } = value else { return String::new() };
    format!("tag-{}", sequence % 3)
}

/// A message in a partition of one of the topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Spot {
    /// Index into [`History::message_topics`](super::History::message_topics).
    pub topic: u16,
    pub partition: i32,
    pub offset: i64,
}

/// What a producer wants of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Delivered at once.
    Plain,
    /// In the order of sending within the message group `order`, which has one send under way at a time and counts its sequences up.
    Ordered { order: u32 },
    /// Visible from this time on, on the history's clock.
    Delayed { due_ms: u64 },
    /// A half message whose transaction ends like this. Who is `asked` does not end it before the broker asks.
    Half { end: End, asked: bool },
    /// Never acknowledged, so that it becomes a dead letter.
    Doomed,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Commit,
    RollBack,
}

/// How a call ended, as far as its client can know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    /// It did not happen and never will.
    Refused(String),
    /// It may have happened, or may happen yet.
    Open(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum MessageEvent {
    /// One attempt to send. `offset`: the answer's, of messages that are visible at once.
    Sent { asked_ms: u64, time_ms: u64, topic: u16, value: Value, form: Form, outcome: Outcome, offset: Option<i64> },
    /// Consumer `reader` was given a message by its receive call `call`. Of one call the order of recording is the order of the answer.
    /// `receipt` is a digest of the receipt handle.
    Delivered {
        asked_ms: u64,
        time_ms: u64,
        reader: u32,
        call: u64,
        spot: Spot,
        value: Value,
        attempt: i32,
        receipt: u64,
        invisible_ms: u64,
    },
    /// Member `member` of the topic's broadcasting group was given a message.
    Copied { time_ms: u64, member: u32, spot: Spot, value: Value },
    /// One attempt to acknowledge a delivery.
    Settled { asked_ms: u64, time_ms: u64, spot: Spot, receipt: u64, outcome: Outcome },
    /// One attempt to change how long a delivered message is invisible: `invisible_ms` from the call on. `next` is the receipt that is good
    /// from then on, where the answer said so.
    Moved {
        asked_ms: u64,
        time_ms: u64,
        spot: Spot,
        receipt: u64,
        invisible_ms: u64,
        outcome: Outcome,
        next: Option<u64>,
    },
    /// One attempt to end a transaction. `transaction` is a digest of the transaction id: the broker may keep a half message twice,
    /// each with its own. `asked`: the broker had asked.
    Ended {
        asked_ms: u64,
        time_ms: u64,
        topic: u16,
        value: Value,
        transaction: u64,
        end: End,
        asked: bool,
        outcome: Outcome,
    },
    /// One attempt to take back a delayed message.
    Recalled { asked_ms: u64, time_ms: u64, topic: u16, value: Value, outcome: Outcome },
    /// A Kafka reader that follows a topic was given a record.
    Read { time_ms: u64, spot: Spot, value: Value },
    /// A record of the read from the start to the end by Kafka, after everything.
    FinalRecord { spot: Spot, value: Value },
    /// `read_all`: that read reached the high watermark in time.
    FinalEnd { topic: u16, partition: i32, high_watermark: i64, read_all: bool },
    /// A record of the dead-letter topic of `origin`'s group, which says that it comes from `origin`.
    DeadLetter { origin: Spot, value: Value },
    /// After the faults consumers went on until nothing was owed to anybody any more, or for `waited_ms`; `owed` is what was left.
    Drained { waited_ms: u64, owed: u64 },
}
