//! Replication: openraft behind our own words. Only this crate names openraft.
//!
//! ```text
//!  propose ─▶ Raft core ─▶ LogStore ─▶ CommitLog ──▶ written ──▶ received marks ─┐
//!                 │                        └───────▶ flushed ──▶ Raft's answers ─┤──▶ Watermarks (Follow)
//!                 └─▶ StateMachine ─▶ ReplicatedState (applied only when flushed here)
//! ```
//!
//! A node runs one [`BrokerGroup`] replica per broker group, on a runtime of its own. What must hold, and the test that
//! shows it, is listed in `docs/adr/0002-openraft.md`.
#![warn(missing_docs)]

pub mod admin;
mod backup;
mod balance;
mod blocking;
mod bootstrap;
mod calls;
mod cluster;
mod disk_space;
mod drain;
pub mod files;
mod group;
mod guard;
mod guarding;
mod hand_over;
mod identity;
mod laggards;
mod lease;
mod log_store;
mod marks;
mod membership;
mod net;
mod network;
mod peer;
mod questions;
mod rebuild;
mod repairs;
mod retired;
mod scrub;
mod service;
mod snapshot;
mod state_machine;
#[doc(hidden)]
pub mod testing;
mod type_config;
mod watermarks;
mod wire;

pub use backup::restore;
pub use cluster::{Cluster, ClusterOptions, NodeAddress, RaftTimes, StartError, lock_data_dir};
pub use disk_space::{DiskSpace, DiskState};
pub use group::{BrokerGroup, Leadership, MemberView, ProposeError, outcome};
pub use guard::Guard;
pub use identity::{Identity, IdentityError, NodeFile};
pub use log_store::EntryTap;
pub use net::{Connection, Incoming, Net};
pub use questions::Question;
pub use scrub::{ScrubCounts, ScrubOptions};
pub use state_machine::{ReplicatedState, StateFactory, StateFiles};
pub use type_config::{CommandResponse, Member, Proposal, TypeConfig};
pub use watermarks::{Mark, Watermarks, quorum_received_next};
