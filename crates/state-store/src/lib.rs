//! The tables of a broker group's state on disk: RocksDB behind the traits of `duolog-state`.
//!
//! One RocksDB per broker group, one column family per table, **no write-ahead log**: the commit log is it. One atomic
//! `WriteBatch` per applied run, and `atomic_flush`, so that what is on disk is always the state at one applied index.
//!
//! ```text
//!  apply ──▶ WriteBatch ──▶ memtables of all tables ──(budget full | flush | close)──▶ SST files + one MANIFEST edit
//!                                     │                                                       │
//!                              applied (visible)                                durable_applied (survives a kill)
//! ```
//!
//! Deliberately absent: what a table means (`duolog-state`), when to take a checkpoint (`duolog-replication`).
#![warn(missing_docs)]

mod budget;
mod error;
mod options;
mod snapshot;
mod tables;

pub use budget::StoreBudget;
pub use error::StoreError;
pub use snapshot::RocksSnapshot;
pub use tables::{RocksFiles, RocksReader, RocksTables};
