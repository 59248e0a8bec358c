//! Real `duolog` processes on loopback, and a small Kafka client, for the tests of the binary.
#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]

mod client;
mod cluster;
mod load;
mod node;

use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use client::{Client, Fetched, Produced, batch};
pub use cluster::{Cluster, Layout};
pub use load::{Ending, produce_until};
pub use node::{BINARY, Node, duolog};

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Polls until the condition holds. Panics when it does not in time.
pub fn wait_for(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        sleep(POLL_INTERVAL);
    }
}

/// Panics as soon as the condition holds within `time`.
pub fn never_within(what: &str, time: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        assert!(!holds(), "{what}");
        sleep(POLL_INTERVAL);
    }
}

/// Writes past the test harness, which would hide it.
pub fn show(text: &str) {
    // Nobody may be listening.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}
