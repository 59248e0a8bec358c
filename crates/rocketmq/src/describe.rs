//! Messages as people are shown them, apart from any call.

use std::collections::BTreeMap;

use duolog_broker::message_api::HiddenHandle;
use duolog_record::Record;
use duolog_types::TopicPartition;

use crate::handles;
use crate::mapping::{Place, to_message};
use crate::proto::Resource;
use crate::time::from_timestamp;

/// What RocketMQ's clients say of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageParts {
    /// Its id.
    pub message_id: String,
    /// Its tag.
    pub tag: Option<String>,
    /// Its keys.
    pub keys: Vec<String>,
    /// Its message group.
    pub message_group: Option<String>,
    /// When its producer made it, in milliseconds since the epoch.
    pub born_ms: Option<i64>,
    /// The producer's host, as it says.
    pub born_host: String,
    /// User properties.
    pub properties: BTreeMap<String, String>,
}

/// The parts of a record, whoever wrote it.
#[must_use]
pub fn parts_of(record: &Record, partition: TopicPartition, is_fifo: bool) -> MessageParts {
    let topic = Resource::default();
    let message = to_message(record, Place { topic: &topic, partition, is_fifo, host: "" });
    let system = message.system_properties.unwrap_or_default();
    MessageParts {
        message_id: system.message_id,
        tag: system.tag,
        keys: system.keys,
        message_group: system.message_group,
        born_ms: system.born_timestamp.as_ref().map(|time| from_timestamp(time).0),
        born_host: system.born_host,
        properties: message.user_properties.into_iter().collect(),
    }
}

/// The transaction's id, as its producer knows it.
#[must_use]
pub fn transaction_id(handle: &HiddenHandle, message_id: &str) -> String {
    handles::write_hidden(handle, message_id)
}

/// The half message that a transaction's id names; `None` when it is no such id.
#[must_use]
pub fn read_transaction_id(text: &str) -> Option<HiddenHandle> {
    handles::read_hidden(text).ok().map(|(handle, _)| handle)
}
