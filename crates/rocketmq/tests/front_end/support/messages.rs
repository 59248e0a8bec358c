//! Messages of the brokers in memory.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use duolog_broker::BrokerError;
use duolog_broker::api::{AckLease, ItemResult, TopicRef};
use duolog_broker::message_api::{
    ConnectionId, Consumer, DeliveredMessage, Delivery, DeliveryId, Filter, HiddenHandle, MessageApi, Orphan, Pull,
    Pulled, Question, Receipt, Receive, Resolution, SendMessage, Sent, TopicHead,
};
use duolog_types::{BrokerGroupId, NodeId, Offset, Term, TopicId, TopicPartition};
use tokio::sync::{mpsc, oneshot};

use super::{FakeBroker, record_of};

impl MessageApi for FakeBroker {
    fn topic_head(&self, topic: &TopicRef) -> ItemResult<TopicHead> {
        let view = self.view(topic)?;
        Ok(TopicHead {
            id: view.id,
            partitions: u32::try_from(view.partitions.len()).expect("a small number"),
            message_type: view.config.message_type(),
            timestamp_type: view.config.timestamp_type(),
        })
    }

    fn leader(&self, partition: TopicPartition) -> ItemResult<Option<NodeId>> {
        let view = self.view(&TopicRef::Id(partition.topic))?;
        let number = i32::try_from(partition.partition).expect("a small number");
        let unknown = BrokerError::UnknownPartition { topic: view.name.clone(), partition: number };
        view.partitions.get(partition.partition as usize).map(|partition| partition.leader).ok_or(unknown)
    }

    fn own_partition(&self, topic: TopicId, turn: u32) -> Option<u32> {
        let view = self.view(&TopicRef::Id(topic)).ok()?;
        let led = view.partitions.iter().filter(|partition| partition.leader == Some(self.id));
        let led: Vec<u32> = led.map(|partition| partition.partition).collect();
        led.get(turn as usize % led.len().max(1)).copied()
    }

    async fn send_messages(&self, messages: Vec<SendMessage>, _: i32) -> Vec<ItemResult<Sent>> {
        tokio::task::yield_now().await;
        let send = |message: SendMessage| {
            let partition = self.led(&message.topic, message.partition)?;
            let record = record_of(message.batch);
            let mut state = self.state.lock();
            state.taken_by.push(self.id);
            let (offset, handle) = match message.delivery {
                Delivery::Now => (Some(state.store(partition, record)), None),
                Delivery::At(_) | Delivery::OnCommit { .. } => (None, Some(state.hide(partition, record))),
            };
            let lease = (!self.leads.load(Ordering::Relaxed))
                .then_some(AckLease { broker_group: BrokerGroupId(1), term: Term(1) });
            Ok(Sent { partition, offset, handle, lease })
        };
        let results = messages.into_iter().map(send).collect();
        self.changed.notify_waiters();
        results
    }

    async fn receive(&self, request: Receive) -> ItemResult<Vec<DeliveredMessage>> {
        self.state.lock().received.push((self.id, request.clone()));
        if let Filter::Sql(condition) = &request.filter
            && condition.contains('?')
        {
            return Err(BrokerError::InvalidRequest(format!("{condition}: cannot be parsed")));
        }
        let view = self.view(&request.topic)?;
        let wait = async {
            loop {
                let changed = self.changed.notified();
                let wanted = view.partitions.iter().map(|partition| partition.partition as i32);
                let wanted = wanted.filter(|partition| request.partition.is_none_or(|only| only == *partition));
                let led: Vec<ItemResult<TopicPartition>> =
                    wanted.map(|partition| self.led(&request.topic, partition)).collect();
                if led.iter().all(Result::is_err) {
                    return led.into_iter().next().expect("a partition").map(|_| Vec::new());
                }
                let delivered = self.deliver(led.into_iter().flatten(), request.count_max as usize);
                if !delivered.is_empty() {
                    return Ok(delivered);
                }
                changed.await;
            }
        };
        let limit = Duration::from_millis(request.wait_ms_max);
        tokio::time::timeout(limit, wait).await.unwrap_or_else(|_| Ok(Vec::new()))
    }

    async fn pull(&self, request: Pull) -> ItemResult<Pulled> {
        let partition = self.led(&request.topic, request.partition)?;
        let state = self.state.lock();
        let stored = state.stored.get(&partition).map(Vec::as_slice).unwrap_or_default();
        let end = stored.last().map_or(0, |(record, _)| record.offset.0 + 1);
        if request.offset.0 > end {
            return Err(BrokerError::OffsetOutOfRange { found: request.offset.0, start: 0, end_inclusive: end });
        }
        let from = stored.iter().map(|(record, _)| record.clone()).filter(|record| record.offset >= request.offset);
        let records: Vec<_> = from.take(request.count_max as usize).collect();
        let next_offset = records.last().map_or(request.offset, |last| Offset(last.offset.0 + 1));
        Ok(Pulled { partition, records, next_offset })
    }

    async fn acknowledge(&self, _: Consumer, receipts: Vec<Receipt>) -> Vec<ItemResult<()>> {
        let acknowledge = |receipt: Receipt| {
            self.take(receipt)?;
            self.state.lock().acknowledged.push(receipt);
            Ok(())
        };
        receipts.into_iter().map(acknowledge).collect()
    }

    async fn change_invisible(&self, _: Consumer, receipt: Receipt, ms: u64) -> ItemResult<Receipt> {
        let (_, record, attempt) = self.take(receipt)?;
        let mut state = self.state.lock();
        if ms == 0 {
            state.stored.entry(receipt.partition).or_default().push((record, attempt));
            drop(state);
            self.changed.notify_waiters();
            return Ok(receipt);
        }
        let receipt = Receipt { delivery: DeliveryId(state.next() as u128), ..receipt };
        state.delivered.push((receipt, record, attempt));
        Ok(receipt)
    }

    async fn dead_letter(&self, _: Consumer, receipt: Receipt) -> ItemResult<()> {
        self.take(receipt).map(|_| ())
    }

    async fn renew(&self, client_id: &str, connection: ConnectionId) {
        let mut state = self.state.lock();
        state.renewed.push((self.id, client_id.to_owned()));
        state.renewed_over.push(connection);
    }

    async fn end_transaction(&self, handle: HiddenHandle, resolution: Resolution) -> ItemResult<()> {
        let record = self.unhide(handle)?;
        let mut state = self.state.lock();
        state.ended.push((handle, resolution));
        if resolution == Resolution::Commit {
            state.store(handle.partition, record);
        }
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn orphans(&self) -> Vec<Orphan> {
        let all = std::mem::take(&mut self.state.lock().orphans);
        let is_own = |orphan: &Orphan| self.leads(orphan.handle.partition).is_ok();
        let (own, others): (Vec<Orphan>, Vec<Orphan>) = all.into_iter().partition(is_own);
        self.state.lock().orphans.extend(others);
        own
    }

    async fn asked(&self, orphans: Vec<(HiddenHandle, u32)>) {
        self.state.lock().asked.extend(orphans.into_iter().map(|(handle, _)| (self.id, handle)));
    }

    async fn nodes_with_publishers(&self, topic: &str) -> Vec<NodeId> {
        let nodes: Vec<NodeId> = self.state.lock().questions.keys().copied().filter(|node| *node != self.id).collect();
        let mut found = Vec::new();
        for node in nodes {
            if self.ask_at(node, topic, Bytes::new()).await {
                found.push(node);
            }
        }
        found
    }

    async fn ask_at(&self, node: NodeId, topic: &str, question: Bytes) -> bool {
        let sender = self.state.lock().questions.get(&node).cloned();
        let Some(sender) = sender else { return false };
        let (asked, answer) = oneshot::channel();
        let question = Question { topic: topic.to_owned(), question, asked };
        sender.send(question).await.is_ok() && answer.await.unwrap_or(false)
    }

    fn questions(&self) -> mpsc::Receiver<Question> {
        let (sender, receiver) = mpsc::channel(4);
        self.state.lock().questions.insert(self.id, sender);
        receiver
    }

    async fn recall(&self, handle: HiddenHandle) -> ItemResult<()> {
        self.unhide(handle).map(|_| ())
    }
}

impl FakeBroker {
    fn deliver(&self, partitions: impl Iterator<Item = TopicPartition>, count_max: usize) -> Vec<DeliveredMessage> {
        let mut state = self.state.lock();
        let mut delivered = Vec::new();
        for partition in partitions {
            let Some(stored) = state.stored.get_mut(&partition) else { continue };
            let count = stored.len().min(count_max - delivered.len());
            for (record, attempts) in stored.drain(..count).collect::<Vec<_>>() {
                let delivery = DeliveryId(state.next() as u128);
                let receipt = Receipt { partition, offset: record.offset, delivery };
                state.delivered.push((receipt, record.clone(), attempts + 1));
                delivered.push(DeliveredMessage { partition, record, attempt: attempts + 1, receipt });
            }
        }
        delivered
    }

    fn take(&self, receipt: Receipt) -> ItemResult<(Receipt, duolog_record::Record, u32)> {
        self.leads(receipt.partition)?;
        let mut state = self.state.lock();
        let found = state.delivered.iter().position(|(known, ..)| *known == receipt);
        let found =
            found.ok_or_else(|| BrokerError::InvalidReceipt("the receipt is used or has expired".to_owned()))?;
        Ok(state.delivered.swap_remove(found))
    }

    fn unhide(&self, handle: HiddenHandle) -> ItemResult<duolog_record::Record> {
        self.leads(handle.partition)?;
        let mut state = self.state.lock();
        let found = state.hidden.iter().position(|(known, _)| *known == handle);
        let found = found.ok_or_else(|| BrokerError::InvalidReceipt("there is no such message".to_owned()))?;
        Ok(state.hidden.swap_remove(found).1)
    }
}
