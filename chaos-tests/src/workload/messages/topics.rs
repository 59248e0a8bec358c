//! The topics of RocketMQ clients: each kind of message in the modes that promise to survive kills.

use crate::history::Sync;
use crate::history::messages::{Kind, MessageTopic};
use crate::workload::topics::PARTITION_COUNT;

const BROADCAST_MEMBERS: u32 = 2;

/// Both with synchronous replication; letters and filtered messages in one of them, and a broadcasting group beside the other at another.
pub fn all() -> Vec<MessageTopic> {
    let mut topics = Vec::new();
    for kind in [Kind::Normal, Kind::Fifo, Kind::Delay, Kind::Transaction] {
        for flush in [Sync::Sync, Sync::Async] {
            topics.push(topic(kind, flush));
        }
    }
    topics.push(topic(Kind::Letters, Sync::Async));
    topics.push(topic(Kind::Filtered, Sync::Async));
    topics
}

fn topic(kind: Kind, flush: Sync) -> MessageTopic {
    let name = format!("messages-{}-{}", word(kind), flush.as_str());
    let group = format!("group-of-{name}");
    let broadcast_members = if (kind, flush) == (Kind::Normal, Sync::Async) { BROADCAST_MEMBERS } else { 0 };
    let (replication, partition_count) = (Sync::Sync, PARTITION_COUNT);
    MessageTopic { name, kind, replication, flush, partition_count, group, broadcast_members }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Normal => "normal",
        Kind::Fifo => "fifo",
        Kind::Delay => "delay",
        Kind::Transaction => "transaction",
        Kind::Letters => "letters",
        Kind::Filtered => "filtered",
    }
}
