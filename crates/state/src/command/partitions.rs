//! Commands about the partitions that a data group hosts.

use duolog_types::{Offset, ProducerId, TopicConfig, TopicId, TopicPartition};
use serde::{Deserialize, Serialize};

/// A change of what a data group knows of its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartitionCommand {
    /// Creates a topic's partitions here or changes its configs. Idempotent: nothing happens unless the version is newer.
    UpsertTopic {
        /// The topic.
        topic_id: TopicId,
        /// The topic's version in the catalog.
        catalog_version: u64,
        /// The partitions that this group hosts. They are never taken away again.
        partitions: Vec<u32>,
        /// The topic's explicit configs.
        config: TopicConfig,
    },
    /// Deletes a topic's partitions here. Final: a late `UpsertTopic` revives nothing, whatever its version.
    DeleteTopic {
        /// The topic.
        topic_id: TopicId,
        /// Catalog version of the deletion.
        catalog_version: u64,
    },
    /// Moves a partition's log start offset. Never back; an offset beyond the log end is cut to it.
    AdvanceLogStart {
        /// The partition.
        partition: TopicPartition,
        /// The first offset to be kept.
        offset: Offset,
    },
    /// Forgets idempotent producers of a partition that have sent nothing since the proposer looked.
    ForgetProducers {
        /// The partition.
        partition: TopicPartition,
        /// Producers, each with the base offset of its last batch as the proposer saw it.
        seen: Vec<(ProducerId, Offset)>,
    },
}
