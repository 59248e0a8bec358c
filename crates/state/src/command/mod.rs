//! What is proposed as an entry of kind `Command`, and what the proposer is told once it was applied.
//!
//! The order of variants and of their fields is the format: add at the end, never reorder; a change of a field takes a
//! new version of [`Command`]. Errors that a client can cause are responses: apply never fails on what was well-formed
//! when it was proposed.

mod catalog;
mod groups;
mod hidden;
mod partitions;
mod pop;

use bytes::Bytes;
use duolog_types::{Offset, ProducerId, TopicId};
use serde::{Deserialize, Serialize};

pub use catalog::{CatalogCommand, ClusterNode};
pub use groups::{GroupCommand, PullBack};
pub use hidden::{CheckBack, HiddenCommand};
pub use partitions::PartitionCommand;
pub use pop::PopUpdate;

use crate::StateError;
use crate::codec::{self, versioned};

/// A command to a broker group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// To the system group.
    Catalog(CatalogCommand),
    /// To the data group that hosts the partitions.
    Partitions(PartitionCommand),
    /// To the data group that coordinates the consumer group.
    Groups(GroupCommand),
    /// To the data group that hosts the partitions, in order.
    Pop(Vec<PopUpdate>),
    /// To the data group that hosts the partitions.
    Hidden(HiddenCommand),
}
versioned!(Command = 1);

impl Command {
    /// The body of an entry.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        Bytes::from(codec::encode(self))
    }

    /// Reads the body of an entry.
    ///
    /// # Errors
    /// `UnknownVersion`, `Undecodable`: the replica must stop, for other replicas may have understood it.
    pub fn decode(body: &[u8]) -> Result<Self, StateError> {
        codec::decode(body)
    }
}

/// What became of an applied entry; one per entry, in order. Sent to the node that asked for a command; never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Applied; or there was nothing to do.
    Ok,
    /// The state has moved on, and the command changed nothing: an older catalog version, an offset that was not the
    /// one seen.
    Unchanged,
    /// What an entry of kind `Batches` came to.
    Batches(BatchesOutcome),
    /// The run that a barrier wanted to open is open.
    RunOpened,
    /// A barrier of another term or of an older run; it opened nothing.
    RunRefused,
    /// The cluster has this id: the first `InitCluster` wins.
    ClusterInitialized {
        /// Id of the cluster.
        cluster_id: String,
    },
    /// The catalog is not initialized yet.
    ClusterNotInitialized,
    /// The topic was created.
    TopicCreated {
        /// Its id.
        id: TopicId,
        /// Catalog version of the creation.
        version: u64,
    },
    /// A topic has that name already.
    TopicExists {
        /// Id of the topic that has the name.
        id: TopicId,
    },
    /// The topic id was used before, by another topic.
    TopicIdUsed,
    /// A name, a number of partitions or a placement that the catalog does not take; the text says which.
    Invalid(String),
    /// No such topic, or no such partition, in this broker group.
    NoSuchTopic,
    /// The topic was deleted; a deletion is final.
    TopicDeleted,
    /// The topic's configs or partitions were changed, or it was deleted, at this catalog version.
    TopicChanged {
        /// The catalog version.
        version: u64,
    },
    /// The topic, the group's configs or the user changed since the proposer looked.
    VersionConflict {
        /// The version that was found.
        found: u64,
        /// The version that the proposer expected.
        expected: u64,
    },
    /// A block of producer ids: `first .. first + count`.
    ProducerIds {
        /// The first id.
        first: ProducerId,
        /// How many.
        count: i64,
    },
    /// The partition's log start offset now.
    LogStart {
        /// The first offset that is kept.
        offset: Offset,
    },
    /// Whose producers are to be asked now.
    CheckBacks {
        /// Positions in the command, ascending.
        counted: Vec<u32>,
    },
    /// The consumer group's configs were changed, at this catalog version.
    GroupConfigChanged {
        /// The catalog version.
        version: u64,
    },
    /// Users or ACLs were changed, at this catalog version; or there was nothing to change.
    AccessChanged {
        /// The catalog version.
        version: u64,
    },
    /// There is no such user.
    NoSuchUser,
}

/// What an entry of kind `Batches` came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BatchesOutcome {
    /// It counts, apart from these slots, whose partition is unknown or deleted here.
    Counted {
        /// Slots that are void.
        void_slots: Vec<u32>,
    },
    /// It does not count; nothing of it is stored.
    Refused(crate::run::Refusal),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_round_trip_and_an_unknown_version_is_an_error() {
        let command =
            Command::Partitions(PartitionCommand::DeleteTopic { topic_id: TopicId([7; 16]), catalog_version: 9 });
        let body = command.encode();
        assert_eq!(Command::decode(&body).unwrap(), command);
        let mut newer = body.to_vec();
        newer[0] = 2;
        assert_eq!(Command::decode(&newer).unwrap_err().to_string(), "Command: unknown version 2, expected 1");
    }
}
