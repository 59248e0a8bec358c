//! Values as messages. Everything about a message is a function of its value, so that whatever changes is noticed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use duolog_rocketmq::proto::{Digest, DigestType, Encoding, Message, MessageType, Resource, SystemProperties};
use prost_types::Timestamp;

use crate::history::messages::{End, Kind, tag};
use crate::history::{Value, fnv1a};

/// The user property that every message has.
const PROPERTY: &str = "sequence";

/// The message of a value, without what its kind asks for.
pub fn message(topic: &str, value: Value) -> Message {
    let (sequence, tag) = (sequence(value), tag(value));
    let system = SystemProperties {
        tag: Some(tag),
        keys: vec![key(value)],
        message_id: id(value),
        body_encoding: Encoding::Identity.into(),
        message_type: MessageType::Normal.into(),
        born_timestamp: Some(timestamp(SystemTime::now())),
        ..SystemProperties::default()
    };
    Message {
        topic: Some(resource(topic)),
        user_properties: [(PROPERTY.to_string(), sequence.to_string())].into(),
        system_properties: Some(system),
        body: value.payload().into(),
    }
}

/// The same message as one that the broker must refuse: its digest is another body's.
pub fn spoil(mut message: Message) -> Message {
    let digest = Digest { r#type: DigestType::Sha1.into(), checksum: "0".repeat(40) };
    message.system_properties.get_or_insert_default().body_digest = Some(digest);
    message
}

/// The value of a delivered message. One that is not whole is foreign.
pub fn value(message: &Message) -> Value {
    let value = Value::of_payload(&message.body);
    let Value::Sent { .. } = value else { return value };
    let system = message.system_properties.clone().unwrap_or_default();
    let is_whole = system.message_id == id(value)
        && system.tag == Some(tag(value))
        && system.keys == [key(value)]
        && message.user_properties.get(PROPERTY) == Some(&sequence(value).to_string());
    if is_whole { value } else { foreign(&message.body) }
}

/// The value of a record that Kafka read. `header` gives a header's bytes.
pub fn value_of_record<'a>(payload: &[u8], header: impl Fn(&str) -> Option<&'a [u8]>) -> Value {
    let value = Value::of_payload(payload);
    let Value::Sent { .. } = value else { return value };
    let is_whole = header("UNIQ_KEY") == Some(id(value).as_bytes())
        && header("TAGS") == Some(tag(value).as_bytes())
        && header(PROPERTY) == Some(sequence(value).to_string().as_bytes());
    if is_whole { value } else { foreign(payload) }
}

/// A number below 100 that is always the same for a value and a question.
pub fn percent(value: Value, question: &str) -> u64 {
    fnv1a(format!("{question} of {}", id(value)).as_bytes()) / 7 % 100
}

/// How the transaction of a value ends, and whether its producer waits until it is asked.
pub fn decided(value: Value) -> (End, bool) {
    let end = if percent(value, "end") < 60 { End::Commit } else { End::RollBack };
    (end, percent(value, "asked") < 30)
}

/// Whether a letter is never acknowledged.
pub fn is_doomed(value: Value) -> bool {
    percent(value, "doomed") < 50
}

pub fn kind_of(kind: Kind) -> MessageType {
    match kind {
        Kind::Normal | Kind::Letters | Kind::Filtered => MessageType::Normal,
        Kind::Fifo => MessageType::Fifo,
        Kind::Delay => MessageType::Delay,
        Kind::Transaction => MessageType::Transaction,
    }
}

pub fn resource(name: &str) -> Resource {
    Resource { resource_namespace: String::new(), name: name.to_string() }
}

pub fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() as i32 }
}

pub fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: duration.as_secs() as i64, nanos: duration.subsec_nanos() as i32 }
}

fn id(value: Value) -> String {
    let Value::Sent { producer, sequence } = value else { return String::new() };
    format!("01{producer:08X}{sequence:024X}")
}

fn key(value: Value) -> String {
    format!("key-{}", sequence(value))
}

fn sequence(value: Value) -> u64 {
    match value {
        Value::Sent { sequence, .. } => sequence,
        Value::Foreign { .. } => 0,
    }
}

/// What a body is called whose message is not whole.
fn foreign(body: &[u8]) -> Value {
    Value::Foreign { digest: fnv1a(body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_value_and_a_changed_one_does_not() {
        let sent = Value::Sent { producer: 20_001, sequence: 17 };
        let good = message("t", sent);
        assert_eq!(value(&good), sent);
        let change = |change: fn(&mut SystemProperties)| {
            let mut message = good.clone();
            change(message.system_properties.as_mut().expect("a message of ours"));
            message
        };
        for bad in [
            change(|system| system.message_id.push('0')),
            change(|system| system.tag = None),
            change(|system| system.keys.clear()),
            Message { user_properties: Default::default(), ..good.clone() },
            Message { body: good.body.slice(1..), ..good.clone() },
        ] {
            assert!(matches!(value(&bad), Value::Foreign { .. }), "{bad:?}");
        }
    }

    #[test]
    fn decisions_are_spread() {
        let values = (0..1_000).map(|sequence| Value::Sent { producer: 20_000, sequence });
        let doomed = values.filter(|value| is_doomed(*value)).count();
        assert!((400..600).contains(&doomed), "{doomed} of 1000");
    }
}
