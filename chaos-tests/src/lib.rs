//! Chaos tests: real `duolog` processes, real clients, real kills, and a verdict.
//!
//! ```text
//! workload ─┐                      ┌─ check/lost.rs
//! faults   ─┼─▶ Recorder ─▶ History ┼─ check/duplicates.rs ─▶ Findings ─▶ report
//! observers─┘    (events)          └─ … one file per property
//! ```
//!
//! The workload has Kafka clients and, on topics of their own, RocketMQ clients ([`workload::messages`], judged by [`check::messages`]).
//!
//! Nodes call each other through the relays of [`net`] where faults of the network were chosen.
//!
//! [`history`] and [`check`] are pure: no clock, no IO, no client. The simulation records the same `History` and uses the
//! same checkers. Everything else drives a real cluster and is only used by the `duolog-chaos` binary.

pub mod check;
pub mod client;
pub mod cluster;
pub mod faults;
pub mod history;
pub mod http;
pub mod net;
pub mod observe;
pub mod power;
pub mod preload;
pub mod recorder;
pub mod report;
pub mod run;
pub mod target;
pub mod workload;
