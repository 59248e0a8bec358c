//! Vocabulary of the whole workspace: ids, offsets, durability, topic configs, limits.
//!
//! Nothing here does IO, reads a clock or draws random numbers. The words are those of `docs/glossary.md`.

mod durability;
mod ids;
pub mod limits;
mod nearest;
mod topic_config;

pub use durability::{AckPoint, Durability, FlushMode, FlushWish, ReplicationMode, VisibilityPoint};
pub use ids::{
    BrokerGroupId, DeliveryId, Incarnation, LeaderEpoch, LogIndex, NodeId, Offset, ProducerEpoch, ProducerId, Term,
    TimestampMs, TopicId, TopicPartition,
};
pub use nearest::nearest;
pub use topic_config::{
    ConfigError, ConfigKey, ConfigSource, ConfigValue, MessageType, TOPIC_CONFIG_KEYS, TimestampType, TopicConfig,
};
