//! Bytes of requests in progress, bounded over all connections of a front end.
//!
//! A request takes its length before more than its beginning is read and gives it back once its answer is computed, or once it is
//! parked for what may take long (Kafka's fetch, join and sync) and has let go of its frame. One that is larger than three
//! quarters of the budget takes three quarters: it is admitted with at most the smallest ones beside it, and small requests
//! that wait for long with their share (RocketMQ's receive) do not keep it out.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A front end's budget. Admission is first come, first served.
#[derive(Debug, Clone)]
pub struct RequestBudget {
    free: Arc<Semaphore>,
    share_bytes_max: u32,
}

/// Bytes that a request holds; given back when dropped.
#[derive(Debug)]
pub struct Admission(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl RequestBudget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.clamp(4, u32::MAX as usize);
        let share_bytes_max = u32::try_from(bytes / 4 * 3).expect("three quarters of a number that fits in 32 bits");
        Self { free: Arc::new(Semaphore::new(bytes)), share_bytes_max }
    }

    /// Waits until a request of so many bytes may be read.
    ///
    /// # Panics
    /// Never: the semaphore is not closed.
    ///
    /// # Cancel safety
    /// Nothing is held when the future is dropped; its place in the queue is lost.
    pub async fn admit(&self, request_bytes: usize) -> Admission {
        let share = u32::try_from(request_bytes).unwrap_or(u32::MAX).min(self.share_bytes_max);
        Admission(self.free.clone().acquire_many_owned(share).await.expect("the semaphore is never closed"))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_oversized_request_is_admitted_and_a_second_waits() {
        let budget = RequestBudget::new(1_000);
        let parked = budget.admit(100).await;
        let oversized = budget.admit(1_000_000).await;
        let mut second = Box::pin(budget.admit(1_000_000));
        assert!((&mut second).now_or_never().is_none(), "two oversized requests at once");
        drop(oversized);
        second.await;
        drop(parked);
        assert_eq!(budget.free.available_permits(), 1_000);
    }
}
