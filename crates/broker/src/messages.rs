//! [`MessageApi`] of the broker: single messages for the RocketMQ front end.

use duolog_record::group::GroupId;

use crate::api::{BrokerApi, ItemResult, ProducePartition};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::message_api::{
    DeliveredMessage, Delivery, HiddenHandle, MessageApi, Orphan, Receipt, Receive, Resolution, SendMessage, Sent,
};
use crate::pop;

impl MessageApi for Broker {
    async fn send_messages(&self, messages: Vec<SendMessage>, timeout_ms: i32) -> Vec<ItemResult<Sent>> {
        let mut results = Vec::with_capacity(messages.len());
        for message in messages {
            results.push(send(self, message, timeout_ms).await);
        }
        results
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
