//! Single messages for consumer groups on a real node, over stops and starts.

#[path = "../common/mod.rs"]
mod common;
mod consumer_groups;
mod dead_letters;
mod in_flight;
mod node;
mod traces;
mod unreadable;

use std::time::{Duration, Instant};

use common::{Node, PATIENCE, copy_dir};
use duolog_broker::BrokerError;
use duolog_broker::api::{BrokerApi, Fetch, FetchPartition, GroupId, OffsetQuery, TopicRef};
use duolog_broker::message_api::{ConnectionId, Filter, MessageApi, Receive, TAG_HEADER};
use duolog_types::TimestampMs;
use node::{HOUR_MS, consumer, request, topic, values};

fn is_bad_receipt(result: Result<(), BrokerError>) -> bool {
    matches!(result, Err(BrokerError::InvalidReceipt(_)))
}

#[test]
fn a_message_is_out_until_its_time_is_over_or_it_is_acknowledged_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    for value in ["a", "b", "c"] {
        node.send(value, None, &[]);
    }
    let first = node.receive(1, HOUR_MS);
    assert_eq!(values(&first), ["a"]);
    let short = node.receive(1, 300);
    assert_eq!((values(&short), short[0].attempt), (vec!["b"], 1));
    node.stop();

    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    let node = Node::start(copy.path());
    let begun = Instant::now();
    let again = node.receive_with(|request| request.wait_ms_max = 5_000).unwrap();
    // Nobody has taken c yet; b comes as soon as its time is over, perhaps only now.
    assert!(values(&again).contains(&"c"), "{again:?}");
    let mut seen = values(&again).len();
    while seen < 2 {
        assert!(begun.elapsed() < PATIENCE);
        let late = node.receive_with(|request| request.wait_ms_max = 5_000).unwrap();
        assert!(late.iter().all(|message| (message.record.value.as_deref(), message.attempt) == (Some(b"b"), 2)));
        seen += late.len();
    }
    assert!(is_bad_receipt(node.acknowledge(short[0].receipt)), "it was delivered again since");
    node.acknowledge(first[0].receipt).unwrap();
    assert!(is_bad_receipt(node.acknowledge(first[0].receipt)), "it was acknowledged");
    assert!(node.receive(16, HOUR_MS).is_empty());
    // Another group has its own view.
    let other = node.receive_with(|request| request.consumer.group = GroupId("other".to_owned())).unwrap();
    assert_eq!(values(&other), ["a", "b", "c"]);
    node.stop();
}

#[test]
fn a_consumer_that_waits_gets_what_comes_and_what_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| node.receive_with(|request| request.wait_ms_max = 30_000).unwrap());
        std::thread::sleep(Duration::from_millis(100));
        node.send("a", None, &[]);
        let got = waiting.join().unwrap();
        assert_eq!(values(&got), ["a"]);
        let waiting = scope.spawn(|| node.receive_with(|request| request.wait_ms_max = 30_000).unwrap());
        std::thread::sleep(Duration::from_millis(100));
        let given_back = node.broker.change_invisible(consumer(), got[0].receipt, 0);
        let receipt = node.runtime.block_on(given_back).unwrap();
        let again = waiting.join().unwrap();
        assert_eq!((values(&again), again[0].attempt), (vec!["a"], 2));
        assert!(is_bad_receipt(node.acknowledge(receipt)));
        node.acknowledge(again[0].receipt).unwrap();
    });
    node.stop();
}

/// A consumer that is gone before it has the answer.
fn ask_and_leave(node: &Node, change: impl Fn(&mut Receive)) {
    let mut asked = request();
    change(&mut asked);
    node.runtime.block_on(async {
        tokio::select! {
            biased;
            got = node.broker.receive(asked) => panic!("committed before the first wait: {got:?}"),
            () = std::future::ready(()) => {}
        }
    });
}

#[test]
fn what_a_consumer_did_not_get_because_it_left_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    node.send("a", None, &[]);
    ask_and_leave(&node, |request| request.auto_renew = true);
    let again = node.receive_with(|request| request.wait_ms_max = 30_000).unwrap();
    assert_eq!((values(&again), again[0].attempt), (vec!["a"], 2));
    node.stop();
}

/// A request that was on its way for long comes after its repetition was answered, and its client is gone: whoever has the answer keeps it.
#[test]
fn a_late_request_takes_nothing_from_the_answer_to_its_repetition() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    node.send("a", None, &[]);
    let by_attempt = |request: &mut Receive| {
        (request.attempt_id, request.invisible_ms) = (Some("attempt".to_owned()), HOUR_MS);
    };
    assert_eq!(values(&node.receive_with(by_attempt).unwrap()), ["a"]);
    ask_and_leave(&node, by_attempt);
    assert!(node.receive_with(|request| request.wait_ms_max = 500).unwrap().is_empty(), "it is out for its time");
    node.stop();
}

#[test]
fn a_consumer_that_lives_keeps_its_messages() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    node.send("a", None, &[]);
    let over = |connection: u64| {
        move |request: &mut Receive| {
            (request.auto_renew, request.invisible_ms) = (true, 200);
            request.connection = Some(ConnectionId(connection));
        }
    };
    let lost = node.receive_with(over(1)).unwrap();
    node.runtime.block_on(node.broker.renew("c", ConnectionId(2)));
    std::thread::sleep(Duration::from_millis(300));
    let kept = node.receive_with(over(2)).unwrap();
    assert_eq!((values(&kept), kept[0].attempt), (vec!["a"], 2), "nothing came over the first connection since");
    node.runtime.block_on(node.broker.renew("c", ConnectionId(2)));
    std::thread::sleep(Duration::from_millis(300));
    assert!(node.receive(1, 1).is_empty());
    assert!(is_bad_receipt(node.acknowledge(lost[0].receipt)));
    node.acknowledge(kept[0].receipt).unwrap();
    node.stop();
}

#[test]
fn a_message_group_waits_for_its_first_message_and_the_others_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[("message.type", "FIFO")]);
    for (value, key) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        node.send(value, Some(key), &[]);
    }
    let first = node.receive(1, HOUR_MS);
    assert_eq!(values(&first), ["a1"]);
    let by_attempt = |request: &mut Receive| request.attempt_id = Some("attempt".to_owned());
    let others = node.receive_with(by_attempt).unwrap();
    assert_eq!(values(&others), ["b1"]);
    let again = node.receive_with(by_attempt).unwrap();
    assert_eq!((values(&again), again[0].attempt), (vec!["b1"], 1), "a retry gets the lost answer");
    assert!(is_bad_receipt(node.acknowledge(others[0].receipt)), "and the lost answer's receipts are worth nothing");
    // Whoever finds that the lost answer was not taken gives it back: that must not take it from the retry.
    let given_back = node.runtime.block_on(node.broker.change_invisible(consumer(), others[0].receipt, 0));
    assert!(is_bad_receipt(given_back.map(drop)));
    let given_back =
        node.runtime.block_on(node.broker.change_invisible(consumer(), again[0].receipt, HOUR_MS)).unwrap();
    assert!(node.receive_with(by_attempt).unwrap().is_empty(), "it was given back, so no retry gets it");
    node.acknowledge(given_back).unwrap();
    node.acknowledge(first[0].receipt).unwrap();
    assert_eq!(values(&node.receive(16, HOUR_MS)), ["a2"]);
    node.stop();
}

#[test]
fn what_was_tried_too_often_becomes_a_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    node.send("poison", Some("key"), &[("colour", "red")]);
    node.send("refused", None, &[]);
    let refused = {
        let both = node.receive(2, 1);
        assert_eq!(values(&both), ["poison", "refused"]);
        std::thread::sleep(Duration::from_millis(5));
        node.receive(2, HOUR_MS)
    };
    node.runtime.block_on(node.broker.dead_letter(consumer(), refused[1].receipt)).unwrap();
    // Its third delivery would be one too many.
    let receipt = refused[0].receipt;
    node.runtime.block_on(node.broker.change_invisible(consumer(), receipt, 0)).unwrap();
    assert!(node.receive_with(|request| request.attempts_max = 2).unwrap().is_empty());
    let begun = Instant::now();
    let letters = loop {
        let letters = node.receive_with(|request| request.topic = TopicRef::Name("%DLQ%g".to_owned())).unwrap();
        if !letters.is_empty() && values(&letters) != ["refused"] {
            break letters;
        }
        assert!(begun.elapsed() < PATIENCE, "no dead letter");
        std::thread::sleep(Duration::from_millis(10));
    };
    let poison = letters.iter().find(|letter| letter.record.value.as_deref() == Some(b"poison")).unwrap();
    assert_eq!(poison.record.key.as_deref(), Some(&b"key"[..]));
    let headers: Vec<(&[u8], &[u8])> =
        poison.record.headers.iter().map(|header| (&header.key[..], header.value.as_deref().unwrap())).collect();
    assert_eq!(headers[..2], [(&b"colour"[..], &b"red"[..]), (b"DLQ_ORIGIN_TOPIC", b"t")]);
    assert!(node.receive_with(|request| request.attempts_max = 2).unwrap().is_empty());
    node.stop();
}

#[test]
fn a_filter_passes_over_what_it_does_not_want() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    for (value, tag, price) in [("a", "x", "1"), ("b", "y", "20"), ("c", "z", "30")] {
        node.send(value, None, &[(TAG_HEADER, tag), ("price", price)]);
    }
    let by = |name: &str, filter: Filter| {
        let name = name.to_owned();
        node.receive_with(|request| (request.consumer.group, request.filter) = (GroupId(name), filter))
    };
    let tags = by("tags", Filter::Tags(vec!["x".to_owned(), "z".to_owned()])).unwrap();
    assert_eq!(values(&tags), ["a", "c"]);
    let prices = by("sql", Filter::Sql("price > 5 AND TAGS <> 'z'".to_owned())).unwrap();
    assert_eq!(values(&prices), ["b"]);
    let wrong = by("wrong", Filter::Sql("price >".to_owned()));
    assert!(matches!(&wrong, Err(BrokerError::InvalidRequest(text)) if text.contains("found the end")), "{wrong:?}");
    assert!(by("tags", Filter::All).unwrap().is_empty(), "what was passed over is consumed");
    node.stop();
}

#[test]
fn kafka_clients_see_the_same_records() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    node.send("a", None, &[]);
    let end = node.runtime.block_on(node.broker.list_offset(topic(), 0, OffsetQuery::Latest, Default::default()));
    assert_eq!(end.unwrap().offset.0, 1);
    let partition = FetchPartition {
        topic: topic(),
        partition: 0,
        fetch_offset: duolog_types::Offset(0),
        bytes_max: 1 << 20,
        epoch: Default::default(),
        last_fetched_epoch: None,
    };
    let fetch = Fetch { partitions: vec![partition], bytes_min: 1, bytes_max: 1 << 20, wait_ms_max: 1_000 };
    let fetched = node.runtime.block_on(node.broker.fetch(fetch)).remove(0).unwrap();
    assert_eq!(fetched.records.len(), 1);
    node.stop();
}

/// The partition is the priority.
#[test]
fn the_highest_priority_comes_first() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic_of("t", 3, &[("message.type", "PRIORITY")]);
    for (partition, value) in [(0, "low"), (2, "high"), (1, "middle"), (2, "high too")] {
        node.send_to(partition, TimestampMs(1), value, None, &[]);
    }
    let first = node.receive(1, HOUR_MS);
    assert_eq!(values(&first), ["high"]);
    assert_eq!(values(&node.receive(2, HOUR_MS)), ["high too", "middle"]);
    // What comes again keeps its priority.
    node.runtime.block_on(node.broker.change_invisible(consumer(), first[0].receipt, 0)).unwrap();
    assert_eq!(values(&node.receive(9, HOUR_MS)), ["high", "low"]);
    node.stop();
}

/// Of a topic that somebody made before with fewer partitions than there are broker groups, or that is being made.
#[test]
fn dead_letters_find_a_partition_beside() {
    for letters_partitions in [Some(1), None] {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::start_with(dir.path(), |_, options| options.broker_groups = 4);
        node.create_topic_of("t", 3, &[]);
        if let Some(count) = letters_partitions {
            node.create_topic_of("%DLQ%g", count, &[]);
        }
        for partition in 0..3 {
            node.send_to(partition, TimestampMs(1), "poison", None, &[]);
        }
        let out = node.receive(9, HOUR_MS);
        let buried = out.iter().map(|message| node.broker.dead_letter(consumer(), message.receipt));
        let buried = node.runtime.block_on(futures_util::future::join_all(buried));
        assert_eq!(buried, [const { Ok(()) }; 3], "{letters_partitions:?}");
        let letters = node.receive_with(|request| request.topic = TopicRef::Name("%DLQ%g".to_owned())).unwrap();
        assert_eq!(values(&letters), ["poison"; 3]);
        node.stop();
    }
}
