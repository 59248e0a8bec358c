//! Deliveries whose consumer may be gone before it has them.

use duolog_record::group::GroupId;

use super::settle::change_invisible;
use crate::broker::Broker;
use crate::message_api::Receipt;

/// Messages that were taken for an answer that is not given yet. When the request is dropped meanwhile, because its client waits no more,
/// they become visible again: with automatic renewal they would otherwise stay out as long as the client lives.
pub(super) struct Undelivered<'a> {
    broker: &'a Broker,
    group: &'a GroupId,
    receipts: Vec<Receipt>,
}

impl<'a> Undelivered<'a> {
    pub(super) fn new(broker: &'a Broker, group: &'a GroupId) -> Self {
        Self { broker, group, receipts: Vec::new() }
    }

    pub(super) fn extend(&mut self, receipts: impl Iterator<Item = Receipt>) {
        self.receipts.extend(receipts);
    }

    /// The answer is given, or they are not out at all.
    pub(super) fn forget(&mut self) {
        self.receipts.clear();
    }
}

impl Drop for Undelivered<'_> {
    fn drop(&mut self) {
        let receipts = std::mem::take(&mut self.receipts);
        let (false, Ok(runtime)) = (receipts.is_empty(), tokio::runtime::Handle::try_current()) else { return };
        let (broker, group) = (self.broker.clone(), self.group.clone());
        runtime.spawn(async move {
            for receipt in receipts {
                if let Err(error) = change_invisible(&broker, &group, receipt, 0).await {
                    tracing::debug!(consumer_group = %group, %error, "a message that nobody got stays out for its time");
                }
            }
        });
    }
}
