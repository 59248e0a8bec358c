//! The coordinator of classic consumer groups (JoinGroup, SyncGroup, Heartbeat, LeaveGroup, OffsetCommit, OffsetDelete,
//! DeleteGroups), and the rule by which their committed offsets expire.
//!
//! ```text
//!            first join                 every member joined,              leader's SyncGroup
//!   Empty ───────────────▶ Preparing ── or rebalance timeout ─▶ Completing ── is committed ──▶ Stable
//!     ▲                    Rebalance                            Rebalance                        │
//!     │ no member left      │   ▲ ▲                               │                             │
//!     └─────────────────────┘   │ └──── join, leave, expiry ──────┘                             │
//!                               └────────────── join, leave, expiry, leader rejoins ────────────┘
//!   Dead: its tombstone is proposed and not yet committed.
//! ```
//!
//! As Apache Kafka's classic group: KIP-62, KIP-134 (initial delay), KIP-345 (static members), KIP-394 (member id
//! required), KIP-559 (protocol checks), KIP-814 (static members skip assignment). KIP-429 needs nothing here.
//!
//! Two copies of a group: the *durable* one changes only by [`GroupMachine::replay`], on every replica that runs the
//! machine; the *live* one exists while this node leads. [`Event::Lead`] makes live from durable, sessions in full, so a
//! fail-over causes no rebalance. A proposal's outcome comes back as [`Event::Committed`] or [`Event::ProposalFailed`];
//! SyncGroup, OffsetCommit and static rejoins are answered only then.
//!
//! Deliberately absent: KIP-848 groups, transactional offset commits, OffsetFetch.

mod config;
mod describe;
mod error;
mod event;
mod expiry;
mod group;
mod heartbeat;
mod join;
mod leave;
mod machine;
mod member;
mod offset_expiry;
mod offsets;
mod outcome;
mod rebalance;
mod subscription;
mod sync;
mod turn;

pub use config::GroupConfig;
pub use describe::{GroupDescription, GroupListing, MemberDescription};
pub use error::{GroupError, JoinRefused};
pub use event::{
    Event, Expired, HeartbeatRequest, JoinRequest, LeaveRequest, LeavingMember, OffsetCommitRequest,
    OffsetDeleteRequest, PartitionCommit, ProposalFailure, ProposalId, RequestId, SyncRequest,
};
pub use group::Phase;
pub use machine::GroupMachine;
pub use offset_expiry::{ExpiryRule, StoredOffset};
pub use turn::{GroupCommand, JoinReply, JoinedMember, OffsetResults, Output, Proposal, Reply, ReplyBody, SyncReply};
