//! Deliveries whose consumer may be gone before it has them.

use duolog_record::group::GroupId;

use super::settle::change_invisible;
use crate::broker::Broker;
use crate::message_api::Receipt;

/// Messages that were taken for an answer that is not given yet. When the request is dropped meanwhile, because its client waits no more,
/// they become visible again: with automatic renewal they would otherwise stay out as long as the client lives.
///
/// At once, unless they were in an answer before: its client may have that one, and this request may have been on its way for longer than the
/// client waited. Then they stay out for the time that was asked for.
pub(super) struct Undelivered<'a> {
    broker: &'a Broker,
    group: &'a GroupId,
    /// With the milliseconds for which they stay out.
    receipts: Vec<(Receipt, u64)>,
}

impl<'a> Undelivered<'a> {
    pub(super) fn new(broker: &'a Broker, group: &'a GroupId) -> Self {
        Self { broker, group, receipts: Vec::new() }
    }

    pub(super) fn extend(&mut self, receipts: impl Iterator<Item = Receipt>) {
        self.receipts.extend(receipts.map(|receipt| (receipt, 0)));
    }

    /// Of messages that were in an answer before.
    pub(super) fn extend_again(&mut self, receipts: impl Iterator<Item = Receipt>, invisible_ms: u64) {
        self.receipts.extend(receipts.map(|receipt| (receipt, invisible_ms)));
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
            for (receipt, invisible_ms) in receipts {
                if let Err(error) = change_invisible(&broker, &group, receipt, invisible_ms).await {
                    tracing::debug!(consumer_group = %group, %error, "a message that nobody got stays out for its time");
                }
            }
        });
    }
}
