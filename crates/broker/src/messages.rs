//! [`MessageApi`] of the broker: single messages for the RocketMQ front end.

use crate::api::ItemResult;
use crate::broker::Broker;
use crate::hidden;
use crate::message_api::{
    Consumer, DeliveredMessage, HiddenHandle, MessageApi, Orphan, Pull, Pulled, Receipt, Receive, Resolution,
    SendMessage, Sent,
};
use crate::pop;

impl MessageApi for Broker {
    async fn send_messages(&self, messages: Vec<SendMessage>, timeout_ms: i32) -> Vec<ItemResult<Sent>> {
        hidden::send(self, messages, timeout_ms).await
    }

    async fn receive(&self, request: Receive) -> ItemResult<Vec<DeliveredMessage>> {
        pop::receive(self, request).await
    }

    async fn pull(&self, request: Pull) -> ItemResult<Pulled> {
        pop::pull(self, request).await
    }

    async fn acknowledge(&self, consumer: Consumer, receipts: Vec<Receipt>) -> Vec<ItemResult<()>> {
        pop::acknowledge(self, &self.group_of(&consumer), &receipts).await
    }

    async fn change_invisible(&self, consumer: Consumer, receipt: Receipt, invisible_ms: u64) -> ItemResult<Receipt> {
        pop::change_invisible(self, &self.group_of(&consumer), receipt, invisible_ms).await
    }

    async fn dead_letter(&self, consumer: Consumer, receipt: Receipt) -> ItemResult<()> {
        pop::dead_letter(self, &self.group_of(&consumer), receipt).await
    }

    async fn renew(&self, client_id: &str) {
        pop::renew(self, client_id).await;
    }

    async fn end_transaction(&self, handle: HiddenHandle, resolution: Resolution) -> ItemResult<()> {
        hidden::end_transaction(self, handle, resolution).await
    }

    async fn orphans(&self) -> Vec<Orphan> {
        hidden::orphans(self).await
    }

    async fn recall(&self, handle: HiddenHandle) -> ItemResult<()> {
        hidden::recall(self, handle).await
    }
}
