//! [`MessageApi`] of the broker: single messages for the RocketMQ front end.

use bytes::Bytes;
use duolog_types::{BrokerGroupId, NodeId, TopicId, TopicPartition};
use tokio::sync::mpsc;

use crate::api::{ItemResult, TopicRef};
use crate::broker::Broker;
use crate::hidden;
use crate::message_api::{
    ConnectionId, Consumer, DeliveredMessage, HiddenHandle, MessageApi, Orphan, Pull, Pulled, Question, Receipt,
    Receive, Resolution, SendMessage, Sent, TopicHead,
};
use crate::pop;
use crate::trace::Fate;

impl MessageApi for Broker {
    fn topic_head(&self, topic: &TopicRef) -> ItemResult<TopicHead> {
        let catalog = self.catalog();
        let topic = self.known_yet(catalog.find(topic))?;
        let config = &topic.row.config;
        Ok(TopicHead {
            id: topic.id,
            partitions: u32::try_from(topic.row.partitions.len()).unwrap_or(u32::MAX),
            message_type: config.message_type(),
            timestamp_type: config.timestamp_type(),
        })
    }

    fn leader(&self, partition: TopicPartition) -> ItemResult<Option<NodeId>> {
        let number = i32::try_from(partition.partition).unwrap_or(i32::MAX);
        let place = self.locate(&TopicRef::Id(partition.topic), number)?;
        Ok(self.runtime(place.group).ok().and_then(|runtime| runtime.leadership().leader))
    }

    fn own_partition(&self, topic: TopicId, turn: u32) -> Option<u32> {
        let catalog = self.catalog();
        let hosts = &catalog.by_id(topic)?.row.partitions;
        let is_led = |group: &&BrokerGroupId| self.runtime(**group).is_ok_and(|runtime| runtime.leadership().is_self);
        let led: Vec<BrokerGroupId> = catalog.data_groups.iter().filter(is_led).copied().collect();
        let own = || hosts.iter().zip(0_u32..).filter(|(group, _)| led.contains(group)).map(|(_, partition)| partition);
        let count = own().count();
        (count > 0).then(|| own().nth(turn as usize % count))?
    }

    async fn send_messages(&self, messages: Vec<SendMessage>, timeout_ms: i32) -> Vec<ItemResult<Sent>> {
        hidden::send(self, messages, timeout_ms).await
    }

    async fn receive(&self, request: Receive) -> ItemResult<Vec<DeliveredMessage>> {
        let Consumer { group, client_id, .. } = request.consumer.clone();
        let delivered = pop::receive(self, request).await?;
        for message in &delivered {
            let fate = || Fate::Delivered { client_id: client_id.clone(), attempt: message.attempt };
            self.trace(&group, (message.partition, message.record.offset), fate);
        }
        Ok(delivered)
    }

    async fn pull(&self, request: Pull) -> ItemResult<Pulled> {
        pop::pull(self, request).await
    }

    async fn acknowledge(&self, consumer: Consumer, receipts: Vec<Receipt>) -> Vec<ItemResult<()>> {
        let results = pop::acknowledge(self, &self.group_of(&consumer), &receipts).await;
        for (receipt, _) in receipts.iter().zip(&results).filter(|(_, result)| result.is_ok()) {
            let fate = || Fate::Acknowledged { client_id: consumer.client_id.clone() };
            self.trace(&consumer.group, (receipt.partition, receipt.offset), fate);
        }
        results
    }

    async fn change_invisible(&self, consumer: Consumer, receipt: Receipt, invisible_ms: u64) -> ItemResult<Receipt> {
        pop::change_invisible(self, &self.group_of(&consumer), receipt, invisible_ms).await
    }

    async fn dead_letter(&self, consumer: Consumer, receipt: Receipt) -> ItemResult<()> {
        pop::dead_letter(self, &self.group_of(&consumer), receipt).await
    }

    async fn renew(&self, client_id: &str, connection: ConnectionId) {
        pop::renew(self, client_id, connection).await;
    }

    async fn end_transaction(&self, handle: HiddenHandle, resolution: Resolution) -> ItemResult<()> {
        hidden::end_transaction(self, handle, resolution).await
    }

    async fn orphans(&self) -> Vec<Orphan> {
        hidden::orphans(self).await
    }

    async fn asked(&self, orphans: Vec<(HiddenHandle, u32)>) {
        hidden::asked(self, &orphans).await;
    }

    async fn nodes_with_publishers(&self, topic: &str) -> Vec<NodeId> {
        self.cluster_handle().nodes_with_publishers(topic).await
    }

    async fn ask_at(&self, node: NodeId, topic: &str, question: Bytes) -> bool {
        self.cluster_handle().ask(node, topic, question).await
    }

    fn questions(&self) -> mpsc::Receiver<Question> {
        self.cluster_handle().questions()
    }

    async fn recall(&self, handle: HiddenHandle) -> ItemResult<()> {
        hidden::recall(self, handle).await
    }
}
