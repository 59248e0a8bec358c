//! Fuzz targets: what must hold for any bytes that a client, the network or a disk hands us.
//!
//! A target is a function of bytes that panics when a promise is broken. `cargo xtask fuzz` builds each with coverage
//! counters ([libFuzzer](https://llvm.org/docs/LibFuzzer.html)), lets it search for new paths from the seeds on, and
//! keeps what it found below the target directory. The tests of this crate run every seed without any of that.
//!
//! - [`frame`]: frames of the Kafka protocol, against a server on a socket;
//! - [`batch`]: record batches, log entries and commands;
//! - [`recovery`]: opening a commit log whose files were damaged.
//!
//! A target is deterministic: the input that broke it breaks it again.

pub mod batch;
mod batch_seeds;
pub mod frame;
mod frame_seeds;
pub mod recovery;
mod recovery_scenarios;
pub mod seeds;

/// The Kafka front end's broker in memory, its server and its encoders.
#[path = "../../kafka/tests/support/mod.rs"]
mod kafka_support;

/// What the tests of the commit log share.
#[path = "../../commit-log/tests/common/mod.rs"]
mod log_support;
