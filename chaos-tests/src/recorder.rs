//! The one clock and the one list of events that all threads of a run share.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::history::Event;

pub struct Recorder {
    start: Instant,
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    pub fn start() -> Recorder {
        Recorder { start: Instant::now(), events: Mutex::new(Vec::new()) }
    }

    pub fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    pub fn record(&self, event: Event) {
        self.lock().push(event);
    }

    /// Looks at the events so far, from the `from`-th on. Recording waits meanwhile.
    pub fn look<T>(&self, from: usize, with: impl FnOnce(&[Event]) -> T) -> T {
        let events = self.lock();
        with(&events[from.min(events.len())..])
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes everything that was recorded.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.lock())
    }

    // A thread that panics between two pushes leaves a whole list.
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls `ready` every 50 ms until it says yes or `limit` is over; says which.
pub fn wait_until(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if ready() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
