//! Half and delayed messages of a real node that stops and comes back.

#[path = "../common/mod.rs"]
mod common;
mod kafka_producers;
mod node;
mod search;

use std::path::Path;
use std::time::{Duration, Instant};

use duolog_broker::BrokerError;
use duolog_broker::api::{BrokerApi, EpochCheck, OffsetQuery, TopicRef};
use duolog_broker::message_api::{Delivery, HiddenHandle, MessageApi, Resolution, STORE_TIME_HEADER, SendMessage};
use duolog_record::{BatchBuilder, RecordHeader};
use duolog_types::{LogIndex, Offset};

use node::*;

fn is_invalid(result: Result<(), BrokerError>) -> bool {
    matches!(result, Err(BrokerError::InvalidReceipt(_)))
}

/// Until an end is applied, another one of its kind counts as the same, and one of another kind may be tried again.
fn wait_invalid(end: impl Fn() -> Result<(), BrokerError>) {
    let begun = Instant::now();
    while !is_invalid(end()) {
        assert!(begun.elapsed() < PATIENCE, "it can end again and again");
    }
}

fn seen(values: &[&str]) -> Vec<(i64, String)> {
    values.iter().zip(0..).map(|(value, offset)| (offset, (*value).to_owned())).collect()
}

#[test]
fn a_delayed_message_is_seen_when_its_time_has_come_and_not_before() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with_topic(dir.path(), &[]);
    let deliver_at = after(800);
    node.hide("delayed", Delivery::At(deliver_at));
    let sent = node.send("plain", Delivery::Now);
    assert_eq!((sent.offset, sent.handle), (Some(Offset(0)), None));
    let past = node.send("past", Delivery::At(after(-5)));
    assert_eq!((past.offset, past.handle), (Some(Offset(1)), None), "what is due is visible at once");
    assert_eq!(node.seen(), seen(&["plain", "past"]));
    while node.fetch(2, 5_000).is_empty() {
        assert!(now().0 < deliver_at.0 + 20_000, "it never came");
    }
    let late_ms = now().0 - deliver_at.0;
    assert!(late_ms >= 0, "{} ms too early", -late_ms);
    assert!(late_ms < 1_000, "{late_ms} ms late");
    assert_eq!(node.seen(), seen(&["plain", "past", "delayed"]));
    // What was visible after it follows it, and it counts by when it became visible.
    node.send("next", Delivery::Now);
    assert_eq!(node.seen(), seen(&["plain", "past", "delayed", "next"]));
    let topic = TopicRef::Name(TOPIC.to_owned());
    for (query, expected) in [(deliver_at.0, 2), (deliver_at.0 - 1, 2), (now().0 + 5, -1)] {
        let query = OffsetQuery::AtOrAfter(duolog_types::TimestampMs(query));
        let found = node.runtime.block_on(node.broker.list_offset(topic.clone(), 0, query, EpochCheck::default()));
        assert_eq!(found.unwrap().offset, Offset(expected), "{query:?}");
    }
    node.stop();
}

#[test]
fn a_transaction_ends_once_and_the_same_way_again() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with_topic(dir.path(), &[]);
    let (committed, rolled_back) = (node.half("committed"), node.half("rolled back"));
    node.send("plain", Delivery::Now);
    assert_eq!(node.seen(), seen(&["plain"]));
    for _ in 0..2 {
        assert_eq!(node.end(committed, Resolution::Commit), Ok(()));
        assert_eq!(node.end(rolled_back, Resolution::Rollback), Ok(()));
    }
    assert!(is_invalid(node.end(committed, Resolution::Rollback)));
    assert!(is_invalid(node.end(rolled_back, Resolution::Commit)));
    assert!(is_invalid(node.recall(committed)), "it is no delayed message");
    for unknown in [
        HiddenHandle { slot: 9, ..committed },
        HiddenHandle { index: LogIndex(1_000_000), ..committed },
        HiddenHandle { term: duolog_types::Term(9_999), ..committed },
    ] {
        assert!(is_invalid(node.end(unknown, Resolution::Commit)), "{unknown:?}");
    }
    assert_eq!(node.seen(), seen(&["plain", "committed"]));
    node.stop();
}

/// With asynchronous modes a message is acknowledged before it is applied, and a reference is read before it is.
#[test]
fn every_mode_ends_what_was_just_acknowledged() {
    for (replication, flush) in [("sync", "async"), ("async", "sync"), ("async", "async")] {
        let dir = tempfile::tempdir().unwrap();
        let configs = [("duolog.replication", replication), ("duolog.flush", flush)];
        let node = Node::start_with_topic(dir.path(), &configs);
        for number in 0..20 {
            let handle = node.half(&number.to_string());
            assert_eq!(node.end(handle, Resolution::Commit), Ok(()));
            let delayed = node.hide("never", Delivery::At(after(60_000)));
            assert_eq!(node.recall(delayed), Ok(()));
            let last = node.fetch(number, 10_000);
            assert_eq!(last.iter().map(value).collect::<Vec<_>>(), [number.to_string()], "{replication}/{flush}");
        }
        node.stop();
    }
}

#[test]
fn what_is_hidden_outlives_a_restart() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = Node::start_with_topic(dir.path(), &[]);
    let (first, second, third) = (node.half("first"), node.half("second"), node.half("third"));
    assert_eq!(node.end(first, Resolution::Commit), Ok(()));
    let overdue = node.hide("overdue", Delivery::At(after(1_000)));
    let (recalled, late) = (after(60_000), after(6_000));
    let recalled = node.hide("recalled", Delivery::At(recalled));
    node.hide("late", Delivery::At(late));
    assert_eq!(node.recall(recalled), Ok(()));
    wait_invalid(|| node.recall(recalled));
    assert_eq!(node.end(third, Resolution::Rollback), Ok(()));
    assert_eq!(node.seen(), seen(&["first"]));

    let node = node.restart(dir.path(), copy.path());
    node.wait_seen(2);
    // It is visible.
    wait_invalid(|| node.recall(overdue));
    assert_eq!(node.end(first, Resolution::Commit), Ok(()));
    assert_eq!(node.end(third, Resolution::Rollback), Ok(()));
    assert!(is_invalid(node.end(third, Resolution::Commit)));
    assert_eq!(node.end(second, Resolution::Commit), Ok(()));
    assert!(is_invalid(node.recall(recalled)));
    let found = node.wait_seen(4);
    assert!(now() >= late, "too early");
    assert_eq!(
        found.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(),
        ["first", "overdue", "second", "late"]
    );
    node.stop();
}

#[test]
fn a_producer_is_asked_once_per_look() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with_topic(dir.path(), &[]);
    let handle = node.hide("asked", Delivery::OnCommit { check_at: now() });
    node.half("not due");
    let orphans = node.orphans();
    let found: Vec<_> = orphans.iter().map(|orphan| (orphan.handle, orphan.checks, value(&orphan.record))).collect();
    assert_eq!(found, [(handle, 0, "asked".to_owned())]);
    assert_eq!(orphans[0].topic, TOPIC);
    assert!(node.orphans().is_empty(), "it is asked again later");
    assert_eq!(node.checks(handle), 0, "it counts when a producer got the question");
    for _ in 0..2 {
        node.asked(&orphans[0]);
        assert_eq!(node.checks(handle), 1, "one question counts once");
    }
    assert_eq!(node.end(handle, Resolution::Commit), Ok(()));
    node.hide("gone", Delivery::OnCommit { check_at: now() });
    let deleted = node.broker.delete_topics(vec![TopicRef::Name(TOPIC.to_owned())], 30_000);
    assert!(node.runtime.block_on(deleted)[0].is_ok());
    assert!(node.orphans().is_empty(), "what is hidden goes with its topic");
    assert!(is_invalid(node.end(handle, Resolution::Commit)));
    node.stop();
}

/// When nobody can be asked about a message, its age ends it.
#[test]
fn what_is_too_old_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with_topic(dir.path(), &[]);
    let hour = 3_600_000;
    let half = |age_hours: i64| {
        let header = RecordHeader::text(STORE_TIME_HEADER, after(-age_hours * hour).0.to_string());
        let mut batch = BatchBuilder::new();
        batch.push_with_headers(now(), None, Some(b"half"), &[header]).unwrap();
        let batch = batch.build().unwrap().into_bytes();
        let delivery = Delivery::OnCommit { check_at: now() };
        let message = SendMessage { topic: TopicRef::Name(TOPIC.to_owned()), partition: 0, batch, delivery };
        let sent = node.runtime.block_on(node.broker.send_messages(vec![message], 30_000));
        sent[0].as_ref().unwrap().handle.unwrap()
    };
    let (young, old) = (half(71), half(73));
    let begun = Instant::now();
    // What is acknowledged is applied a moment later.
    while node.broker.transaction(old).unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "it is not applied");
    }
    let found: Vec<HiddenHandle> = node.orphans().iter().map(|orphan| orphan.handle).collect();
    assert_eq!(found, [young]);
    wait_invalid(|| node.end(old, Resolution::Commit));
    assert_eq!(node.end(young, Resolution::Commit), Ok(()));
    node.stop();
}

#[test]
fn what_is_no_single_message_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with_topic(dir.path(), &[]);
    let too_late = Delivery::At(after(41 * 24 * 3_600_000));
    let send = |batch, delivery| {
        let message = SendMessage { topic: TopicRef::Name(TOPIC.to_owned()), partition: 0, batch, delivery };
        node.runtime.block_on(node.broker.send_messages(vec![message], 30_000)).swap_remove(0)
    };
    assert!(matches!(send(batch(b"v"), too_late), Err(BrokerError::InvalidRecord(_))));
    let mut two = BatchBuilder::new();
    for _ in 0..2 {
        two.push(now(), None, Some(b"v")).unwrap();
    }
    let two = two.build().unwrap().into_bytes();
    assert!(matches!(send(two, Delivery::At(after(1_000))), Err(BrokerError::InvalidRecord(_))));
    node.stop();
}

/// Segments of all broker groups.
fn segments(dir: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            count += segments(&path);
        } else {
            count += usize::from(path.extension().is_some_and(|extension| extension == "segment"));
        }
    }
    count
}

/// Waits until there are at most so many segments.
fn wait_freed(node: &Node, dir: &Path, count_max: usize) {
    let begun = Instant::now();
    while segments(dir) > count_max {
        assert!(begun.elapsed() < PATIENCE, "{} segments are left", segments(dir));
        // The purge mark follows snapshots of the state, and these follow entries.
        node.send("more", Delivery::Now);
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_log_keeps_what_a_hidden_message_or_a_reference_needs_and_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with_topic(dir.path(), &[("flush.messages", "1000")]);
    let fill = |megabytes: usize| {
        let value = "x".repeat(50_000);
        for _ in 0..megabytes {
            node.send_all((0..20).map(|_| (value.clone(), Delivery::Now)).collect());
        }
    };
    let delete_all = || {
        let deleted = node.broker.delete_records(TopicRef::Name(TOPIC.to_owned()), 0, None, 30_000);
        node.runtime.block_on(deleted).unwrap().0
    };
    let handle = node.half("half");
    fill(6);
    delete_all();
    std::thread::sleep(Duration::from_millis(500));
    let all = segments(dir.path());
    assert!(all > 5, "an undecided half message keeps its entry, and with it the log: {all} segments");
    assert_eq!(node.end(handle, Resolution::Commit), Ok(()));
    let offset = delete_all() - 1;
    fill(1);
    // Its row in the consume queue is gone, and with it the entry.
    wait_freed(&node, dir.path(), all - 4);
    let few = segments(dir.path());
    assert!(is_invalid(node.end(handle, Resolution::Commit)), "forgotten with its offset {offset}");

    let handle = node.half("kept");
    fill(6);
    let before = delete_all();
    assert_eq!(node.end(handle, Resolution::Commit), Ok(()));
    fill(1);
    std::thread::sleep(Duration::from_millis(500));
    let first = node.fetch(before, 1_000);
    assert_eq!((first[0].offset.0, value(&first[0])), (before, "kept".to_owned()));
    assert!(segments(dir.path()) >= few + 5, "a reference keeps the entry of its payload");
    node.stop();
}

/// How late they are is for the benchmarks: a test may run on a machine that does other things.
#[test]
fn a_thousand_messages_a_second_are_delivered_and_none_too_early() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with_topic(dir.path(), &[]);
    let begin = after(3_000).0;
    let count = 2_000;
    for chunk in (0..count).collect::<Vec<i64>>().chunks(200) {
        let delayed = |number: &i64| {
            let time = begin + number;
            (time.to_string(), Delivery::At(duolog_types::TimestampMs(time)))
        };
        node.send_all(chunk.iter().map(delayed).collect());
    }
    assert!(now().0 < begin, "sending took too long for this test");
    let mut late_ms = Vec::new();
    while late_ms.len() < count as usize {
        assert!(now().0 < begin + 30_000, "{} came", late_ms.len());
        let records = node.fetch(late_ms.len() as i64, 1_000);
        let seen_at = now().0;
        late_ms.extend(records.iter().map(|record| seen_at - value(record).parse::<i64>().unwrap()));
    }
    late_ms.sort_unstable();
    let at = |percent: usize| late_ms[(late_ms.len() - 1) * percent / 100];
    println!("late by {} ms (p50), {} ms (p99), {} ms at most", at(50), at(99), at(100));
    assert!(at(0) >= 0, "{} ms too early", -at(0));
    node.stop();
}
