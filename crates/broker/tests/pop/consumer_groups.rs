//! Consumer groups with configs of their own, and what Kafka's tools see and do with groups of single messages.

use std::time::Instant;

use duolog_broker::BrokerError;
use duolog_broker::api::{
    BrokerApi, ConfigEdit, EpochCheck, GroupId, OffsetCommits, OffsetQuery, PartitionOffset, TopicRef,
};
use duolog_broker::message_api::{Consumer, DeliveredMessage, MessageApi, Receive};
use duolog_types::{Offset, TimestampMs};

use crate::common::{Node, PATIENCE, copy_dir};
use crate::node::{HOUR_MS, group, topic, values};

impl Node {
    fn configure(&self, configs: &[(&str, &str)]) -> Result<(), BrokerError> {
        let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.runtime.block_on(self.broker.alter_group_config(group(), ConfigEdit::Replacement(configs), false))
    }

    fn receive_as(&self, client_id: &str, change: impl FnOnce(&mut Receive)) -> Vec<DeliveredMessage> {
        let change = |request: &mut Receive| {
            request.consumer.client_id = client_id.to_owned();
            change(request);
        };
        self.receive_with(change).unwrap()
    }

    fn acknowledge_as(&self, client_id: &str, message: &DeliveredMessage) -> Result<(), BrokerError> {
        let consumer = Consumer { group: group(), client_id: client_id.to_owned() };
        self.runtime.block_on(self.broker.acknowledge(consumer, vec![message.receipt])).remove(0)
    }

    /// What is committed for a group in partition 0.
    fn committed(&self, group: &str) -> Option<Offset> {
        let wanted = Some(vec![(topic(), 0)]);
        let offsets = self.runtime.block_on(self.broker.fetch_offsets(GroupId(group.to_owned()), wanted)).unwrap();
        offsets[0].committed.as_ref().map(|committed| committed.offset)
    }

    fn wait_committed(&self, group: &str, offset: i64) {
        let begun = Instant::now();
        while self.committed(group) != Some(Offset(offset)) {
            assert!(begun.elapsed() < PATIENCE, "{group}: found {:?}, expected {offset}", self.committed(group));
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    fn commit(&self, offset: i64) {
        let partition = PartitionOffset {
            topic: topic(),
            partition: 0,
            offset: Offset(offset),
            leader_epoch: None,
            metadata: String::new(),
        };
        let request = OffsetCommits {
            group: group(),
            member_id: None,
            instance_id: None,
            generation: -1,
            partitions: vec![partition],
        };
        assert_eq!(self.runtime.block_on(self.broker.commit_offsets(request)), [Ok(())]);
    }
}

#[test]
fn in_broadcasting_each_consumer_gets_everything_and_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    node.configure(&[("consumption.mode", "broadcasting")]).unwrap();
    for value in ["a", "b"] {
        node.send(value, None, &[]);
    }
    for client_id in ["one", "two"] {
        let got = node.receive_as(client_id, |_| {});
        assert_eq!(values(&got), ["a", "b"], "{client_id}");
        node.acknowledge_as(client_id, &got[0]).unwrap();
        let other = node.acknowledge_as("three", &got[1]);
        assert!(matches!(other, Err(BrokerError::InvalidReceipt(_))), "a receipt of another consumer: {other:?}");
        node.acknowledge_as(client_id, &got[1]).unwrap();
    }
    node.wait_committed("g@one", 2);
    node.stop();

    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    let node = Node::start(copy.path());
    node.send("c", None, &[]);
    assert_eq!(values(&node.receive_as("one", |_| {})), ["c"]);
    let given_up = node.receive_as("two", |request| request.invisible_ms = 1);
    assert_eq!(values(&given_up), ["c"]);
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert!(node.receive_as("two", |request| request.attempts_max = 1).is_empty());
    let begun = Instant::now();
    let dead = TopicRef::Name("%DLQ%g".to_owned());
    let letters = |request: &mut Receive| {
        request.topic = dead.clone();
        request.consumer.group = GroupId("operators".to_owned());
    };
    while node.receive_with(letters).map_or(true, |letters| values(&letters) != ["c"]) {
        assert!(begun.elapsed() < PATIENCE, "no dead letter under the name of the group");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    node.stop();
}

#[test]
fn a_group_begins_where_its_configs_say() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    for (value, born) in [("a", 1_000), ("b", 2_000), ("c", 3_000)] {
        node.send_at(TimestampMs(born), value, None, &[]);
    }
    let start = |name: &str, at: &str| {
        let group = GroupId(name.to_owned());
        let edit = ConfigEdit::Replacement(vec![("consumption.start".to_owned(), at.to_owned())]);
        node.runtime.block_on(node.broker.alter_group_config(group.clone(), edit, false)).unwrap();
        node.receive_with(|request| request.consumer.group = group).unwrap()
    };
    assert_eq!(values(&start("first", "first")), ["a", "b", "c"]);
    assert_eq!(values(&start("by-time", "1500")), ["b", "c"]);
    assert!(start("later", "9000").is_empty());
    assert!(start("last", "last").is_empty());
    node.stop();

    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    let node = Node::start(copy.path());
    node.send("d", None, &[]);
    let last = node.receive_with(|request| request.consumer.group = GroupId("last".to_owned())).unwrap();
    assert_eq!(values(&last), ["d"], "the end of then counts, also for the next leader");
    node.stop();
}

#[test]
fn a_group_may_want_order_where_the_topic_does_not_ask_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    node.configure(&[("consumption.order", "fifo")]).unwrap();
    for (value, key) in [("a1", Some("a")), ("a2", Some("a")), ("free", None)] {
        node.send(value, key, &[]);
    }
    let first = node.receive(1, HOUR_MS);
    assert_eq!(values(&first), ["a1"]);
    assert_eq!(values(&node.receive(16, HOUR_MS)), ["free"]);
    node.configure(&[("consumption.order", "sideways")]).unwrap_err();
    node.stop();
}

#[test]
fn kafkas_tools_see_how_far_a_group_is_and_can_set_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    node.create_topic("t", &[]);
    for value in ["a", "b", "c"] {
        node.send(value, None, &[]);
    }
    let got = node.receive(3, HOUR_MS);
    node.wait_committed("g", 0);
    node.acknowledge(got[0].receipt).unwrap();
    node.wait_committed("g", 1);
    node.acknowledge(got[2].receipt).unwrap();
    node.acknowledge(got[1].receipt).unwrap();
    node.wait_committed("g", 3);
    let end = node.runtime.block_on(node.broker.list_offset(topic(), 0, OffsetQuery::Latest, EpochCheck::default()));
    assert_eq!(end.unwrap().offset, Offset(3), "the lag is 0");
    let begun = Instant::now();
    let listed = || node.runtime.block_on(node.broker.list_groups()).unwrap();
    while !listed().iter().any(|listing| listing.group == group()) {
        assert!(begun.elapsed() < PATIENCE, "the group is not listed");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }

    node.commit(1);
    let again = node.receive_with(|request| request.wait_ms_max = 30_000).unwrap();
    assert_eq!((values(&again), again[0].attempt), (vec!["b", "c"], 1));
    node.stop();

    // Nobody consumes, and the group is set back meanwhile.
    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    let node = Node::start(copy.path());
    node.commit(0);
    let again = node.receive_with(|request| request.wait_ms_max = 30_000).unwrap();
    assert_eq!(values(&again), ["a", "b", "c"]);
    node.stop();
}

/// The leader is lost before it has looked for what others commit, but not before it has delivered something once more.
#[test]
fn a_group_goes_where_it_was_set_though_its_leader_was_lost_before_it_looked() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |settings, _| settings.consumer_offset_interval_ms = 3_600_000);
    node.create_topic("t", &[]);
    for value in ["a", "b", "c"] {
        node.send(value, None, &[]);
    }
    for message in node.receive(2, HOUR_MS) {
        node.acknowledge(message.receipt).unwrap();
    }
    node.commit(0);
    assert_eq!(values(&node.receive(1, HOUR_MS)), ["c"]);
    node.stop();

    let copy = tempfile::tempdir().unwrap();
    copy_dir(dir.path(), copy.path());
    let node = Node::start(copy.path());
    let again = node.receive_with(|request| request.wait_ms_max = 30_000).unwrap();
    assert_eq!((values(&again), again[0].attempt), (vec!["a", "b", "c"], 1));
    // It went there once.
    for message in again {
        node.acknowledge(message.receipt).unwrap();
    }
    node.wait_committed("g", 3);
    assert!(node.receive(16, HOUR_MS).is_empty());
    node.stop();
}
