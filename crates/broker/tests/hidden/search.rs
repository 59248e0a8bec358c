//! Messages are found by id and key without reading the others.

use std::time::Instant;

use duolog_broker::api::{BrokerApi, EpochCheck, NameFilter, NameSearch, OffsetQuery};
use duolog_broker::message_api::{Delivery, KEYS_HEADER, MESSAGE_ID_HEADER, MessageApi, Resolution, SendMessage, Sent};
use duolog_record::{BatchBuilder, RecordHeader};
use duolog_types::Offset;

use crate::node::*;

fn send(node: &Node, id: &str, keys: &str, delivery: Delivery) -> Sent {
    let mut builder = BatchBuilder::new();
    let headers = [RecordHeader::text(MESSAGE_ID_HEADER, id), RecordHeader::text(KEYS_HEADER, keys)];
    builder.push_with_headers(now(), None, Some(id.as_bytes()), &headers).unwrap();
    let batch = builder.build().unwrap().into_bytes();
    let message = SendMessage { topic: topic(), partition: 0, batch, delivery };
    node.runtime.block_on(node.broker.send_messages(vec![message], 30_000)).swap_remove(0).unwrap()
}

/// Every offset below `end` that must be read for the name.
fn candidates(node: &Node, name: &str, end: i64) -> Vec<i64> {
    let name = NameFilter::of_name(name.as_bytes());
    let mut candidates = Vec::new();
    let mut from = 0;
    loop {
        let query = OffsetQuery::MayHold(NameSearch { from: Offset(from), name });
        let found = node.runtime.block_on(node.broker.list_offset(topic(), 0, query, EpochCheck::default()));
        let Offset(found) = found.unwrap().offset;
        assert!(found >= from, "it went back from {from} to {found}");
        if found >= end {
            return candidates;
        }
        candidates.push(found);
        from = found + 1;
    }
}

fn check(node: &Node, end: i64) {
    let begun = Instant::now();
    // Of what is not applied yet nothing is known.
    while !candidates(node, "nobody", end).is_empty() {
        assert!(begun.elapsed() < PATIENCE, "something may always hold what nobody has");
    }
    for (name, offset) in
        [("id-7", 7), ("order-7", 7), ("all-99", 99), ("id-half", 100), ("order-half", 100), ("all-delayed", 101)]
    {
        let found = candidates(node, name, end);
        assert!(found.contains(&offset) && found.len() < 5, "{name}: {found:?}");
    }
    assert!(candidates(node, "delayed", end).len() < 5, "a key is a whole word");
}

#[test]
fn a_search_passes_over_what_holds_nothing_of_the_name() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = Node::start_with_topic(dir.path(), &[("duolog.flush", "async")]);
    let send = |name: &str, delivery| send(&node, &format!("id-{name}"), &format!("order-{name} all-{name}"), delivery);
    for number in 0..100 {
        send(&number.to_string(), Delivery::Now);
    }
    let half = send("half", Delivery::OnCommit { check_at: after(600_000) }).handle.unwrap();
    assert_eq!(node.end(half, Resolution::Commit), Ok(()));
    node.wait_seen(101);
    send("delayed", Delivery::At(after(200)));
    node.wait_seen(102);
    check(&node, 102);
    let node = node.restart(dir.path(), copy.path());
    node.wait_seen(102);
    check(&node, 102);
    node.stop();
}
