//! What the sequencer wants done: values, carried out by the driver in order.

use bytes::Bytes;
use duolog_record::entry::EntryHeader;
use duolog_state::StateError;
use duolog_state::run::RunBarrier;
use duolog_types::{
    AckPoint, FlushWish, LogIndex, Offset, ProducerEpoch, ProducerId, Term, TimestampMs, TopicPartition,
};

use super::WaiterId;

/// What one call of the sequencer wants done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct Output {
    /// To be proposed, in order, as leader of the run's term only.
    pub proposals: Vec<Proposal>,
    /// Answers to waiters.
    pub replies: Vec<Reply>,
    /// Batches that were taken although they are ahead of the replicated sequence; to be counted and logged.
    pub ahead: Vec<AheadBatch>,
    /// The state could not be read: the replica must stop.
    pub failed: Option<StateError>,
}

/// An entry to be proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposal {
    /// An entry of kind `RunBarrier`.
    Barrier(RunBarrier),
    /// An entry of kind `Batches`.
    Batches(ProposedEntry),
}

/// An entry of kind `Batches`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedEntry {
    /// Its run and number: its id in the outcomes that the driver reports.
    pub header: EntryHeader,
    /// Its body.
    pub body: Bytes,
    /// The strictest wish of its batches.
    pub flush: FlushWish,
}

/// The answer to a waiter; there is exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Who.
    pub waiter: WaiterId,
    /// What.
    pub answer: Answer,
}

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Tell the producer when the ack point has reached the index in this term; "unknown, retry" when the term ends.
    WaitFor {
        /// The term.
        term: Term,
        /// The entry that carries the batch.
        index: LogIndex,
        /// The watermark that has to reach it.
        ack_point: AckPoint,
        /// What the producer is told then.
        produced: Produced,
    },
    /// Tell the producer now: a duplicate of a batch that is applied.
    Done(Produced),
    /// It was not taken, or nobody knows.
    Refused(ProduceRefusal),
}

/// What a producer is told of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Produced {
    /// Offset of its first record; −1 while it has none.
    pub base_offset: Offset,
    /// Its greatest timestamp: the log append time, where the topic stamps it.
    pub max_timestamp: TimestampMs,
    /// Slot of a batch that was hidden: with the index of its entry it names it.
    pub hidden_slot: Option<u32>,
}

/// Why a batch was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProduceRefusal {
    /// It may have been taken or not: retry. Retriable.
    #[error("the outcome is unknown; retry")]
    Unknown,
    /// This node does not lead now. Retriable.
    #[error("this node does not lead the broker group")]
    NotLeading,
    /// The partition is not, or no longer, hosted here.
    #[error("the partition is not hosted here")]
    UnknownPartition,
    /// There is no such hidden batch, any more or at all.
    #[error("there is no such half or delayed message")]
    NoSuchHidden,
    /// The hidden batch ended otherwise, or cannot end so.
    #[error("the message cannot end so, or ended otherwise before")]
    EndedOtherwise,
    /// A gap in the producer's sequence.
    #[error("producer sequence {found} does not follow {last}")]
    OutOfOrderSequence {
        /// First sequence of the batch.
        found: i32,
        /// Last sequence that was accepted; −1 when none was.
        last: i32,
    },
    /// A duplicate of a batch that is older than those remembered.
    #[error("duplicate of a batch that is older than those remembered")]
    DuplicateSequence,
    /// Another producer with a newer epoch took over. Fenced.
    #[error("producer epoch {found} is older than {current}")]
    StaleEpoch {
        /// The batch's.
        found: ProducerEpoch,
        /// The newest known.
        current: ProducerEpoch,
    },
}

/// A batch that was taken ahead of the replicated sequence (DESIGN 4, "After a loss that the mode allows").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AheadBatch {
    /// The partition.
    pub partition: TopicPartition,
    /// The producer.
    pub producer_id: ProducerId,
    /// Last sequence that is replicated; −1 when none of the epoch is.
    pub last: i32,
    /// First sequence of the batch.
    pub found: i32,
}
