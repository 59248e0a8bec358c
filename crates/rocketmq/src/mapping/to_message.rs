//! A record becomes a message, whoever wrote it.
//!
//! A Kafka record has no message id: it gets one of its own, always the same, from topic, partition and offset. Its headers become
//! user properties; a value that is no UTF-8 becomes base64 under the name with `.base64` behind it, a name that is none is left
//! out. Of headers with the same name the last one counts. Its key is the message group in FIFO topics, else the message's key.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use duolog_record::Record;
use duolog_types::{TimestampMs, TopicPartition};

use super::{
    BORN_HOST_HEADER, BORN_TIME_HEADER, DELIVER_AT_HEADER, ENCODING_HEADER, FIFO_HEADER, KEYS_HEADER, KIND_HEADER,
    MESSAGE_ID_HEADER, PRIORITY_HEADER, STORE_HOST_HEADER, STORE_TIME_HEADER, TAG_HEADER, TRACE_HEADER, is_reserved,
};
use crate::check::Kind;
use crate::digest;
use crate::proto::{Encoding, Message, Resource, SystemProperties};
use crate::time::to_timestamp;

/// Where a record lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The topic as the client names it.
    pub(crate) topic: &'a Resource,
    pub(crate) partition: TopicPartition,
    /// Whether every key is a message group.
    pub(crate) is_fifo: bool,
    /// For records that do not say.
    pub(crate) host: &'a str,
}

/// The message of a record.
pub(crate) fn to_message(record: &Record, place: Place<'_>) -> Message {
    let told = Told::of(record);
    let group = record.key.as_ref().filter(|_| place.is_fifo || told.own.contains_key(FIFO_HEADER));
    let keys = match (told.text(KEYS_HEADER), &record.key) {
        (Some(keys), _) => keys.split(' ').filter(|key| !key.is_empty()).map(str::to_owned).collect(),
        (None, Some(key)) if group.is_none() => text_of(key).into_iter().collect(),
        (None, _) => Vec::new(),
    };
    let kind = told.text(KIND_HEADER).and_then(|name| Kind::from_str_name(&name));
    let encoding = told.text(ENCODING_HEADER).and_then(|name| Encoding::from_str_name(&name));
    let body = record.value.clone().unwrap_or_default();
    let mut system = SystemProperties {
        tag: told.text(TAG_HEADER),
        keys,
        message_id: told.text(MESSAGE_ID_HEADER).unwrap_or_else(|| made_id(place.partition, record)),
        body_digest: Some(digest::of(&body)),
        born_timestamp: Some(to_timestamp(told.time(BORN_TIME_HEADER).unwrap_or(record.timestamp))),
        born_host: told.text(BORN_HOST_HEADER).unwrap_or_default(),
        store_timestamp: Some(to_timestamp(told.time(STORE_TIME_HEADER).unwrap_or(record.timestamp))),
        store_host: told.text(STORE_HOST_HEADER).unwrap_or_else(|| place.host.to_owned()),
        delivery_timestamp: told.time(DELIVER_AT_HEADER).map(to_timestamp),
        queue_id: i32::try_from(place.partition.partition).unwrap_or(i32::MAX),
        queue_offset: Some(record.offset.0),
        message_group: group.map(|group| text_of(group).unwrap_or_else(|| STANDARD.encode(group))),
        priority: told.text(PRIORITY_HEADER).and_then(|priority| priority.parse().ok()),
        trace_context: told.text(TRACE_HEADER),
        ..SystemProperties::default()
    };
    system.set_body_encoding(encoding.unwrap_or(Encoding::Identity));
    system.set_message_type(kind.unwrap_or(match (&system.message_group, &system.delivery_timestamp) {
        (Some(_), _) => Kind::Fifo,
        (None, Some(_)) => Kind::Delay,
        (None, None) => Kind::Normal,
    }));
    Message {
        topic: Some(place.topic.clone()),
        user_properties: told.properties,
        system_properties: Some(system),
        body,
    }
}

/// The headers, sorted.
struct Told<'a> {
    /// Those with a name of ours.
    own: HashMap<&'a str, &'a Bytes>,
    properties: HashMap<String, String>,
}

impl<'a> Told<'a> {
    fn of(record: &'a Record) -> Self {
        static EMPTY: Bytes = Bytes::new();
        let mut told = Self { own: HashMap::new(), properties: HashMap::new() };
        for header in &record.headers {
            let Ok(name) = std::str::from_utf8(&header.key) else { continue };
            let value = header.value.as_ref().unwrap_or(&EMPTY);
            if is_reserved(name) {
                told.own.insert(name, value);
                continue;
            }
            match text_of(value) {
                Some(text) => told.properties.insert(name.to_owned(), text),
                None => told.properties.insert(format!("{name}.base64"), STANDARD.encode(value)),
            };
        }
        told
    }

    fn text(&self, name: &str) -> Option<String> {
        self.own.get(name).and_then(|value| text_of(value)).filter(|text| !text.is_empty())
    }

    fn time(&self, name: &str) -> Option<TimestampMs> {
        self.text(name)?.parse().ok().map(TimestampMs)
    }
}

fn text_of(bytes: &Bytes) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

/// The id of a record that has none: "01" as the ids of clients, and 32 digits.
fn made_id(partition: TopicPartition, record: &Record) -> String {
    let pieces = [&partition.topic.0[..], &partition.partition.to_be_bytes(), &record.offset.0.to_be_bytes()];
    format!("01{}", digest::md5_hex(&pieces))
}
