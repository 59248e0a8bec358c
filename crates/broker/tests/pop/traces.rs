//! What became of a message is noted, where its topic wants that.

use std::time::Instant;

use duolog_broker::api::{GroupId, TopicRef};
use duolog_broker::message_api::{DeliveredMessage, MessageApi};

use crate::common::{Node, PATIENCE};
use crate::node::{HOUR_MS, consumer, values};

/// Key and headers of a trace, each as text.
fn words(trace: &DeliveredMessage) -> (String, Vec<(String, String)>) {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().to_owned();
    let headers = trace.record.headers.iter().map(|h| (text(&h.key), text(h.value.as_deref().unwrap()))).collect();
    (text(trace.record.key.as_deref().unwrap()), headers)
}

/// The next traces, waiting for so many.
fn next(node: &Node, count: usize) -> Vec<String> {
    let begun = Instant::now();
    let mut found = Vec::new();
    while found.len() < count {
        assert!(begun.elapsed() < PATIENCE, "{found:?}");
        let more = node.receive_with(|request| {
            request.topic = TopicRef::Name("RMQ_SYS_TRACE_TOPIC".to_owned());
            request.consumer.group = GroupId("auditor".to_owned());
            request.wait_ms_max = 1_000;
        });
        // It is made with the first event.
        found.extend(more.unwrap_or_default().iter().map(|trace| {
            let (key, headers) = words(trace);
            let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{key}: {}", headers.join(" "))
        }));
    }
    found.sort();
    found
}

#[test]
fn deliveries_acknowledgements_and_dead_letters_are_noted() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[("duolog.trace", "true")]);
    node.send("a", None, &[]);
    node.send("b", None, &[]);
    let got = node.receive(16, HOUR_MS);
    assert_eq!(values(&got), ["a", "b"]);
    node.acknowledge(got[0].receipt).unwrap();
    node.acknowledge(got[0].receipt).unwrap_err();
    node.runtime.block_on(node.broker.dead_letter(consumer(), got[1].receipt)).unwrap();
    let expected = [
        "t/0/0: event=acknowledged group=g client=c",
        "t/0/0: event=delivered group=g client=c attempt=1",
        "t/0/1: event=dead-letter group=g",
        "t/0/1: event=delivered group=g client=c attempt=1",
    ];
    assert_eq!(next(&node, 4), expected);
    node.stop();
}

#[test]
fn nothing_is_noted_of_other_topics() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    node.send("a", None, &[]);
    node.acknowledge(node.receive(1, HOUR_MS)[0].receipt).unwrap();
    let traces = node.receive_with(|request| {
        request.topic = TopicRef::Name("RMQ_SYS_TRACE_TOPIC".to_owned());
        request.wait_ms_max = 300;
    });
    assert!(traces.is_err(), "{traces:?}");
    node.stop();
}
