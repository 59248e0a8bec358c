//! Handing leadership to another voter, without an unknown outcome for those who wait.

use std::time::Duration;

use duolog_types::NodeId;
use tokio::sync::watch;

use crate::group::{BrokerGroup, ProposeError};
use crate::watermarks::Watermarks;

/// Before leadership is handed over: time for what is on its way to the log, and for what is in the log to be committed.
const DRAIN_MIN: Duration = Duration::from_millis(10);
const DRAIN_MAX: Duration = Duration::from_millis(500);
/// Longest wait for the other node to take over.
const HAND_OVER_MAX: Duration = Duration::from_secs(1);

impl BrokerGroup {
    /// Hands leadership to another voter, if this node leads; returns once it is gone, or after a while.
    ///
    /// First what was proposed is committed, while the sequencer proposes nothing new ([`BrokerGroup::handing_over`]): who waits
    /// for it is answered, and the rest can be refused as certainly not taken.
    ///
    /// # Errors
    /// The Raft core has stopped.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), ProposeError> {
        let _handing_over = HandingOver::begin(&self.handing_over);
        // What is on its way to the log arrives there.
        tokio::time::sleep(DRAIN_MIN).await;
        let mut watermarks = self.watermarks.clone();
        let is_drained = |marks: &Watermarks| marks.term == 0 || marks.committed_next >= marks.appended_next;
        // What is not committed in time is answered with "unknown".
        let _ = tokio::time::timeout(DRAIN_MAX, watermarks.wait_for(is_drained)).await;
        self.lease.hand_over(self.leadership.borrow().term.0);
        let begun = self.raft.trigger().transfer_leader(to.0).await;
        begun.map_err(|fatal| ProposeError::Unknown(fatal.to_string()))?;
        let mut leadership = self.leadership.clone();
        // Without an answer of the other node this one leads on.
        let _ = tokio::time::timeout(HAND_OVER_MAX, leadership.wait_for(|now| !now.is_self)).await;
        Ok(())
    }

    /// Whether leadership is about to be handed over: batches should wait.
    #[must_use]
    pub fn handing_over(&self) -> watch::Receiver<bool> {
        self.handing_over.subscribe()
    }
}

/// Says that leadership is being handed over, until it is dropped.
struct HandingOver<'a>(&'a watch::Sender<bool>);

impl<'a> HandingOver<'a> {
    fn begin(sender: &'a watch::Sender<bool>) -> Self {
        sender.send_replace(true);
        Self(sender)
    }
}

impl Drop for HandingOver<'_> {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}
