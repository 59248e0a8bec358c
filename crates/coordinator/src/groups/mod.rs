//! The coordinator of classic consumer groups (JoinGroup, SyncGroup, Heartbeat, LeaveGroup, OffsetCommit).
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
//! Deliberately absent: KIP-848 groups, transactional offset commits, OffsetFetch, offset expiry.

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
mod offsets;
mod outcome;
mod rebalance;
mod sync;
mod turn;

pub use config::GroupConfig;
pub use describe::{GroupDescription, GroupListing, MemberDescription};
pub use error::{GroupError, JoinRefused};
pub use event::{
    Event, HeartbeatRequest, JoinRequest, LeaveRequest, LeavingMember, OffsetCommitRequest, PartitionCommit,
    ProposalFailure, ProposalId, RequestId, SyncRequest,
};
pub use group::Phase;
pub use machine::GroupMachine;
pub use turn::{CommitResults, GroupCommand, JoinReply, JoinedMember, Output, Proposal, Reply, ReplyBody, SyncReply};
