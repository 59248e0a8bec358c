//! What a node answers about users, and what it is told: the forms that the server and the commands share. No answer has a secret.
//!
//! Rules for change: fields are only added, with a default, so that a newer command understands an older node.

use duolog_types::{Secret, UserStatus, UserType};
use serde::{Deserialize, Serialize};

use crate::durability::report::NodeHttp;

/// `GET /users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserReport {
    /// The node that answers.
    pub node_id: u64,
    /// All nodes of its config whose HTTP port is known.
    pub nodes: Vec<NodeHttp>,
    /// By name.
    pub users: Vec<UserRow>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRow {
    /// Its name: the access key.
    pub name: String,
    /// Whether ACLs count for it.
    #[serde(rename = "type")]
    pub user_type: UserType,
    /// Whether it is let in.
    pub status: UserStatus,
    /// How many ACLs name it.
    #[serde(default)]
    pub acls: usize,
}

/// `POST /users/{name}/create` and `/alter`: what is set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserChange {
    /// The secret; a new user must have one.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// Whether ACLs count for it; a new user is normal.
    #[serde(default, rename = "type")]
    pub user_type: Option<UserType>,
    /// Whether it is let in; a new user is.
    #[serde(default)]
    pub status: Option<UserStatus>,
}
