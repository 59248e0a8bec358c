//! A log without threads: whoever drives it takes one step after the other.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::flusher::{self, Synced};
use crate::shared::Shared;
use crate::writer::Writer;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Something was done; there may be more.
    Done,
    /// There was nothing to do: look again at this time, or after a change.
    Wait(Option<Instant>),
    /// The log has ended.
    Ended,
}

/// The writer and the flusher of a log, to be driven. Clones drive the same log.
#[derive(Clone)]
pub struct LogSteps(Arc<Stepped>);

struct Stepped {
    shared: Arc<Shared>,
    writer: Mutex<Writer>,
    /// A flush that is under way: its files are synced, and nobody was told.
    flushing: Mutex<Option<Synced>>,
}

impl LogSteps {
    pub(crate) fn new(shared: Arc<Shared>, writer: Writer) -> Self {
        Self(Arc::new(Stepped { shared, writer: Mutex::new(writer), flushing: Mutex::new(None) }))
    }

    /// `wake` is called with every change, on the caller's thread, and must not call the log. Counts once.
    pub fn on_change(&self, wake: impl Fn() + Send + Sync + 'static) {
        // A second one is a mistake of the driver, which would never be woken.
        assert!(self.0.shared.on_change.set(Box::new(wake)).is_ok(), "a log is driven by one");
    }

    /// Writes what is queued, with one write.
    #[must_use]
    pub fn write(&self) -> Step {
        self.0.writer.lock().step()
    }

    /// Begins a flush, if one is due and none is under way: what was written so far is durable. Whoever waits for it hears of it by
    /// [`LogSteps::end_flush`].
    #[must_use]
    pub fn begin_flush(&self) -> Step {
        match flusher::step(&self.0.shared) {
            Ok(synced) => {
                *self.0.flushing.lock() = Some(synced);
                Step::Done
            }
            Err(step) => step,
        }
    }

    /// The flush that is under way, if there is one, has ended.
    pub fn end_flush(&self) {
        let synced = self.0.flushing.lock().take();
        if let Some(synced) = synced {
            flusher::finish_step(&self.0.shared, synced);
        }
    }

    /// Does whatever can be done now.
    pub(crate) fn run_dry(&self) {
        loop {
            let written = self.write();
            self.end_flush();
            if written != Step::Done && self.begin_flush() != Step::Done {
                return;
            }
        }
    }
}
