//! Bytes of requests in progress: large ones wait for each other, and one that is half-sent holds others up only for a while. What is
//! repeated too often in a request is refused before it is decoded.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use duolog_rocketmq::RocketmqConfig;
use duolog_rocketmq::proto::settings::PubSub;
use duolog_rocketmq::proto::telemetry_command::Command;
use duolog_rocketmq::proto::{
    AckMessageEntry, AckMessageRequest, Code, HeartbeatRequest, Message, Publishing, Resource, SendMessageRequest,
    Settings, Subscription, SubscriptionEntry, TelemetryCommand,
};
use http_body::{Body, Frame};
use prost::Message as _;
use tokio::time::timeout;
use tonic::Code as GrpcCode;
use tonic::codegen::{Service, http};
use tonic::transport::{Channel, Endpoint};

use crate::support::{FakeBroker, Node, message, start_with};

const LIMIT: Duration = Duration::from_secs(20);

async fn node(stall_ms: u64) -> Node {
    let config = RocketmqConfig {
        request_budget_bytes: 1 << 20,
        request_stall_ms_max: stall_ms,
        shutdown_grace_ms: 500,
        ..RocketmqConfig::default()
    };
    start_with(&[FakeBroker::new().with_topic("t", "NORMAL", &[0])], config).await.pop().unwrap()
}

fn large() -> SendMessageRequest {
    SendMessageRequest { messages: vec![Message { body: vec![7; 600_000].into(), ..message("t", "01A", 0) }] }
}

/// A body in frames that may never end.
struct Frames {
    left: VecDeque<Bytes>,
    ends: bool,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        match self.left.pop_front() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// A message as it goes over the wire: announced with its own length, or with another one.
fn framed(message: &[u8], length: usize) -> Bytes {
    [&[0][..], &u32::try_from(length).unwrap().to_be_bytes(), message].concat().into()
}

/// Makes a call with this body; gives the status in the answer's head, if there is one.
async fn call(port: u16, name: &str, body: Frames) -> Option<GrpcCode> {
    let mut channel: Channel =
        Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect().await.unwrap();
    let request = http::Request::post(format!("http://127.0.0.1:{port}/apache.rocketmq.v2.MessagingService/{name}"))
        .header("content-type", "application/grpc")
        .header("x-mq-client-id", "half@1")
        .body(tonic::body::Body::new(body))
        .unwrap();
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let answer = channel.call(request).await.ok()?;
    Some(GrpcCode::from_bytes(answer.headers().get("grpc-status")?.as_bytes()))
}

/// Announces a large message and sends 40,000 bytes of it.
async fn half_sent(port: u16) -> Option<GrpcCode> {
    let message = large().encode_to_vec();
    let left = VecDeque::from([framed(&message[..40_000], message.len())]);
    call(port, "SendMessage", Frames { left, ends: false }).await
}

#[tokio::test]
async fn a_half_sent_request_holds_others_up_only_for_a_while() {
    let node = node(1_000).await;
    let port = node.port;
    let half = tokio::spawn(half_sent(port));
    while node.metrics.requests_bytes() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut client = node.client("a").await;
    // Both do not fit; the second waits half a second at most.
    let crowded_out = client.send_message(large()).await.unwrap_err();
    assert_eq!(crowded_out.code(), GrpcCode::ResourceExhausted);
    assert_eq!(timeout(LIMIT, half).await.unwrap().unwrap(), Some(GrpcCode::DeadlineExceeded));
    let sent = timeout(LIMIT, client.send_message(large())).await.unwrap().unwrap().into_inner();
    assert_eq!(sent.status.unwrap().code(), Code::Ok);
    let text = node.metrics.render();
    for line in [
        "duolog_rocketmq_requests_stalled_total 1",
        "duolog_rocketmq_requests_crowded_out_total 1",
        "duolog_rocketmq_requests_bytes 0",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    drop(client);
    node.stop().await;
}

#[tokio::test]
async fn more_than_fits_waits_and_is_answered() {
    let node = node(20_000).await;
    let mut sending = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let client = node.client("a").await;
        for _ in 0..2 {
            let mut client = client.clone();
            sending
                .spawn(async move { client.send_message(large()).await.unwrap().into_inner().status.unwrap().code() });
        }
    }
    let codes = timeout(LIMIT, sending.join_all()).await.unwrap();
    assert_eq!(codes, vec![Code::Ok; 24]);
    assert_eq!(node.metrics.requests_bytes(), 0);
    node.stop().await;
}

#[tokio::test]
async fn a_request_that_stops_early_is_given_up() {
    let node = node(300).await;
    let message = large().encode_to_vec();
    let whole = HeartbeatRequest::default().encode_to_vec();
    for (name, sent) in [
        ("SendMessage", Bytes::new()),
        ("SendMessage", Bytes::from_static(&[0, 0])),
        ("SendMessage", framed(&message[..1_000], message.len())),
        // Nothing is missing but the end.
        ("Heartbeat", framed(&whole, whole.len())),
    ] {
        let body = Frames { left: VecDeque::from([sent.clone()]), ends: false };
        let ended = timeout(LIMIT, call(node.port, name, body)).await.expect("it is given up");
        assert_eq!(ended, Some(GrpcCode::DeadlineExceeded), "{name} with {} bytes", sent.len());
    }
    assert_eq!(node.metrics.requests_bytes(), 0);
    node.stop().await;
}

#[tokio::test]
async fn too_many_messages_or_entries_are_refused() {
    let node = node(20_000).await;
    let mut client = node.client("a").await;
    let send = |count| SendMessageRequest { messages: vec![Message::default(); count] };
    let ack = |count| AckMessageRequest { entries: vec![AckMessageEntry::default(); count], ..Default::default() };
    assert!(client.send_message(send(1_024)).await.is_ok(), "each has its own status");
    assert!(client.ack_message(ack(1_024)).await.is_ok());
    for count in [1_025, 500_000] {
        for refused in [
            client.send_message(send(count)).await.map(drop).unwrap_err(),
            client.ack_message(ack(count)).await.map(drop).unwrap_err(),
        ] {
            assert_eq!(refused.code(), GrpcCode::InvalidArgument);
            assert!(refused.message().contains("expected at most 1024"), "{}", refused.message());
        }
    }
    drop(client);
    node.stop().await;
}

#[tokio::test]
async fn too_many_topics_end_the_telemetry_stream() {
    let node = node(20_000).await;
    let topics = vec![Resource::default(); 1_025];
    let subscriptions = vec![SubscriptionEntry::default(); 1_025];
    for pub_sub in [
        PubSub::Publishing(Publishing { topics, ..Publishing::default() }),
        PubSub::Subscription(Subscription { subscriptions, ..Subscription::default() }),
    ] {
        let mut client = node.client("a").await;
        let settings = Settings { pub_sub: Some(pub_sub), ..Settings::default() };
        let command = TelemetryCommand { status: None, command: Some(Command::Settings(settings)) };
        let commands = tokio_stream::iter([command]);
        let mut answers = client.telemetry(commands).await.unwrap().into_inner();
        let refused = timeout(LIMIT, answers.message()).await.unwrap().unwrap_err();
        assert_eq!(refused.code(), GrpcCode::InvalidArgument);
        assert!(refused.message().contains("expected at most 1024"), "{}", refused.message());
    }
    node.stop().await;
}

#[tokio::test]
async fn elements_are_found_in_small_frames_and_behind_false_lengths() {
    let node = node(20_000).await;
    let many = SendMessageRequest { messages: vec![Message::default(); 1_025] }.encode_to_vec();
    // A message of two bytes that says that two million of properties are in it.
    let hidden = [&[0x0a, 2, 0x1a, 0x80, 0x80, 0x80, 0x01][..], &[0x12, 0].repeat(100_000)[..]].concat();
    for message in [many, hidden] {
        for frame_bytes in [1, 3, 1_000] {
            let whole = framed(&message, message.len());
            // The rest is not sent: the refusal does not wait for it.
            let sent = whole.slice(..whole.len().min(2_100));
            let left = sent.chunks(frame_bytes).map(Bytes::copy_from_slice).collect();
            let ended = timeout(LIMIT, call(node.port, "SendMessage", Frames { left, ends: false })).await.unwrap();
            assert_eq!(ended, Some(GrpcCode::InvalidArgument), "in frames of {frame_bytes}");
        }
    }
    node.stop().await;
}
