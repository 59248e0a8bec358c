//! Ids, offsets and positions. Newtypes without `From` between them, so that none is taken for another.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// One `duolog` process; Kafka's broker id. Never reused in a cluster.
    NodeId(u64)
);
number!(
    /// A broker group: one Raft group with its commit log. Group 0 is the system group.
    BrokerGroupId(u32)
);
number!(
    /// Position of an entry in a broker group's commit log, as in Raft; the first entry has index 0.
    LogIndex(u64)
);
number!(
    /// Raft term. The record that a partition is led in term t carries leader epoch t.
    Term(u64)
);
number!(
    /// A delivery of one or more messages to a consumer: 128 random bits, so that it cannot be guessed.
    DeliveryId(u128)
);
number!(
    /// Position of a record in a partition: dense, from 0. Never bytes, never a log index.
    Offset(i64)
);
number!(
    /// Id of an idempotent producer, from blocks of the catalog. −1 means none.
    ProducerId(i64)
);
number!(
    /// Epoch of a producer id. −1 means none.
    ProducerEpoch(i16)
);
number!(
    /// The Raft term as Kafka clients see it.
    LeaderEpoch(i32)
);
number!(
    /// Milliseconds since the Unix epoch.
    TimestampMs(i64)
);

impl BrokerGroupId {
    /// The broker group that holds the catalog.
    pub const SYSTEM: Self = Self(0);

    /// Whether this is the system group.
    #[must_use]
    pub fn is_system(self) -> bool {
        self == Self::SYSTEM
    }
}

impl Offset {
    /// The offset `count` records further.
    #[must_use]
    pub fn plus(self, count: i64) -> Self {
        Self(self.0 + count)
    }
}

impl ProducerId {
    /// Of a batch without idempotence.
    pub const NONE: Self = Self(-1);
}

impl Term {
    /// The term as a Kafka leader epoch.
    ///
    /// # Panics
    /// When the term exceeds `i32::MAX`: two thousand million elections cannot happen, so the state is corrupt.
    #[must_use]
    pub fn leader_epoch(self) -> LeaderEpoch {
        LeaderEpoch(i32::try_from(self.0).expect("a Raft term fits Kafka's 32-bit leader epoch"))
    }
}

/// Id of a topic: a UUID as Kafka clients see it. Never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct TopicId(pub [u8; 16]);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A partition of a topic.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition within the topic, from 0.
    pub partition: u32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Identity of a data directory: a new one for every directory that was ever initialized.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Incarnation(pub String);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
