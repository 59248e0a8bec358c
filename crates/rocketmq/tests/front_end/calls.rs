//! The calls of one node, as a client makes them.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::support::{Client, FakeBroker, Node, message, start};
use duolog_broker::message_api::{Filter, Resolution};
use duolog_rocketmq::proto::receive_message_response::Content;
use duolog_rocketmq::proto::*;
use duolog_types::NodeId;

fn resource(name: &str) -> Option<Resource> {
    Some(Resource { resource_namespace: String::new(), name: name.to_owned() })
}

fn code(status: &Option<Status>) -> Code {
    status.as_ref().expect("a status").code()
}

async fn send(client: &mut Client, messages: Vec<Message>) -> SendMessageResponse {
    client.send_message(SendMessageRequest { messages }).await.unwrap().into_inner()
}

fn change(mut message: Message, change: impl FnOnce(&mut SystemProperties)) -> Message {
    change(message.system_properties.as_mut().unwrap());
    message
}

fn receive_request(topic: &str, queue: i32, wait_ms: i32) -> ReceiveMessageRequest {
    ReceiveMessageRequest {
        group: resource("g"),
        message_queue: Some(MessageQueue { topic: resource(topic), id: queue, ..MessageQueue::default() }),
        batch_size: 16,
        auto_renew: true,
        long_polling_timeout: Some(prost_types::Duration { seconds: 0, nanos: wait_ms * 1_000_000 }),
        ..ReceiveMessageRequest::default()
    }
}

/// The status, which comes first, and the messages, after which the time of delivery comes.
async fn receive(client: &mut Client, request: ReceiveMessageRequest) -> (Status, Vec<Message>) {
    let mut items = client.receive_message(request).await.unwrap().into_inner();
    let first = items.message().await.unwrap().expect("a first item").content;
    let Some(Content::Status(status)) = first else { panic!("a status comes first: {first:?}") };
    let mut messages = Vec::new();
    let mut has_time = false;
    while let Some(item) = items.message().await.unwrap() {
        match item.content.unwrap() {
            Content::Message(message) if !has_time => messages.push(message),
            Content::DeliveryTimestamp(time) if !has_time && time.seconds > 0 => has_time = true,
            other => panic!("messages, then a time of delivery: {other:?}"),
        }
    }
    assert_eq!(has_time, !messages.is_empty());
    (status, messages)
}

async fn one(broker: FakeBroker) -> (Node, Client) {
    let node = start(&[broker]).await.pop().unwrap();
    let client = node.client("c@1").await;
    (node, client)
}

#[tokio::test]
async fn a_route_has_a_queue_per_partition() {
    let (node, mut client) = one(FakeBroker::new().with_topic("t", "MIXED", &[0, 0, 0])).await;
    let request = |name| QueryRouteRequest { topic: resource(name), endpoints: None };
    let route = client.query_route(request("t")).await.unwrap().into_inner();
    assert_eq!(code(&route.status), Code::Ok);
    let ids: Vec<i32> = route.message_queues.iter().map(|queue| queue.id).collect();
    assert_eq!(ids, [0, 1, 2]);
    let queue = &route.message_queues[0];
    let broker = queue.broker.as_ref().unwrap();
    let endpoints = broker.endpoints.as_ref().unwrap();
    assert_eq!((broker.name.as_str(), broker.id, queue.permission()), ("node-0", 0, Permission::ReadWrite));
    assert_eq!((endpoints.scheme(), endpoints.addresses[0].port), (AddressScheme::IPv4, i32::from(node.port)));
    assert_eq!(queue.accept_message_types.len(), 4);
    let unknown = client.query_route(request("none")).await.unwrap().into_inner();
    assert_eq!((code(&unknown.status), unknown.message_queues.len()), (Code::TopicNotFound, 0));
    let illegal = client.query_route(request("a b")).await.unwrap().into_inner();
    assert_eq!(code(&illegal.status), Code::IllegalTopic);
}

#[tokio::test]
async fn assignments_are_brokers_or_partitions() {
    let broker = FakeBroker::new().with_topic("n", "NORMAL", &[0, 0, 1]).with_topic("f", "FIFO", &[0, 0, 1]);
    let (_node, mut client) = one(broker).await;
    let mut ask = async |name: &str| {
        let request = QueryAssignmentRequest { topic: resource(name), group: resource("g"), endpoints: None };
        let answer = client.query_assignment(request).await.unwrap().into_inner();
        assert_eq!(code(&answer.status), Code::Ok);
        let queues = answer.assignments.into_iter().map(|assignment| assignment.message_queue.unwrap());
        queues.map(|queue| (queue.broker.unwrap().name, queue.id)).collect::<Vec<_>>()
    };
    let expected = |queues: &[(&str, i32)]| queues.iter().map(|(n, id)| ((*n).to_owned(), *id)).collect::<Vec<_>>();
    assert_eq!(ask("n").await, expected(&[("node-0", -1), ("node-1", -1)]));
    assert_eq!(ask("f").await, expected(&[("node-0", 0), ("node-0", 1), ("node-1", 2)]));
}

#[tokio::test]
async fn a_message_is_sent_received_and_acknowledged() {
    let (node, mut client) = one(FakeBroker::new().with_topic("t", "NORMAL", &[0, 0])).await;
    let sent = send(&mut client, vec![message("t", "01A", 1), message("t", "01B", 1)]).await;
    assert_eq!((code(&sent.status), sent.entries.len()), (Code::Ok, 2));
    let entries: Vec<_> = sent.entries.iter().map(|entry| (entry.message_id.as_str(), entry.offset)).collect();
    assert_eq!(entries, [("01A", 0), ("01B", 1)]);

    let (status, messages) = receive(&mut client, receive_request("t", -1, 900)).await;
    assert_eq!((status.code(), messages.len()), (Code::Ok, 2));
    let system = messages[0].system_properties.as_ref().unwrap();
    assert_eq!((messages[0].body.as_ref(), system.message_id.as_str()), (&b"body of 01A"[..], "01A"));
    assert_eq!((system.queue_id, system.delivery_attempt, &messages[0].topic), (1, Some(1), &resource("t")));
    let asked = node.broker.state.lock().received[0].1.clone();
    assert_eq!((asked.invisible_ms, asked.auto_renew, asked.attempts_max), (60_000, true, 17));
    assert_eq!((asked.consumer.client_id.as_str(), asked.partition, asked.filter), ("c@1", None, Filter::All));

    let handle = |message: &Message| message.system_properties.clone().unwrap().receipt_handle.unwrap();
    let changed = ChangeInvisibleDurationRequest {
        group: resource("g"),
        topic: resource("t"),
        receipt_handle: handle(&messages[0]),
        invisible_duration: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        ..ChangeInvisibleDurationRequest::default()
    };
    let changed = client.change_invisible_duration(changed).await.unwrap().into_inner();
    assert_eq!(code(&changed.status), Code::Ok);
    assert_ne!(changed.receipt_handle, handle(&messages[0]));

    let entry = |handle: String| AckMessageEntry { receipt_handle: handle, ..AckMessageEntry::default() };
    let entries = vec![entry(changed.receipt_handle), entry("nonsense".to_owned()), entry(handle(&messages[0]))];
    let request = AckMessageRequest { group: resource("g"), topic: resource("t"), entries };
    let acknowledged = client.ack_message(request).await.unwrap().into_inner();
    let codes: Vec<Code> = acknowledged.entries.iter().map(|entry| code(&entry.status)).collect();
    assert_eq!(codes, [Code::Ok, Code::InvalidReceiptHandle, Code::InvalidReceiptHandle]);
    assert_eq!(code(&acknowledged.status), Code::MultipleResults);
    assert_eq!(node.broker.state.lock().acknowledged.len(), 1);

    let dead = ForwardMessageToDeadLetterQueueRequest {
        group: resource("g"),
        topic: resource("t"),
        receipt_handle: handle(&messages[1]),
        ..ForwardMessageToDeadLetterQueueRequest::default()
    };
    let dead = client.forward_message_to_dead_letter_queue(dead).await.unwrap().into_inner();
    assert_eq!(code(&dead.status), Code::Ok);
    let text = node.metrics.render();
    assert!(text.contains("duolog_rocketmq_sent_messages_total 2"), "{text}");
    assert!(text.contains("duolog_rocketmq_delivered_messages_total 2"), "{text}");
    assert!(text.contains("duolog_rocketmq_answers_total{code=\"MULTIPLE_RESULTS\"} 1"), "{text}");
}

#[tokio::test]
async fn what_may_not_be_sent_is_refused_message_by_message() {
    let (_node, mut client) = one(FakeBroker::new().with_topic("t", "NORMAL", &[0])).await;
    let empty = Message { body: Vec::new().into(), ..message("t", "01B", 0) };
    let fifo = change(message("t", "01C", 0), |system| system.message_group = Some("g".to_owned()));
    let large = Message { body: vec![1; (4 << 20) + 1].into(), ..message("t", "01D", 0) };
    let damaged = change(message("t", "01E", 0), |system| {
        let mut digest = Digest { checksum: "12".to_owned(), ..Digest::default() };
        digest.set_type(DigestType::Md5);
        system.body_digest = Some(digest);
    });
    let messages = vec![message("t", "01A", 0), empty, fifo, large, damaged, message("none", "01F", 0)];
    let sent = send(&mut client, messages).await;
    let codes: Vec<Code> = sent.entries.iter().map(|entry| code(&entry.status)).collect();
    assert_eq!(
        codes,
        [
            Code::Ok,
            Code::MessageBodyEmpty,
            Code::MessagePropertyConflictWithType,
            Code::MessageBodyTooLarge,
            Code::MessageCorrupted,
            Code::TopicNotFound
        ]
    );
    assert_eq!(code(&sent.status), Code::MultipleResults);
    assert_eq!(sent.entries[5].message_id, "01F");
    assert_eq!(code(&send(&mut client, Vec::new()).await.status), Code::BadRequest);
}

#[tokio::test]
async fn an_acknowledgement_is_confirmed_before_it_is_given() {
    let (node, mut client) = one(FakeBroker::new().with_topic("t", "NORMAL", &[0])).await;
    node.broker.leads.store(false, Ordering::Relaxed);
    let sent = send(&mut client, vec![message("t", "01A", 0)]).await;
    assert_eq!(code(&sent.status), Code::MasterPersistenceTimeout);
}

#[tokio::test]
async fn half_and_delayed_messages_have_handles() {
    let broker = FakeBroker::new().with_topic("tx", "TRANSACTION", &[0]).with_topic("d", "DELAY", &[0]);
    let (node, mut client) = one(broker).await;
    let half = change(message("tx", "01A", 0), |system| system.set_message_type(MessageType::Transaction));
    let sent = send(&mut client, vec![half]).await;
    let transaction_id = sent.entries[0].transaction_id.clone();
    assert!(!transaction_id.is_empty() && sent.entries[0].recall_handle.is_empty());
    let end = |resolution: TransactionResolution, transaction_id: &str| EndTransactionRequest {
        topic: resource("tx"),
        transaction_id: transaction_id.to_owned(),
        resolution: resolution.into(),
        ..EndTransactionRequest::default()
    };
    for (request, expected) in [
        (end(TransactionResolution::Unspecified, &transaction_id), Code::Ok),
        (end(TransactionResolution::Commit, &transaction_id), Code::Ok),
        (end(TransactionResolution::Commit, &transaction_id), Code::InvalidTransactionId),
        (end(TransactionResolution::Rollback, "nonsense"), Code::InvalidTransactionId),
    ] {
        assert_eq!(code(&client.end_transaction(request).await.unwrap().into_inner().status), expected);
    }
    assert_eq!(node.broker.state.lock().ended.iter().map(|(_, how)| *how).collect::<Vec<_>>(), [Resolution::Commit]);

    let late = change(message("d", "01B", 0), |system| {
        let in_an_hour = std::time::SystemTime::now() + Duration::from_secs(3_600);
        system.delivery_timestamp = Some(in_an_hour.into());
    });
    let too_late = change(late.clone(), |system| {
        system.delivery_timestamp = Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 });
    });
    assert_eq!(code(&send(&mut client, vec![too_late]).await.status), Code::IllegalDeliveryTime);
    let sent = send(&mut client, vec![late]).await;
    let recall = RecallMessageRequest { topic: resource("d"), recall_handle: sent.entries[0].recall_handle.clone() };
    let recalled = client.recall_message(recall.clone()).await.unwrap().into_inner();
    assert_eq!((code(&recalled.status), recalled.message_id.as_str()), (Code::Ok, "01B"));
    let again = client.recall_message(recall).await.unwrap().into_inner();
    assert_eq!(code(&again.status), Code::InvalidReceiptHandle);
}

#[tokio::test]
async fn a_long_poll_waits_and_says_when_nothing_came() {
    let (node, mut client) = one(FakeBroker::new().with_topic("t", "NORMAL", &[0])).await;
    let (status, messages) = receive(&mut client, receive_request("t", -1, 50)).await;
    assert_eq!((status.code(), messages.len()), (Code::MessageNotFound, 0));
    let (mut producer, request) = (client.clone(), receive_request("t", -1, 900));
    let begun = Instant::now();
    let waiting = tokio::spawn(async move { receive(&mut client, request).await });
    while node.broker.state.lock().received.len() < 2 {
        tokio::task::yield_now().await;
    }
    send(&mut producer, vec![message("t", "01A", 0)]).await;
    let (status, messages) = waiting.await.unwrap();
    assert_eq!((status.code(), messages.len()), (Code::Ok, 1));
    assert!(begun.elapsed() < Duration::from_millis(900), "it did not wait for the end");
    node.stop().await;
}

#[tokio::test]
async fn what_a_client_does_not_take_comes_back() {
    let (node, mut client) = one(FakeBroker::new().with_topic("t", "NORMAL", &[0])).await;
    for i in 0..12 {
        let large = Message { body: vec![i; 2 << 20].into(), ..message("t", &format!("01{i}"), 0) };
        assert_eq!(code(&send(&mut client, vec![large]).await.status), Code::Ok);
    }
    // More than a connection takes without being read.
    let items = client.receive_message(receive_request("t", -1, 900)).await.unwrap();
    assert_eq!(node.broker.state.lock().delivered.len(), 12);
    drop(items);
    let changed = node.broker.changed.clone();
    let came_back = async {
        while node.broker.state.lock().stored.values().all(Vec::is_empty) {
            tokio::select! {
                () = changed.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), came_back).await.expect("messages come back");
}

#[tokio::test]
async fn requests_for_messages_are_checked() {
    let broker = FakeBroker::new().with_topic("t", "NORMAL", &[0]).with_topic("f", "FIFO", &[0, 0]);
    let (node, mut client) = one(broker).await;
    let sql = |text: &str| {
        let mut expression = FilterExpression { expression: text.to_owned(), ..FilterExpression::default() };
        expression.set_type(FilterType::Sql);
        Some(expression)
    };
    let good = receive_request("t", -1, 1);
    for (request, expected) in [
        (ReceiveMessageRequest { group: None, ..good.clone() }, Code::IllegalConsumerGroup),
        (ReceiveMessageRequest { auto_renew: false, ..good.clone() }, Code::IllegalInvisibleTime),
        (ReceiveMessageRequest { filter_expression: sql("?"), ..good.clone() }, Code::IllegalFilterExpression),
        (ReceiveMessageRequest { message_queue: None, ..good.clone() }, Code::IllegalTopic),
        (receive_request("none", -1, 1), Code::TopicNotFound),
        (receive_request("f", 7, 1), Code::NotFound),
        (receive_request("f", 1, 1), Code::MessageNotFound),
    ] {
        assert_eq!(receive(&mut client, request).await.0.code(), expected);
    }
    let last = node.broker.state.lock().received.last().unwrap().1.clone();
    assert_eq!(last.partition, Some(1), "a queue of a FIFO topic is one partition");
}

#[tokio::test]
async fn heartbeats_renew_and_clients_are_named() {
    let (node, mut client) = one(FakeBroker::new().with_topic("t", "NORMAL", &[0])).await;
    let beat = client.heartbeat(HeartbeatRequest::default()).await.unwrap().into_inner();
    assert_eq!(code(&beat.status), Code::Ok);
    assert_eq!(node.broker.state.lock().renewed, [(NodeId(0), "c@1".to_owned())]);
    // A receive says over which connection its answer goes, so that the heartbeats on it prove that it came.
    receive(&mut client, receive_request("t", -1, 1)).await;
    let mut another = node.client("c@1").await;
    receive(&mut another, receive_request("t", -1, 1)).await;
    let state = node.broker.state.clone();
    let over: Vec<_> = state.lock().received.iter().map(|(_, receive)| receive.connection).collect();
    let renewed_over = state.lock().renewed_over.clone();
    assert_eq!(over[0], Some(renewed_over[0]));
    let last = over[over.len() - 1];
    assert!(last.is_some() && last != over[0], "{over:?}");
    let gone = client.notify_client_termination(NotifyClientTerminationRequest::default()).await.unwrap();
    assert_eq!(code(&gone.into_inner().status), Code::Ok);

    let mut nobody = node.client("").await;
    let refused = nobody.heartbeat(HeartbeatRequest::default()).await.unwrap().into_inner();
    assert_eq!(code(&refused.status), Code::ClientIdRequired);
    assert_eq!(receive(&mut nobody, receive_request("t", -1, 1)).await.0.code(), Code::ClientIdRequired);
}

#[tokio::test]
async fn what_is_not_implemented_says_so() {
    let (_node, mut client) = one(FakeBroker::new()).await;
    let lite = client.sync_lite_subscription(SyncLiteSubscriptionRequest::default()).await.unwrap().into_inner();
    assert_eq!(code(&lite.status), Code::NotImplemented);
}

#[tokio::test]
async fn a_pull_consumer_keeps_its_own_offsets() {
    let (_node, mut client) = one(FakeBroker::new().with_topic("t", "NORMAL", &[0, 0])).await;
    let queue = |id| Some(MessageQueue { topic: resource("t"), id, ..MessageQueue::default() });
    for body in ["a", "b", "c"] {
        let sent = send(&mut client, vec![message("t", body, 1)]).await;
        assert_eq!(code(&sent.status), Code::Ok);
    }
    let mut pulled = Vec::new();
    for id in 0..2 {
        let request = PullMessageRequest {
            group: resource("g"),
            message_queue: queue(id),
            batch_size: 16,
            long_polling_timeout: Some(prost_types::Duration::default()),
            ..PullMessageRequest::default()
        };
        let mut items = client.pull_message(request).await.unwrap().into_inner();
        let mut kinds = Vec::new();
        while let Some(item) = items.message().await.unwrap() {
            match item.content.unwrap() {
                pull_message_response::Content::Status(status) => kinds.push(status.code().as_str_name()),
                pull_message_response::Content::Message(message) => pulled.push(message.body),
                pull_message_response::Content::NextOffset(_) => kinds.push("next"),
            }
        }
        assert_eq!(kinds.len(), 2, "a status first, the next offset last: {kinds:?}");
    }
    pulled.sort();
    assert_eq!(pulled, ["body of a", "body of b", "body of c"]);

    let get = GetOffsetRequest { group: resource("g"), message_queue: queue(1) };
    let nothing = client.get_offset(get.clone()).await.unwrap().into_inner();
    assert_eq!(code(&nothing.status), Code::OffsetNotFound);
    let mut update = UpdateOffsetRequest { group: resource("g"), message_queue: queue(1), offset: -1 };
    let refused = client.update_offset(update.clone()).await.unwrap().into_inner();
    assert_eq!(code(&refused.status), Code::IllegalOffset);
    update.offset = 7;
    assert_eq!(code(&client.update_offset(update).await.unwrap().into_inner().status), Code::Ok);
    let got = client.get_offset(get).await.unwrap().into_inner();
    assert_eq!((code(&got.status), got.offset), (Code::Ok, 7));

    let mut query = QueryOffsetRequest { message_queue: queue(0), ..QueryOffsetRequest::default() };
    query.set_query_offset_policy(QueryOffsetPolicy::End);
    let end = client.query_offset(query.clone()).await.unwrap().into_inner();
    query.set_query_offset_policy(QueryOffsetPolicy::Timestamp);
    assert_eq!(code(&client.query_offset(query.clone()).await.unwrap().into_inner().status), Code::BadRequest);
    query.timestamp = Some(prost_types::Timestamp { seconds: 1 << 40, nanos: 0 });
    let late = client.query_offset(query).await.unwrap().into_inner();
    assert_eq!((code(&late.status), late.offset), (Code::Ok, end.offset), "nothing is that late");
    let beyond = PullMessageRequest {
        group: resource("g"),
        message_queue: queue(0),
        offset: 99,
        ..PullMessageRequest::default()
    };
    let mut items = client.pull_message(beyond).await.unwrap().into_inner();
    let first = items.message().await.unwrap().unwrap().content.unwrap();
    assert!(matches!(first, pull_message_response::Content::Status(status) if status.code() == Code::IllegalOffset));
    let wrong = GetOffsetRequest { group: resource("g"), message_queue: queue(9) };
    assert_eq!(code(&client.get_offset(wrong).await.unwrap().into_inner().status), Code::NotFound);
}
