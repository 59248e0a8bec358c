//! Bytes of fetch answers that are computed and not yet written, bounded for each connection and over all of them.
//!
//! - A connection computes one fetch answer at a time: the next one begins when the one before is written. Kafka's clients never
//!   ask for more; one that does and reads nothing costs one answer, not one for each request.
//! - The more bytes wait for slow readers, the smaller new answers are: at most half of what is left of the budget. Nobody
//!   waits for the slow ones; in the worst case everybody gets a batch at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of fetch answers that may wait to be written, over all connections, before new ones become smaller.
const UNWRITTEN_BYTES: usize = 128 << 20;
/// An answer may always have so many bytes.
const ANSWER_BYTES_MIN: usize = 64 << 10;

/// What waits to be written, over all connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct UnwrittenAnswers(Arc<AtomicUsize>);

impl UnwrittenAnswers {
    /// Most bytes of a fetch answer that begins now.
    pub(crate) fn answer_bytes_max(&self) -> usize {
        let left = UNWRITTEN_BYTES.saturating_sub(self.0.load(Ordering::Relaxed));
        (left / 2).max(ANSWER_BYTES_MIN)
    }

    /// Counts an answer until the value is dropped.
    fn count(&self, bytes: usize) -> Counted {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Counted { all: self.clone(), bytes }
    }
}

struct Counted {
    all: UnwrittenAnswers,
    bytes: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The one place for a fetch answer that a connection has.
#[derive(Debug, Clone)]
pub(crate) struct FetchPlace(Arc<Semaphore>);

/// The place, taken until the answer is written.
pub(crate) struct FetchPlaceTaken {
    #[allow(dead_code, reason = "held for its drop")]
    place: OwnedSemaphorePermit,
    counted: Option<Counted>,
}

impl FetchPlace {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// Waits until the answers before are written. First come, first served: the order of the first polls.
    pub(crate) async fn take(&self) -> FetchPlaceTaken {
        let place = self.0.clone().acquire_owned().await.expect("the semaphore is never closed");
        FetchPlaceTaken { place, counted: None }
    }
}

impl FetchPlaceTaken {
    /// The answer is computed and has so many bytes.
    pub(crate) fn holds(&mut self, all: &UnwrittenAnswers, bytes: usize) {
        self.counted = Some(all.count(bytes));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn answers_shrink_while_others_wait_and_grow_again() {
        let all = UnwrittenAnswers::default();
        assert_eq!(all.answer_bytes_max(), UNWRITTEN_BYTES / 2);
        let place = FetchPlace::new();
        let mut taken = place.take().await;
        taken.holds(&all, UNWRITTEN_BYTES / 2);
        assert_eq!(all.answer_bytes_max(), UNWRITTEN_BYTES / 4);
        let more = all.count(UNWRITTEN_BYTES);
        assert_eq!(all.answer_bytes_max(), ANSWER_BYTES_MIN);
        assert!(place.take().now_or_never().is_none(), "a second answer of the connection");
        drop((taken, more));
        assert_eq!(all.answer_bytes_max(), UNWRITTEN_BYTES / 2);
        place.take().await;
    }
}
