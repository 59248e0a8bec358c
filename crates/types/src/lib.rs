//! Vocabulary of the whole workspace: ids, offsets, durability, configs of topics and groups, users and ACLs, limits.
//!
//! Nothing here does IO, reads a clock or draws random numbers. The words are those of `docs/glossary.md`.

mod access;
mod config;
mod durability;
mod group_config;
mod ids;
pub mod limits;
mod nearest;
mod partitioner;
mod rooms;
mod topic_config;

pub use access::{
    Access, AccessError, Acl, AclFilter, AclOperation, AclPatternFilter, AclPermission, AclResourceType, PatternType,
    Secret, User, UserStatus, UserType, check_user_name, is_allowed,
};
pub use config::{ConfigError, ConfigKey, ConfigSource, ConfigValue};
pub use durability::{AckPoint, Durability, FlushMode, FlushWish, ReplicationMode, VisibilityPoint};
pub use group_config::{
    AssignmentStrategy, ConsumptionMode, ConsumptionOrder, ConsumptionStart, GROUP_CONFIG_KEYS, GroupConfig,
    RetryPolicy,
};
pub use ids::{
    BrokerGroupId, DeliveryId, Incarnation, LeaderEpoch, LogIndex, NodeId, Offset, ProducerEpoch, ProducerId, Term,
    TimestampMs, TopicId, TopicPartition,
};
pub use nearest::nearest;
pub use partitioner::{partition_of_key, partition_of_message_group};
pub use rooms::Rooms;
pub use topic_config::{MessageType, TOPIC_CONFIG_KEYS, TimestampType, TopicConfig};
