//! The replicated state machine of one broker group, and the traits of the tables that it lives in.
//!
//! The system group (group 0) holds the catalog; a data group holds partitions, producers, consumer groups and committed
//! offsets. Apply is a pure function of the log: no clock, no randomness, no local configuration, no look into another
//! group's state (the crate's `clippy.toml` bans what would break that).
//!
//! ```text
//!  log ──▶ [AppliedEntry] ──▶ Machine::apply ──▶ Overlay ──▶ one atomic WriteSet ──▶ TableWriter (memory, RocksDB)
//!                                  │                                                   ▲
//!                                  └─▶ Response per entry, StateEvents          reader::* (over any TableReader)
//! ```
//!
//! Deliberately absent: the log itself, leadership, what is in flight (the sequencer in `duolog-coordinator` knows that).
#![warn(missing_docs)]

mod apply;
pub mod codec;
pub mod command;
pub mod conformance;
mod error;
mod event;
mod hash;
pub mod keys;
pub mod kinds;
pub mod reader;
pub mod rows;
pub mod run;
pub mod sequence;
pub mod tables;

pub use apply::{AppliedRun, Machine};
pub use command::{BatchesOutcome, Command, Response};
pub use error::StateError;
pub use event::StateEvent;
pub use hash::state_hash;
pub use kinds::{AppliedEntry, EntryKind};
pub use tables::{MemoryTables, Overlay, TableId, TableReader, TableWriter, WriteSet};
