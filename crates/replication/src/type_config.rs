//! How openraft is configured: one leader per term, so that the term alone is Kafka's leader epoch.
//!
//! Only this crate names openraft.

use std::fmt;

use bytes::Bytes;
use duolog_state::{EntryKind, Response};
use duolog_types::FlushWish;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

openraft::declare_raft_types!(
    /// openraft's types for a broker group.
    pub TypeConfig:
        D = Proposal,
        R = CommandResponse,
        NodeId = u64,
        Node = Member,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = openraft_rt_tokio::TokioRuntime,
);

pub(crate) type RaftLogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub(crate) type RaftVote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub(crate) type RaftEntry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub(crate) type CommittedLeaderId = openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type RaftMembership = openraft::Membership<u64, Member>;

/// A member of a broker group as the membership records it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Member {
    /// Host for calls between nodes.
    pub host: String,
    /// Port for calls between nodes.
    pub grpc_port: u16,
    /// Port of the Kafka front end, for clients' metadata.
    pub kafka_port: u16,
    /// Port of the RocketMQ front end; 0 when it has none, or joined before it was recorded.
    #[serde(default)]
    pub rocketmq_port: u16,
    /// Port of HTTP; 0 as above.
    #[serde(default)]
    pub http_port: u16,
    /// Incarnation of the node's data directory: a directory that was emptied is another member.
    pub incarnation: String,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.grpc_port)
    }
}

/// What is proposed to a broker group. A clone is a few reference counts; serde never touches the payload.
#[derive(Clone, PartialEq, Eq)]
pub struct Proposal {
    /// What the body is.
    pub kind: EntryKind,
    /// How the entry wants to be flushed.
    pub flush: FlushWish,
    /// The entry's body.
    pub body: Bytes,
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of {} bytes", self.kind, self.body.len())
    }
}

/// openraft's `serde` feature asks for these bounds for its own message types, which we do not use for entries.
impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a proposal is never serialized: entries have a format of their own"))
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("a proposal is never serialized: entries have a format of their own"))
    }
}

/// The answer of the state machine to one entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandResponse(pub Response);

impl fmt::Display for CommandResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A position as openraft has it.
pub(crate) fn raft_log_id(term: u64, index: u64) -> RaftLogId {
    RaftLogId::new(CommittedLeaderId::new(term), index)
}

/// Term of a log id.
pub(crate) fn term_of(log_id: &RaftLogId) -> u64 {
    **log_id.committed_leader_id()
}
