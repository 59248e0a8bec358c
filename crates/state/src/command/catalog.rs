//! Commands to the catalog: the cluster, its topics by name, blocks of producer ids, configs of groups, users and ACLs.

use duolog_record::group::GroupId;
use duolog_types::{Acl, BrokerGroupId, GroupConfig, NodeId, TimestampMs, TopicConfig, TopicId, User};
use serde::{Deserialize, Serialize};

/// A node as the bootstrap names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterNode {
    /// Its id.
    pub id: NodeId,
    /// Host name or address for clients.
    pub host: String,
    /// Port of the Kafka front end.
    pub kafka_port: u16,
}

/// A change of the catalog. Every one that succeeds takes the next catalog version, apart from
/// [`CatalogCommand::AllocateProducerIds`], which nobody follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CatalogCommand {
    /// Names the cluster. The first one wins, later ones are told its id.
    InitCluster {
        /// Id of the cluster.
        cluster_id: String,
        /// The nodes of the bootstrap.
        nodes: Vec<ClusterNode>,
        /// The data groups, ascending.
        data_groups: Vec<BrokerGroupId>,
        /// The data group of each of the `COORDINATOR_SLOTS` coordinator slots.
        coordinator_slots: Vec<BrokerGroupId>,
    },
    /// Creates a topic. The proposer chooses the id and the placement; apply checks both.
    CreateTopic {
        /// Its name.
        name: String,
        /// Its id; never used before.
        id: TopicId,
        /// The data group of each partition.
        partitions: Vec<BrokerGroupId>,
        /// Its explicit configs.
        config: TopicConfig,
        /// The leader's clock.
        timestamp: TimestampMs,
    },
    /// Deletes a topic; its id stays known as deleted.
    DeleteTopic {
        /// Its id.
        id: TopicId,
    },
    /// Replaces a topic's configs.
    AlterTopicConfig {
        /// Its id.
        id: TopicId,
        /// The new explicit configs, all of them.
        config: TopicConfig,
        /// The topic's version that the new configs were made from.
        expected_version: u64,
    },
    /// Takes the next block of producer ids.
    AllocateProducerIds {
        /// The node that will give them out; for the log's readers only.
        node: NodeId,
    },
    /// Adds partitions at the end of a topic.
    AddPartitions {
        /// Its id.
        id: TopicId,
        /// The data group of each new partition.
        added: Vec<BrokerGroupId>,
        /// The topic's version that the placement was made from.
        expected_version: u64,
    },
    /// Replaces the configs of a consumer group, which need not exist otherwise.
    PutGroupConfig {
        /// The group.
        group: GroupId,
        /// The new explicit configs, all of them; none forgets the row.
        config: GroupConfig,
        /// Version of the row that the new configs were made from; 0 when there was none.
        expected_version: u64,
    },
    /// Creates the first user, unless there are users already.
    InitUser {
        /// Its name.
        name: String,
        /// The user.
        user: User,
    },
    /// Creates a user or replaces it.
    PutUser {
        /// Its name.
        name: String,
        /// The user.
        user: User,
        /// Version of the row that the user was made from; 0 when there was none.
        expected_version: u64,
    },
    /// Deletes a user with the ACLs of its principal.
    DeleteUser {
        /// Its name.
        name: String,
    },
    /// Adds ACLs; those that are there stay.
    AddAcls(Vec<Acl>),
    /// Deletes ACLs; those that are not there are passed over.
    DeleteAcls(Vec<Acl>),
    /// A node leaves the cluster for good: its id is never used again.
    RetireNode {
        /// Its id.
        node: NodeId,
    },
}
