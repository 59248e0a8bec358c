//! The sequencer of a broker group (DESIGN 3.2): the only writer of its partitions, on its leader.
//!
//! It validates produce items against the applied state plus what is in flight, assigns offsets, detects duplicates and
//! coalesces what waits into log entries, and neighbours of one record in a partition into one batch. Hidden batches end here too,
//! so that each of them ends once. It never waits for an entry before it makes the next one; bytes in flight are bounded. It is a pure machine: the driver in the broker feeds it events and carries out its [`Output`]s.
//!
//! ```text
//!            start                 barrier_applied              proposal_refused
//!  Stopped ─────────▶ Opening(run) ───────────────▶ Running ─────────────────────┐
//!     ▲                 ▲   │ barrier_refused          │                         │
//!     │ stop            │   ▼                          │ the rest of the run is  │
//!     └── from all      └ Closed ◀── reopen            │ refused, run + 1        │
//!                       └────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariants:
//! - every waiter that was submitted gets exactly one [`Reply`];
//! - the numbers of a run's entries are 0, 1, 2 … without a gap, and nothing is proposed between a barrier and its
//!   apply, so at the first use of a partition in a run the applied state is exact;
//! - offsets of a partition are dense over the run's entries that count ([`duolog_state::run`] judges which).
//!
//! Deliberately absent: limits of topics and timestamps (the broker has checked them), watermarks and acks (a waiter is
//! told what to wait for), Kafka transactions.

mod ending;
mod filling;
mod in_flight;
mod item;
mod machine;
mod output;
mod producer;
mod refused;
mod state;

pub use item::{EndItem, HiddenEnd, Item, ProduceItem, WaiterId};
pub use machine::Sequencer;
pub use output::{AheadBatch, Answer, Output, ProduceRefusal, Produced, Proposal, ProposedEntry, Reply};
pub use state::{SequencerState, TableState};
