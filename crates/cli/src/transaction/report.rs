//! What a node answers about half messages: the form that the server writes and the commands read.
//!
//! Rules for change: fields are only added, with a default, so that a newer command understands an older node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::durability::report::NodeHttp;

/// `GET /transactions`: half messages of the partitions that the node leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionReport {
    /// The node that answers.
    pub node_id: u64,
    /// All nodes of its config whose HTTP port is known.
    pub nodes: Vec<NodeHttp>,
    /// The oldest check-back first.
    pub transactions: Vec<TransactionRow>,
}

/// A half message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionRow {
    /// Its transaction's id, as the producer knows it.
    pub id: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The message's id.
    pub message_id: String,
    /// When the producer made it, in milliseconds since the epoch.
    pub born_ms: Option<i64>,
    /// What has become of it.
    #[serde(flatten)]
    pub state: State,
}

/// What has become of a half message. Times are milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// Nothing yet.
    Open {
        /// How often its producer was asked.
        checks: u32,
        /// When it is asked next.
        next_check_ms: i64,
    },
    /// Its producer never answered.
    GivenUp {
        /// When it is forgotten.
        kept_until_ms: i64,
    },
    /// It was rolled back.
    RolledBack {
        /// When it is forgotten.
        kept_until_ms: i64,
    },
}

/// `GET /transactions/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionDetails {
    /// The half message.
    #[serde(flatten)]
    pub transaction: TransactionRow,
    /// Its keys.
    pub keys: Vec<String>,
    /// Its tag.
    pub tag: Option<String>,
    /// The producer's host, as it says.
    pub born_host: String,
    /// User properties.
    pub properties: BTreeMap<String, String>,
    /// Size of the body.
    pub body_bytes: usize,
    /// The body, when it is text.
    pub body: Option<String>,
}
