//! The process of a node, apart from its machine: a runtime of its own, which the world lets go on a millisecond at a time, or pauses.
//!
//! ```text
//!   process (this runtime, may stand still)        machine (a host of turmoil, goes on while it is up)
//!   broker, Raft, logs, ... ── Net ── pipes ────── sockets ── network
//! ```
//!
//! A process that is paused (SIGSTOP) runs nothing; its machine goes on to take what others send, as much as a socket holds. When it
//! goes on, all its clocks have leapt.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;
use tokio::time::{advance, sleep};

/// Its tasks end when it is dropped.
pub struct Process {
    // Dropped before the tasks that are bound to the thread, as turmoil does it.
    runtime: Runtime,
    local: LocalSet,
    name: String,
    /// Since when it stands still, on the simulation's clock.
    paused_at: Option<Duration>,
}

impl Process {
    /// Begins with a task.
    pub fn start(name: String, task: impl Future<Output = ()> + 'static) -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let local = LocalSet::new();
        // Rounds the clock up to a millisecond.
        runtime.block_on(async { sleep(Duration::from_millis(1)).await });
        local.spawn_local(task);
        Self { runtime, local, name, paused_at: None }
    }

    /// Goes on for a while, unless it is paused.
    pub fn go_on(&self, time: Duration) {
        if self.paused_at.is_none() {
            let _span = tracing::info_span!("node", name = self.name).entered();
            self.runtime.block_on(self.local.run_until(async { sleep(time).await }));
        }
    }

    pub fn is_paused(&self) -> bool {
        self.paused_at.is_some()
    }

    /// Nothing of it runs until it is resumed.
    pub fn pause(&mut self, now: Duration) {
        self.paused_at = Some(now);
    }

    /// Its timers find that all the time has passed.
    pub fn resume(&mut self, now: Duration) {
        if let Some(paused_at) = self.paused_at.take() {
            self.runtime.block_on(self.local.run_until(advance(now - paused_at)));
        }
    }
}
