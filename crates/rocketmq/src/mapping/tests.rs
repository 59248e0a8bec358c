//! Messages through records and back, and records of Kafka clients.

use bytes::Bytes;
use duolog_record::{Record, RecordBatch, RecordHeader};
use duolog_types::{Offset, TimestampMs, TopicId, TopicPartition};

use super::*;
use crate::check::Kind;
use crate::proto::{DigestType, Encoding, Message, Resource, SystemProperties};
use crate::time::to_timestamp;

const PARTITION: TopicPartition = TopicPartition { topic: TopicId([9; 16]), partition: 2 };
const STAMP: Stamp<'_> = Stamp { host: "here:8081", now: TimestampMs(2_000), is_log_append_time: false };

fn topic() -> Resource {
    Resource { resource_namespace: String::new(), name: "t".to_owned() }
}

fn sent() -> Message {
    Message {
        topic: Some(topic()),
        user_properties: [("color".to_owned(), "red".to_owned())].into(),
        system_properties: Some(SystemProperties {
            tag: Some("tag".to_owned()),
            keys: vec!["k1".to_owned(), "k2".to_owned()],
            message_id: "01ABC".to_owned(),
            born_timestamp: Some(to_timestamp(TimestampMs(1_000))),
            born_host: "there".to_owned(),
            trace_context: Some("trace".to_owned()),
            ..SystemProperties::default()
        }),
        body: "body".into(),
    }
}

fn record(batch: Bytes) -> Record {
    let batch = RecordBatch::parse(batch).unwrap();
    let records: Vec<Record> = batch.records(1 << 20).unwrap().map(Result::unwrap).collect();
    assert_eq!(records.len(), 1);
    records.into_iter().next().unwrap()
}

fn back(record: &Record, is_fifo: bool) -> (Message, SystemProperties) {
    let mut message = to_message(record, Place { topic: &topic(), partition: PARTITION, is_fifo, host: "other" });
    let system = message.system_properties.take().unwrap();
    (message, system)
}

fn text(bytes: Option<&Bytes>) -> Option<&str> {
    bytes.map(|bytes| std::str::from_utf8(bytes).unwrap())
}

#[test]
fn a_message_comes_back_as_it_was_sent() {
    let record = record(to_batch(&sent(), Kind::Normal, STAMP).unwrap());
    assert_eq!((text(record.key.as_ref()), text(record.value.as_ref())), (Some("k1"), Some("body")));
    assert_eq!(record.timestamp, TimestampMs(1_000));
    let (message, system) = back(&record, false);
    let told = sent().system_properties.unwrap();
    assert_eq!((message.user_properties, message.body), (sent().user_properties, sent().body));
    assert_eq!((&system.tag, &system.keys, &system.message_id), (&told.tag, &told.keys, &told.message_id));
    assert_eq!((&system.born_timestamp, &system.born_host), (&told.born_timestamp, &told.born_host));
    assert_eq!((&system.trace_context, system.message_group.as_ref()), (&told.trace_context, None));
    assert_eq!(system.store_timestamp, Some(to_timestamp(STAMP.now)));
    assert_eq!((system.store_host.as_str(), system.queue_id, system.queue_offset), (STAMP.host, 2, Some(0)));
    assert_eq!((system.message_type(), system.body_encoding()), (Kind::Normal, Encoding::Identity));
    assert_eq!(system.body_digest.unwrap().r#type(), DigestType::Md5);
}

#[test]
fn every_kind_keeps_what_makes_it() {
    let mut message = sent();
    let mut told = message.system_properties.take().unwrap();
    told.message_group = Some("group".to_owned());
    told.set_body_encoding(Encoding::Gzip);
    let fifo = Message { system_properties: Some(told.clone()), ..message.clone() };
    let stored = record(to_batch(&fifo, Kind::Fifo, STAMP).unwrap());
    assert_eq!(text(stored.key.as_ref()), Some("group"));
    let (_, system) = back(&stored, false);
    assert_eq!((system.message_group.as_deref(), system.message_type()), (Some("group"), Kind::Fifo));
    assert_eq!((system.keys.len(), system.body_encoding()), (2, Encoding::Gzip));

    let at = to_timestamp(TimestampMs(77_123));
    told = SystemProperties { message_group: None, delivery_timestamp: Some(at), ..told };
    let delayed = Message { system_properties: Some(told), ..message.clone() };
    let (_, system) = back(&record(to_batch(&delayed, Kind::Delay, STAMP).unwrap()), false);
    assert_eq!((system.delivery_timestamp, system.message_type()), (Some(at), Kind::Delay));

    told = SystemProperties { priority: Some(7), ..sent().system_properties.unwrap() };
    let urgent = Message { system_properties: Some(told), ..message.clone() };
    let (_, system) = back(&record(to_batch(&urgent, Kind::Priority, STAMP).unwrap()), false);
    assert_eq!((system.priority, system.message_type()), (Some(7), Kind::Priority));

    let (_, system) = back(&record(to_batch(&sent(), Kind::Transaction, STAMP).unwrap()), false);
    assert_eq!(system.message_type(), Kind::Transaction);
}

#[test]
fn the_leaders_clock_does_not_hide_when_a_message_was_born() {
    let stamp = Stamp { is_log_append_time: true, ..STAMP };
    let stored = record(to_batch(&sent(), Kind::Normal, stamp).unwrap());
    let (_, system) = back(&Record { timestamp: TimestampMs(5_000), ..stored }, false);
    assert_eq!(system.born_timestamp, Some(to_timestamp(TimestampMs(1_000))));
}

fn of_kafka(key: Option<&'static str>, value: Option<&'static str>, headers: &[(&str, Option<&[u8]>)]) -> Record {
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    let header = |(name, value): &(&str, Option<&[u8]>)| RecordHeader {
        key: Bytes::copy_from_slice(name.as_bytes()),
        value: value.map(Bytes::copy_from_slice),
    };
    Record {
        offset: Offset(41),
        timestamp: TimestampMs(3_000),
        key: key.map(bytes),
        value: value.map(bytes),
        headers: headers.iter().map(header).collect(),
    }
}

#[test]
fn a_kafka_record_becomes_a_message() {
    let headers: &[(&str, Option<&[u8]>)] =
        &[("a", Some(b"old")), ("a", Some(b"new")), ("none", None), ("raw", Some(&[0xff])), ("TAGS", Some(b"tag"))];
    let (message, system) = back(&of_kafka(Some("key"), Some("value"), headers), false);
    let expected = [("a", "new"), ("none", ""), ("raw.base64", "/w==")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(message.user_properties, expected.into());
    assert_eq!((system.tag.as_deref(), system.keys.as_slice()), (Some("tag"), &["key".to_owned()][..]));
    assert_eq!(system.born_timestamp, Some(to_timestamp(TimestampMs(3_000))));
    assert_eq!((system.store_host.as_str(), system.message_type()), ("other", Kind::Normal));
    assert_eq!((system.message_id.len(), &system.message_id[..2]), (34, "01"));
}

#[test]
fn the_made_id_is_always_the_same_and_never_that_of_another() {
    let first = back(&of_kafka(None, Some("a"), &[]), false).1.message_id;
    let again = back(&of_kafka(Some("k"), Some("b"), &[]), true).1.message_id;
    let next = back(&Record { offset: Offset(42), ..of_kafka(None, Some("a"), &[]) }, false).1.message_id;
    assert_eq!(first, again);
    assert_ne!(first, next);
}

#[test]
fn in_fifo_topics_every_key_is_a_message_group() {
    let (_, system) = back(&of_kafka(Some("key"), Some("value"), &[]), true);
    assert_eq!((system.message_group.as_deref(), system.message_type()), (Some("key"), Kind::Fifo));
    assert!(system.keys.is_empty());
    let (message, system) = back(&of_kafka(None, None, &[]), true);
    assert_eq!((message.body.len(), system.message_group, system.keys.len()), (0, None, 0));
}

#[test]
fn names_of_the_broker_are_no_user_properties() {
    for name in ["TAGS", "KEYS", "UNIQ_KEY", "__FIFO", "__TYPE", "duolog.deliver-at", "duolog.x"] {
        assert!(is_reserved(name), "{name}");
    }
    for name in ["tags", "KEY", "color", "__TypeId__", "duolog"] {
        assert!(!is_reserved(name), "{name}");
    }
}
