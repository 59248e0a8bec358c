//! Order, limits and rejections of a connection, over a real socket.

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use duolog_kafka::KafkaConfig;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, FetchRequest, JoinGroupRequest, MetadataRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use support::names::{group, text};
use support::{FakeBroker, TestServer};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

const T: StrBytes = StrBytes::from_static_str("t");

fn produce(acks: i16, partition: i32, records: impl Into<Bytes>) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records.into()));
    let topic = TopicProduceData::default().with_name(TopicName(T)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_topic_data(vec![topic])
}

fn long_poll(offset: i64, wait_ms_max: i32) -> FetchRequest {
    let partition = FetchPartition::default().with_fetch_offset(offset);
    let topic = FetchTopic::default().with_topic(TopicName(T)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(wait_ms_max)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

/// Waits for a condition that other tasks bring about.
async fn until(mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(10), wait).await.expect("the condition comes about");
}

#[tokio::test]
async fn produces_are_enqueued_in_order_without_waiting_for_acknowledgements() {
    let broker = FakeBroker::new().with_topic("t", 1);
    broker.acks.forget_permits(1 << 20);
    let server = TestServer::start(broker.clone()).await;
    let mut client = server.client().await;
    let expected: Vec<Bytes> = (0..5).map(|i| Bytes::from(format!("records {i}"))).collect();
    for records in &expected {
        client.send(9, &produce(-1, 0, records.clone())).await;
    }
    until(|| broker.enqueued().len() == 5).await;
    assert_eq!(broker.enqueued(), expected);
    broker.acks.add_permits(5);
    for i in 0..5 {
        let (correlation_id, response) = client.receive_as::<ProduceRequest>(9).await;
        assert_eq!((correlation_id, response.responses[0].partition_responses[0].base_offset), (i + 1, i64::from(i)));
    }
    server.stop().await;
}

/// A paused leader goes on with answers that waited behind others: what rests on its lease is asked for again.
#[tokio::test]
async fn an_acknowledgement_that_waited_behind_another_answer_is_confirmed_when_it_is_written() {
    let broker = FakeBroker::new().with_topic("t", 2);
    let server = TestServer::start(broker.clone()).await;
    let (mut client, mut other) = (server.client().await, server.client().await);
    for (round, leads, error_code) in [(0, true, 0), (1, false, ResponseError::RequestTimedOut.code())] {
        client.send(12, &long_poll(round, 600_000)).await;
        client.send(9, &produce(-1, 1, "waits behind the poll")).await;
        until(|| broker.enqueued().len() as i64 == 2 * round + 1).await;
        broker.leads.store(leads, Ordering::Relaxed);
        other.call(9, produce(-1, 0, "ends the poll")).await;
        client.receive_as::<FetchRequest>(12).await;
        let (_, response) = client.receive_as::<ProduceRequest>(9).await;
        assert_eq!(response.responses[0].partition_responses[0].error_code, error_code);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_long_poll_holds_back_answers_but_no_work() {
    let broker = FakeBroker::new().with_topic("t", 1);
    let server = TestServer::start(broker.clone()).await;
    let mut client = server.client().await;
    let poll = client.send(12, &long_poll(0, 600_000)).await;
    let metadata = client.send(9, &MetadataRequest::default().with_topics(None)).await;
    let produced = client.send(9, &produce(-1, 0, "records")).await;
    let (first, fetched) = client.receive_as::<FetchRequest>(12).await;
    assert_eq!(fetched.responses[0].partitions[0].records.as_deref(), Some(&b"records"[..]));
    let (second, _) = client.receive_as::<MetadataRequest>(9).await;
    let (third, _) = client.receive_as::<ProduceRequest>(9).await;
    assert_eq!([first, second, third], [poll, metadata, produced]);
    server.stop().await;
}

#[tokio::test]
async fn no_more_requests_are_taken_than_answers_may_be_pending() {
    let broker = FakeBroker::new().with_topic("t", 1);
    broker.acks.forget_permits(1 << 20);
    let config = KafkaConfig { pending_responses_max: 4, ..KafkaConfig::default() };
    let server = TestServer::start_with(broker.clone(), config).await;
    let mut client = server.client().await;
    for _ in 0..20 {
        client.send(9, &produce(1, 0, "r")).await;
    }
    // Four in the queue and the one that the writer awaits.
    until(|| broker.enqueued().len() == 5).await;
    assert!(timeout(Duration::from_millis(50), until(|| broker.enqueued().len() > 5)).await.is_err());
    broker.acks.add_permits(20);
    for i in 1..=20 {
        assert_eq!(client.receive_as::<ProduceRequest>(9).await.0, i);
    }
    server.stop().await;
}

#[tokio::test]
async fn acks_0_is_silent_and_an_error_closes() {
    let broker = FakeBroker::new().with_topic("t", 1);
    let server = TestServer::start(broker.clone()).await;
    let mut client = server.client().await;
    client.send(9, &produce(0, 0, "silent")).await;
    let asked = client.send(9, &produce(1, 0, "answered")).await;
    assert_eq!(client.receive_as::<ProduceRequest>(9).await.0, asked);
    client.send(9, &produce(0, 7, "no such partition")).await;
    assert!(client.is_closed().await);
    server.stop().await;
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_gets_version_0() {
    let server = TestServer::start(FakeBroker::new()).await;
    let mut client = server.client().await;
    for version in [5_i16, 6, 32_767, -1] {
        let mut frame = BytesMut::new();
        frame.put_i32(12);
        frame.put_i16(18);
        frame.put_i16(version);
        frame.put_i32(42);
        frame.put_slice(b"\xff\xff\0\0");
        client.stream.write_all(&frame).await.unwrap();
        let mut body = client.receive().await.unwrap();
        let correlation_id = body.split_to(4);
        assert_eq!(&correlation_id[..], 42_i32.to_be_bytes());
        let response = kafka_protocol::messages::ApiVersionsResponse::decode(&mut body, 0).unwrap();
        assert_eq!((response.error_code, response.api_keys.is_empty(), body.is_empty()), (35, false, true));
    }
    server.stop().await;
}

#[tokio::test]
async fn produce_below_version_3_is_answered_with_an_error() {
    let server = TestServer::start(FakeBroker::new()).await;
    let mut client = server.client().await;
    for (version, tail) in [(0_i16, 0), (1, 4), (2, 12)] {
        let mut frame = BytesMut::new();
        frame.put_slice(&[0, 0, 0, 0, 0, 0]);
        frame.put_i16(version);
        frame.put_i32(9);
        frame.put_slice(b"\0\x01c\0\x01\0\0\0\x64\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x05\0\0\0\x03abc");
        let length = frame.len() as i32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        client.stream.write_all(&frame).await.unwrap();
        let body = client.receive().await.unwrap();
        let expected = b"\0\0\0\x09\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x05\0\x2b\xff\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(&body[..expected.len()], expected, "version {version}");
        assert_eq!(body.len(), expected.len() + tail);
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_request_closes_the_connection() {
    let config = KafkaConfig { frame_bytes_max: 1_000, frame_timeout_ms: 50, ..KafkaConfig::default() };
    let server = TestServer::start_with(FakeBroker::new(), config).await;
    let cases: [(&str, &[u8]); 9] = [
        ("negative length", b"\xff\xff\xff\xff"),
        ("too short for a head", b"\0\0\0\x01a"),
        ("too large", b"\0\x01\0\0"),
        ("half a length", b"\0\0"),
        ("half a frame", b"\0\0\0\x20abcd"),
        ("unknown API", b"\0\0\0\x0a\x03\xe8\0\0\0\0\0\x01\xff\xff"),
        ("known API, unsupported version", b"\0\0\0\x0a\0\x01\0\x03\0\0\0\x01\xff\xff"),
        ("a count that cannot be true", b"\0\0\0\x0e\0\x03\0\x01\0\0\0\x01\xff\xff\x7f\xff\xff\xff"),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n"),
    ];
    for (what, bytes) in cases {
        let mut client = server.client().await;
        client.stream.write_all(bytes).await.unwrap();
        assert!(client.is_closed().await, "{what}");
    }
    until(|| server.metrics.render().contains("duolog_kafka_connections_broken_total 9")).await;
    server.client().await.call(0, ApiVersionsRequest::default()).await;
    server.stop().await;
}

#[tokio::test]
async fn one_request_beyond_the_budget_still_passes() {
    let broker = FakeBroker::new().with_topic("t", 1);
    let config = KafkaConfig { request_budget_bytes: 1_000, ..KafkaConfig::default() };
    let server = TestServer::start_with(broker.clone(), config).await;
    let (mut a, mut b) = (server.client().await, server.client().await);
    let large = produce(-1, 0, vec![7; 3 << 20]);
    let (first, second) = tokio::join!(a.call(9, large.clone()), b.call(9, large));
    for response in [first, second] {
        assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    }
    server.stop().await;
}

/// A long poll in a frame of two thousand bytes.
fn large_poll() -> FetchRequest {
    long_poll(0, 600_000).with_rack_id(text(&"r".repeat(2_000)))
}

/// For one request there is room, not for two.
const SMALL_BUDGET: usize = 4_000;

#[tokio::test]
async fn requests_that_wait_for_others_hold_no_share_of_the_budget() {
    const COUNT: usize = 20;
    let broker = FakeBroker::new().with_topic("t", 1);
    let config = KafkaConfig { request_budget_bytes: SMALL_BUDGET, ..KafkaConfig::default() };
    let server = TestServer::start_with(broker.clone(), config).await;
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(vec![7_u8; 2_000].into());
    let join = JoinGroupRequest::default().with_group_id(group("waiting")).with_protocols(vec![protocol]);
    let mut waiting = Vec::new();
    for _ in 0..COUNT {
        let (mut polling, mut joining) = (server.client().await, server.client().await);
        polling.send(12, &large_poll()).await;
        joining.send(5, &join).await;
        waiting.extend([polling, joining]);
    }
    until(|| server.metrics.render().contains(&format!("api=\"Fetch\"}} {COUNT}\n"))).await;
    until(|| broker.joins().len() == COUNT).await;
    server.client().await.call(9, produce(-1, 0, vec![7; 3_000])).await;
    drop(waiting);
    server.stop().await;
}

/// Until it is its turn, a fetch is in memory as it came.
#[tokio::test]
async fn a_fetch_that_waits_for_the_answers_before_it_holds_its_share() {
    let broker = FakeBroker::new().with_topic("t", 1);
    let config = KafkaConfig { request_budget_bytes: SMALL_BUDGET, shutdown_grace_ms: 1, ..KafkaConfig::default() };
    let server = TestServer::start_with(broker, config).await;
    let mut client = server.client().await;
    for _ in 0..3 {
        client.send(12, &large_poll()).await;
    }
    let polls = |count: usize| server.metrics.render().contains(&format!("api=\"Fetch\"}} {count}\n"));
    until(|| polls(2)).await;
    assert!(timeout(Duration::from_millis(50), until(|| polls(3))).await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn idle_connections_are_closed_and_waiting_ones_are_not() {
    let broker = FakeBroker::new().with_topic("t", 1);
    let config = KafkaConfig { idle_timeout_ms: 30, ..KafkaConfig::default() };
    let server = TestServer::start_with(broker.clone(), config).await;
    let mut waiting = server.client().await;
    waiting.send(12, &long_poll(0, 600_000)).await;
    waiting.send(12, &long_poll(0, 600_000)).await;
    assert!(server.client().await.is_closed().await);
    server.client().await.call(9, produce(-1, 0, "r")).await;
    waiting.receive_as::<FetchRequest>(12).await;
    waiting.receive_as::<FetchRequest>(12).await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let server = TestServer::start(FakeBroker::new().with_topic("t", 1)).await;
    let mut client = server.client().await;
    client.send(12, &long_poll(0, 600_000)).await;
    until(|| server.metrics.render().contains("api=\"Fetch\"} 1")).await;
    drop(client);
    until(|| server.metrics.connections() == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn answers_to_what_came_before_an_error_are_written() {
    let server = TestServer::start(FakeBroker::new()).await;
    let mut client = server.client().await;
    let mut bytes = support::frame(0, 1, &ApiVersionsRequest::default()).to_vec();
    bytes.extend_from_slice(b"\xff\xff\xff\xff");
    client.stream.write_all(&bytes).await.unwrap();
    assert_eq!(client.receive_as::<ApiVersionsRequest>(0).await.0, 1);
    assert!(client.is_closed().await);
    server.stop().await;
}

#[tokio::test]
async fn a_stop_writes_pending_answers_and_then_gives_up() {
    let broker = FakeBroker::new().with_topic("t", 1);
    let config = KafkaConfig { shutdown_grace_ms: 200, ..KafkaConfig::default() };
    let server = TestServer::start_with(broker.clone(), config).await;
    let (mut answered, mut parked) = (server.client().await, server.client().await);
    parked.call(0, ApiVersionsRequest::default()).await;
    answered.call(0, ApiVersionsRequest::default()).await;
    answered.send(12, &long_poll(0, 50)).await;
    parked.send(12, &long_poll(0, 600_000)).await;
    until(|| server.metrics.render().contains("api=\"Fetch\"} 2")).await;
    server.stop().await;
    answered.receive_as::<FetchRequest>(12).await;
    assert!(parked.is_closed().await);
}
