//! [`MessageApi`] of the broker: single messages for the RocketMQ front end.

use duolog_record::group::GroupId;

use crate::api::{BrokerApi, ItemResult, ProducePartition};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::message_api::{
    DeliveredMessage, Delivery, HiddenHandle, MessageApi, Orphan, Receipt, Receive, Resolution, SendMessage, Sent,
};

impl MessageApi for Broker {
    async fn send_messages(&self, messages: Vec<SendMessage>, timeout_ms: i32) -> Vec<ItemResult<Sent>> {
        let mut results = Vec::with_capacity(messages.len());
        for message in messages {
            results.push(send(self, message, timeout_ms).await);
        }
        results
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

    async fn end_transaction(&self, _handle: HiddenHandle, _resolution: Resolution) -> ItemResult<()> {
        Err(not_yet())
    }

    async fn orphans(&self) -> Vec<Orphan> {
        Vec::new()
    }

    async fn recall(&self, _handle: HiddenHandle) -> ItemResult<()> {
        Err(not_yet())
    }
}

async fn send(broker: &Broker, message: SendMessage, timeout_ms: i32) -> ItemResult<Sent> {
    if message.delivery != Delivery::Now {
        return Err(not_yet());
    }
    let partition = broker.locate(&message.topic, message.partition)?.partition;
    let produce = ProducePartition { topic: message.topic, partition: message.partition, records: message.batch };
    let produced = broker.produce(vec![produce], timeout_ms).await.swap_remove(0)?;
    Ok(Sent { partition, offset: Some(produced.base_offset), handle: None, lease: produced.lease })
}

fn not_yet() -> BrokerError {
    BrokerError::Unsupported("not supported yet".to_owned())
}
