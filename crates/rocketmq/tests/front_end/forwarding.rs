//! Two nodes of one cluster: each takes every call, and the one that leads does it.

use std::time::{Duration, Instant};

use crate::support::{Client, FakeBroker, Node, message, start, start_with};
use duolog_rocketmq::RocketmqConfig;
use duolog_rocketmq::proto::receive_message_response::Content;
use duolog_rocketmq::proto::*;
use duolog_types::NodeId;

fn resource(name: &str) -> Option<Resource> {
    Some(Resource { resource_namespace: String::new(), name: name.to_owned() })
}

fn code(status: &Option<Status>) -> Code {
    status.as_ref().expect("a status").code()
}

async fn send(client: &mut Client, messages: Vec<Message>) -> Vec<Code> {
    let sent = client.send_message(SendMessageRequest { messages }).await.unwrap().into_inner();
    sent.entries.iter().map(|entry| code(&entry.status)).collect()
}

async fn receive(client: &mut Client, topic: &str, id: i32, broker: &str) -> (Code, Vec<Message>) {
    let broker = Some(Broker { name: broker.to_owned(), ..Broker::default() });
    let request = ReceiveMessageRequest {
        group: resource("g"),
        message_queue: Some(MessageQueue { topic: resource(topic), id, broker, ..MessageQueue::default() }),
        batch_size: 16,
        auto_renew: true,
        long_polling_timeout: Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 }),
        ..ReceiveMessageRequest::default()
    };
    let mut items = client.receive_message(request).await.unwrap().into_inner();
    let (mut status, mut messages) = (Code::Unspecified, Vec::new());
    while let Some(item) = items.message().await.unwrap() {
        match item.content.unwrap() {
            Content::Status(found) => status = found.code(),
            Content::Message(message) => messages.push(message),
            Content::DeliveryTimestamp(_) => {}
        }
    }
    (status, messages)
}

async fn cluster(topic: &str, kind: &str, leaders: &[u64]) -> (Vec<Node>, Client) {
    let broker = FakeBroker::new().with_topic(topic, kind, leaders);
    let nodes = start(&[broker.clone(), broker.node(1)]).await;
    let client = nodes[0].client("c@1").await;
    (nodes, client)
}

#[tokio::test]
async fn what_another_node_leads_is_done_there() {
    let (nodes, mut client) = cluster("t", "NORMAL", &[0, 1]).await;
    let messages = (0..4).map(|i| message("t", &format!("01{i}"), i % 2)).collect();
    assert_eq!(send(&mut client, messages).await, [Code::Ok; 4]);
    let state = nodes[0].broker.state.clone();
    let mut taken_by = state.lock().taken_by.clone();
    taken_by.sort();
    assert_eq!(taken_by, [NodeId(0), NodeId(0), NodeId(1), NodeId(1)]);

    // Each broker's queue gives what that broker leads, whichever node is asked.
    let (status, own) = receive(&mut client, "t", -1, "node-0").await;
    assert_eq!((status, own.len()), (Code::Ok, 2));
    let (status, other) = receive(&mut client, "t", -1, "node-1").await;
    assert_eq!((status, other.len()), (Code::Ok, 2));
    assert_eq!(other[0].system_properties.as_ref().unwrap().queue_id, 1);
    assert_eq!(
        state.lock().received.last().unwrap().1.consumer.client_id,
        "c@1",
        "the client's name goes with the call"
    );

    let handle = |message: &Message| message.system_properties.clone().unwrap().receipt_handle.unwrap();
    let entries = [&own[0], &other[0], &other[1]];
    let entries = entries.map(|m| AckMessageEntry { receipt_handle: handle(m), ..AckMessageEntry::default() });
    let request = AckMessageRequest { group: resource("g"), topic: resource("t"), entries: entries.to_vec() };
    let acknowledged = client.ack_message(request).await.unwrap().into_inner();
    assert_eq!((code(&acknowledged.status), state.lock().acknowledged.len()), (Code::Ok, 3));
    assert!(nodes[0].metrics.forwarded() >= 3);
    assert_eq!(nodes[1].metrics.forwarded(), 0);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_queue_whose_broker_leads_no_more_gives_what_its_leader_has() {
    let (nodes, mut client) = cluster("t", "NORMAL", &[1, 1]).await;
    assert_eq!(send(&mut client, vec![message("t", "01A", 1)]).await, [Code::Ok]);
    let (status, messages) = receive(&mut client, "t", -1, "node-0").await;
    assert_eq!((status, messages.len()), (Code::Ok, 1));
    let (status, _) = receive(&mut client, "t", 1, "node-0").await;
    assert_eq!(status, Code::MessageNotFound);
    assert!(nodes[1].broker.state.lock().received.iter().all(|(node, _)| *node == NodeId(1)));
}

/// As its assignment says, it asks the other nodes by itself. One that names none gets what lies anywhere.
#[tokio::test]
async fn what_a_push_consumer_asks_a_node_for_is_looked_for_there_alone() {
    let (nodes, mut client) = cluster("t", "NORMAL", &[0, 1]).await;
    let mut heartbeat = HeartbeatRequest { group: resource("g"), ..HeartbeatRequest::default() };
    heartbeat.set_client_type(ClientType::PushConsumer);
    client.heartbeat(heartbeat).await.unwrap();
    assert_eq!(send(&mut client, vec![message("t", "01A", 1)]).await, [Code::Ok]);
    let forwarded = nodes[0].metrics.forwarded();
    assert_eq!(receive(&mut client, "t", -1, "node-0").await.0, Code::MessageNotFound);
    assert_eq!(nodes[0].metrics.forwarded(), forwarded);
    let (status, messages) = receive(&mut client, "t", -1, "").await;
    assert_eq!((status, messages.len()), (Code::Ok, 1));
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_fail_over_is_a_slow_call() {
    let (nodes, mut client) = cluster("t", "NORMAL", &[0]).await;
    nodes[0].broker.lead("t", None);
    let broker = nodes[0].broker.clone();
    let sending = tokio::spawn(async move { send(&mut client, vec![message("t", "01A", 0)]).await });
    tokio::time::sleep(Duration::from_millis(150)).await;
    broker.lead("t", Some(1));
    assert_eq!(sending.await.unwrap(), [Code::Ok]);
    assert_eq!(broker.state.lock().taken_by, [NodeId(1)]);
}

#[tokio::test]
async fn without_a_leader_a_call_ends_in_time() {
    let broker = FakeBroker::new().with_topic("t", "NORMAL", &[0]);
    broker.lead("t", None);
    let config = RocketmqConfig { retry_ms: 300, ..RocketmqConfig::default() };
    let node = start_with(&[broker], config).await.pop().unwrap();
    let mut client = node.client("c@1").await;
    let begun = Instant::now();
    assert_eq!(send(&mut client, vec![message("t", "01A", 0)]).await, [Code::HaNotAvailable]);
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(receive(&mut client, "t", -1, "node-0").await.0, Code::HaNotAvailable);
}

#[tokio::test]
async fn a_node_that_is_down_is_waited_for_and_named() {
    let broker = FakeBroker::new().with_topic("t", "NORMAL", &[1]);
    let config = RocketmqConfig { retry_ms: 300, shutdown_grace_ms: 500, ..RocketmqConfig::default() };
    let mut nodes = start_with(&[broker.clone(), broker.node(1)], config).await;
    nodes.pop().unwrap().stop().await;
    let mut client = nodes[0].client("c@1").await;
    let request = SendMessageRequest { messages: vec![message("t", "01A", 0)] };
    let sent = client.send_message(request).await.unwrap().into_inner();
    assert_eq!(code(&sent.status), Code::HaNotAvailable);
    assert!(sent.status.unwrap().message.contains("node 1"));
}

#[tokio::test]
async fn a_message_group_goes_to_one_partition_whatever_the_client_chose() {
    let (nodes, mut client) = cluster("f", "FIFO", &[0, 1, 0, 1]).await;
    let fifo = |i: i32| {
        let mut message = message("f", &format!("01{i}"), i);
        message.system_properties.as_mut().unwrap().message_group = Some("group".to_owned());
        message
    };
    assert_eq!(send(&mut client, (0..4).map(fifo).collect()).await, [Code::Ok; 4]);
    let state = nodes[0].broker.state.lock();
    let counts: Vec<usize> = state.stored.values().map(Vec::len).collect();
    assert_eq!(counts, [4]);
}

/// Two nodes lead every other partition each; whichever is asked, the highest priority comes first.
#[tokio::test]
async fn the_highest_priority_comes_first_wherever_it_lies() {
    let (nodes, mut client) = cluster("p", "PRIORITY", &[0, 1, 0, 1]).await;
    let urgent = |priority: i32| {
        let mut message = message("p", &format!("01{priority}"), 0);
        message.system_properties.as_mut().unwrap().priority = Some(priority);
        message
    };
    assert_eq!(send(&mut client, [0, 2, 9, 1, 3].map(urgent).into()).await, [Code::Ok; 5]);
    let mut seen = Vec::new();
    for broker in ["node-0", "node-0", "node-1", "node-1"] {
        let (status, messages) = receive(&mut client, "p", -1, broker).await;
        assert_eq!(status, Code::Ok);
        let of = |message: &Message| message.system_properties.clone().unwrap();
        assert!(messages.iter().all(|message| of(message).message_type() == MessageType::Priority));
        seen.push(messages.iter().map(|message| of(message).priority()).collect::<Vec<_>>());
    }
    assert_eq!(seen, [vec![9, 3], vec![2], vec![1], vec![0]]);
    for node in nodes {
        node.stop().await;
    }
}
