//! What a dead letter is made of: it is kept from the day it became one, tells of its message, and is stored whatever its size.

use std::time::{SystemTime, UNIX_EPOCH};

use duolog_broker::api::TopicRef;
use duolog_broker::message_api::{BORN_TIME_HEADER, DELIVER_AT_HEADER, DeliveredMessage, MessageApi};
use duolog_types::TimestampMs;

use crate::common::Node;
use crate::node::{HOUR_MS, consumer};

/// The only message of the topic is given up; gives its dead letter.
fn bury(node: &Node) -> DeliveredMessage {
    let out = node.receive(1, HOUR_MS);
    node.runtime.block_on(node.broker.dead_letter(consumer(), out[0].receipt)).unwrap();
    let mut letters = node.receive_with(|request| request.topic = TopicRef::Name("%DLQ%g".to_owned())).unwrap();
    assert_eq!(letters.len(), 1);
    letters.remove(0)
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Of a message that is older than the seven days for which its letter is kept.
#[test]
fn a_dead_letter_is_as_old_as_its_burial_and_tells_when_its_message_was_made() {
    for (headers, born) in [(&[][..], "1"), (&[(BORN_TIME_HEADER, "5")], "5")] {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(dir.path());
        node.create_topic("t", &[]);
        node.send_at(TimestampMs(1), "old", None, headers);
        let before = now_ms();
        let letter = bury(&node).record;
        assert!(letter.timestamp.0 >= before, "{:?} is before {before}", letter.timestamp);
        let told = letter.headers.iter().filter(|header| header.key == BORN_TIME_HEADER.as_bytes());
        let told: Vec<&[u8]> = told.map(|header| header.value.as_deref().unwrap()).collect();
        assert_eq!(told, [born.as_bytes()]);
        node.stop();
    }
}

/// Larger than the default of its topic, 1 MiB; with a header that is no time, where its topic takes delayed messages.
#[test]
fn a_dead_letter_may_be_what_its_topic_takes_of_no_producer() {
    let large = "x".repeat(1_500_000);
    for (letters, value, headers) in [
        (&[][..], large.as_str(), &[][..]),
        (&[("message.type", "MIXED")], "a", &[(DELIVER_AT_HEADER, "tomorrow")]),
        (&[("message.timestamp.after.max.ms", "0"), ("message.timestamp.before.max.ms", "0")], "a", &[]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start(dir.path());
        node.create_topic("t", &[("max.message.bytes", "2097152")]);
        node.create_topic("%DLQ%g", letters);
        node.send(value, None, headers);
        assert_eq!(bury(&node).record.value.as_deref(), Some(value.as_bytes()), "{letters:?}");
        assert!(node.receive(1, HOUR_MS).is_empty(), "it is settled");
        node.stop();
    }
}
