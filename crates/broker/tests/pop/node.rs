//! Messages of a topic with two partitions, of which the first is used.

use duolog_broker::BrokerError;
use duolog_broker::api::{GroupId, TopicRef};
use duolog_broker::message_api::{
    Consumer, DeliveredMessage, Delivery, Filter, MessageApi, Receipt, Receive, SendMessage,
};
use duolog_record::{BatchBuilder, RecordHeader};
use duolog_types::TimestampMs;

use crate::common::Node;

/// Longer than any test.
pub const HOUR_MS: u64 = 3_600_000;

pub fn topic() -> TopicRef {
    TopicRef::Name("t".to_owned())
}

pub fn group() -> GroupId {
    GroupId("g".to_owned())
}

pub fn consumer() -> Consumer {
    Consumer { group: group(), client_id: "c".to_owned() }
}

pub fn request() -> Receive {
    Receive {
        consumer: consumer(),
        topic: topic(),
        partition: None,
        count_max: 16,
        filter: Filter::All,
        invisible_ms: HOUR_MS,
        auto_renew: false,
        connection: None,
        attempt_id: None,
        attempts_max: 17,
        wait_ms_max: 0,
    }
}

impl Node {
    /// Sends a message to partition 0; the key is its message group.
    pub fn send(&self, value: &str, key: Option<&str>, headers: &[(&str, &str)]) {
        self.send_at(TimestampMs(1), value, key, headers);
    }

    pub fn send_at(&self, born: TimestampMs, value: &str, key: Option<&str>, headers: &[(&str, &str)]) {
        self.send_to(0, born, value, key, headers);
    }

    pub fn send_to(&self, partition: i32, born: TimestampMs, value: &str, key: Option<&str>, headers: &[(&str, &str)]) {
        let headers: Vec<RecordHeader> = headers
            .iter()
            .map(|(key, value)| RecordHeader { key: key.to_string().into(), value: Some(value.to_string().into()) })
            .collect();
        let mut builder = BatchBuilder::new();
        let key = key.map(str::as_bytes);
        builder.push_with_headers(born, key, Some(value.as_bytes()), &headers).unwrap();
        let batch = builder.build().unwrap().into_bytes();
        let message = SendMessage { topic: topic(), partition, batch, delivery: Delivery::Now };
        let sent = self.runtime.block_on(self.broker.send_messages(vec![message], 30_000));
        assert!(sent[0].is_ok(), "{sent:?}");
    }

    pub fn receive_with(&self, change: impl FnOnce(&mut Receive)) -> Result<Vec<DeliveredMessage>, BrokerError> {
        let mut request = request();
        change(&mut request);
        self.runtime.block_on(self.broker.receive(request))
    }

    pub fn receive(&self, count_max: u32, invisible_ms: u64) -> Vec<DeliveredMessage> {
        self.receive_with(|request| (request.count_max, request.invisible_ms) = (count_max, invisible_ms)).unwrap()
    }

    pub fn acknowledge(&self, receipt: Receipt) -> Result<(), BrokerError> {
        self.runtime.block_on(self.broker.acknowledge(consumer(), vec![receipt])).remove(0)
    }
}

pub fn values(messages: &[DeliveredMessage]) -> Vec<&str> {
    messages.iter().map(|message| std::str::from_utf8(message.record.value.as_deref().unwrap()).unwrap()).collect()
}
