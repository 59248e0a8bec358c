//! What an applied run changed, for the caches of the broker. Local to a node, never stored.

use duolog_record::entry::{Address, Hidden};
use duolog_record::group::GroupId;
use duolog_types::{LogIndex, Offset, TopicId, TopicPartition};

/// One change, in the order of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateEvent {
    /// The catalog has this version now.
    CatalogChanged {
        /// The version.
        version: u64,
    },
    /// A partition was created here.
    PartitionCreated {
        /// The partition.
        partition: TopicPartition,
    },
    /// A partition was deleted here.
    PartitionDeleted {
        /// The partition.
        partition: TopicPartition,
    },
    /// The configs of a topic that is hosted here were set.
    TopicConfigChanged {
        /// The topic.
        topic_id: TopicId,
        /// The topic's version in the catalog.
        catalog_version: u64,
    },
    /// A batch is part of its partition.
    BatchApplied {
        /// The partition.
        partition: TopicPartition,
        /// Offset of its first record.
        base_offset: Offset,
        /// The offset after its last record: the log end offset.
        end_offset: Offset,
        /// The entry that carries it.
        index: LogIndex,
        /// Its slot in the entry.
        slot: u32,
    },
    /// A hidden batch was stored.
    HiddenStored {
        /// The partition that it is for.
        partition: TopicPartition,
        /// Where it lies.
        address: Address,
        /// What it waits for.
        hidden: Hidden,
    },
    /// The log start offset of a partition moved.
    LogStartAdvanced {
        /// The partition.
        partition: TopicPartition,
        /// The first offset that is kept.
        offset: Offset,
    },
    /// A consumer group was replaced.
    GroupChanged {
        /// The group.
        group: GroupId,
    },
    /// A consumer group was deleted with its offsets.
    GroupDeleted {
        /// The group.
        group: GroupId,
    },
    /// Offsets of a group were committed, pulled back or deleted.
    OffsetsChanged {
        /// The group.
        group: GroupId,
        /// The partitions.
        partitions: Vec<TopicPartition>,
    },
    /// The time of committed offsets was over; for the metrics.
    OffsetsExpired {
        /// The group.
        group: GroupId,
        /// How many.
        count: usize,
    },
    /// Idempotent producers were forgotten; for the metrics.
    ProducersForgotten {
        /// The partition.
        partition: TopicPartition,
        /// How many.
        count: usize,
    },
    /// A committed offset was pulled back; to be reported.
    OffsetPulledBack {
        /// The group.
        group: GroupId,
        /// The partition.
        partition: TopicPartition,
        /// The committed offset before.
        from: Offset,
        /// The committed offset now.
        to: Offset,
    },
}
