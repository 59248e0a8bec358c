//! What must hold of Raft here (`raft_must_NN_…`, by the numbers of `docs/adr/0002-openraft.md`), shown on three nodes in
//! one process: real calls over loopback, simulated disks that can stall, be killed and lose power.
//!
//! No test sleeps to let something happen: each waits for a condition. Where something must *not* happen, the test waits
//! for later events that would have come after it.

mod admin;
mod apply;
mod balance;
mod bootstrap;
mod common;
mod configuration;
mod election;
mod guard;
mod identity;
mod leader_restore;
mod loss_of_leadership;
mod ordering;
mod panics;
mod rebuild;
mod reset_calls;
mod scrub;
mod slow_disk;
mod snapshot;
