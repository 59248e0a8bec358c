//! What the sequencer takes in.

use duolog_record::RecordBatch;
use duolog_record::entry::{Address, CLOSE_BYTES, HIDDEN_HEAD_BYTES, Hidden, PAYLOAD_BYTES};
use duolog_types::{Durability, FlushWish, Term, TimestampMs, TopicPartition};

/// Whoever waits for the answer; the driver's own number, used once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// Something to be sequenced.
#[derive(Debug, Clone)]
pub enum Item {
    /// A record batch.
    Produce(ProduceItem),
    /// The end of a hidden batch.
    End(EndItem),
}

/// A record batch to be sequenced. It has passed `split_batches` and the topic's limits.
#[derive(Debug, Clone)]
pub struct ProduceItem {
    /// Who is answered.
    pub waiter: WaiterId,
    /// Where it goes.
    pub partition: TopicPartition,
    /// The batch; producer id, epoch and sequence are read from its header.
    pub batch: RecordBatch,
    /// Set when nobody may see it yet; then it has one record and no idempotent producer.
    pub hidden: Option<Hidden>,
    /// The topic's durability now; it is stamped on the batch.
    pub durability: Durability,
    /// How the batch wants to be flushed.
    pub flush: FlushWish,
    /// `flush.messages`: flush at once when this many records of the partition were not flushed by such a wish.
    pub flush_records: Option<i64>,
    /// The leader's clock, for topics with log append time.
    pub log_append_time: Option<TimestampMs>,
}

/// The end of a hidden batch, to be sequenced. The entry that carries the batch is applied.
#[derive(Debug, Clone, Copy)]
pub struct EndItem {
    /// Who is answered.
    pub waiter: WaiterId,
    /// The partition that the batch is for.
    pub partition: TopicPartition,
    /// Where it lies.
    pub address: Address,
    /// The term of its entry. Another entry may lie there since the one that was meant was lost with its leader.
    pub term: Term,
    /// How it ends.
    pub end: HiddenEnd,
    /// The leader's clock.
    pub now: TimestampMs,
    /// How long the state remembers an end without a delivery.
    pub keep_until: TimestampMs,
    /// As of a batch.
    pub durability: Durability,
    /// As of a batch.
    pub flush: FlushWish,
    /// As of a batch.
    pub flush_records: Option<i64>,
}

/// How a hidden batch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HiddenEnd {
    /// Its transaction is committed: it becomes visible.
    Commit,
    /// Its transaction is rolled back.
    RollBack,
    /// Nobody knows the fate of its transaction.
    GiveUp,
    /// Its time has come: it becomes visible.
    Deliver,
    /// Its delivery is called off.
    Recall,
}

impl Item {
    /// Who is answered.
    #[must_use]
    pub fn waiter(&self) -> WaiterId {
        match self {
            Self::Produce(item) => item.waiter,
            Self::End(item) => item.waiter,
        }
    }

    pub(super) fn partition(&self) -> TopicPartition {
        match self {
            Self::Produce(item) => item.partition,
            Self::End(item) => item.partition,
        }
    }

    /// Bytes that it takes in an entry, beside its slot.
    pub(super) fn size_bytes(&self) -> usize {
        match self {
            Self::Produce(item) if item.hidden.is_some() => HIDDEN_HEAD_BYTES + item.batch.size_bytes(),
            Self::Produce(item) => item.batch.size_bytes(),
            Self::End(_) => PAYLOAD_BYTES.max(CLOSE_BYTES),
        }
    }
}

impl From<ProduceItem> for Item {
    fn from(item: ProduceItem) -> Self {
        Self::Produce(item)
    }
}

impl From<EndItem> for Item {
    fn from(item: EndItem) -> Self {
        Self::End(item)
    }
}
