//! What the sequencer takes in.

use duolog_record::RecordBatch;
use duolog_types::{Durability, FlushWish, TimestampMs, TopicPartition};

/// Whoever waits for the answer; the driver's own number, used once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// A record batch to be sequenced. It has passed `split_batches` and the topic's limits.
#[derive(Debug, Clone)]
pub struct ProduceItem {
    /// Who is answered.
    pub waiter: WaiterId,
    /// Where it goes.
    pub partition: TopicPartition,
    /// The batch; producer id, epoch and sequence are read from its header.
    pub batch: RecordBatch,
    /// The topic's durability now; it is stamped on the batch.
    pub durability: Durability,
    /// How the batch wants to be flushed.
    pub flush: FlushWish,
    /// `flush.messages`: flush at once when this many records of the partition were not flushed by such a wish.
    pub flush_records: Option<i64>,
    /// The leader's clock, for topics with log append time.
    pub log_append_time: Option<TimestampMs>,
    /// Flags of the batch table.
    pub flags: u8,
}
