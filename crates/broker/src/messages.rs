//! [`MessageApi`] of the broker: single messages for the RocketMQ front end.

use duolog_record::group::GroupId;

use crate::api::ItemResult;
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::hidden;
use crate::message_api::{
    DeliveredMessage, HiddenHandle, MessageApi, Orphan, Receipt, Receive, Resolution, SendMessage, Sent,
};

impl MessageApi for Broker {
    async fn send_messages(&self, messages: Vec<SendMessage>, timeout_ms: i32) -> Vec<ItemResult<Sent>> {
        hidden::send(self, messages, timeout_ms).await
    }

    async fn receive(&self, _request: Receive) -> ItemResult<Vec<DeliveredMessage>> {
        Err(not_yet())
    }

    async fn acknowledge(&self, _group: GroupId, receipts: Vec<Receipt>) -> Vec<ItemResult<()>> {
        receipts.iter().map(|_| Err(not_yet())).collect()
    }

    async fn change_invisible(&self, _group: GroupId, _receipt: Receipt, _invisible_ms: u64) -> ItemResult<Receipt> {
        Err(not_yet())
    }

    async fn dead_letter(&self, _group: GroupId, _receipt: Receipt) -> ItemResult<()> {
        Err(not_yet())
    }

    async fn renew(&self, _client_id: &str) {}

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

fn not_yet() -> BrokerError {
    BrokerError::Unsupported("not supported yet".to_owned())
}
