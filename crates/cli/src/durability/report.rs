//! What a node answers to `GET /durability`: the form that the server writes and the command reads.
//!
//! Rules for change: fields are only added, with a default, so that a newer command understands an older node.

use serde::{Deserialize, Serialize};

/// The topics as one node sees them, with the exposure of what it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The node that answers.
    pub node_id: u64,
    /// The members of the cluster whose HTTP port is known.
    pub nodes: Vec<NodeHttp>,
    /// Every topic, by name.
    pub topics: Vec<TopicReport>,
}

/// Where a node answers HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHttp {
    /// Its id.
    pub node_id: u64,
    /// HOST:PORT.
    pub http: String,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicReport {
    /// Its name.
    pub topic: String,
    /// `sync/sync`, `sync/async`, `async/sync` or `async/async`.
    pub durability: String,
    /// How long a record may wait for its flush; null with synchronous flush.
    pub flush_ms: Option<u32>,
    /// Voters of its broker groups.
    pub replicas: usize,
    /// Its partitions.
    pub partitions: usize,
    /// Those of them that the node leads; the exposures are theirs.
    pub partitions_led: usize,
    /// Acknowledged, and lost with the node.
    pub leader_loss: Exposure,
    /// Acknowledged, and lost with the power of all machines.
    pub power_loss: Exposure,
}

/// Records that were acknowledged and would be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Exposure {
    /// How many.
    pub records: u64,
    /// Bytes of their record batches.
    pub bytes: u64,
    /// Milliseconds since the oldest was appended.
    pub age_ms: u64,
}

impl Exposure {
    /// This and that of other partitions.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            records: self.records.saturating_add(other.records),
            bytes: self.bytes.saturating_add(other.bytes),
            age_ms: self.age_ms.max(other.age_ms),
        }
    }
}
