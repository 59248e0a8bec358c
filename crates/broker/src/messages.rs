//! [`MessageApi`] of the broker: single messages for the RocketMQ front end.

use duolog_record::group::GroupId;

use crate::api::ItemResult;
use crate::broker::Broker;
use crate::hidden;
use crate::message_api::{
    DeliveredMessage, HiddenHandle, MessageApi, Orphan, Receipt, Receive, Resolution, SendMessage, Sent,
};
use crate::pop;

impl MessageApi for Broker {
    async fn send_messages(&self, messages: Vec<SendMessage>, timeout_ms: i32) -> Vec<ItemResult<Sent>> {
        hidden::send(self, messages, timeout_ms).await
    }

    async fn receive(&self, request: Receive) -> ItemResult<Vec<DeliveredMessage>> {
        pop::receive(self, request).await
    }

    async fn acknowledge(&self, group: GroupId, receipts: Vec<Receipt>) -> Vec<ItemResult<()>> {
        pop::acknowledge(self, &group, &receipts).await
    }

    async fn change_invisible(&self, group: GroupId, receipt: Receipt, invisible_ms: u64) -> ItemResult<Receipt> {
        pop::change_invisible(self, &group, receipt, invisible_ms).await
    }

    async fn dead_letter(&self, group: GroupId, receipt: Receipt) -> ItemResult<()> {
        pop::dead_letter(self, &group, receipt).await
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
