//! Bytes of requests in progress: large ones wait for each other, and one that is half-sent holds others up only for a while.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use duolog_rocketmq::RocketmqConfig;
use duolog_rocketmq::proto::{Code, Message, SendMessageRequest};
use http_body::{Body, Frame};
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

/// A body that never ends.
struct Half(Option<Bytes>);

impl Body for Half {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
    }
}

/// Announces 600,000 bytes and sends 40,000 of them; gives the status in the answer's head, if there is one.
async fn half_sent(port: u16) -> Option<GrpcCode> {
    let mut channel: Channel =
        Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect().await.unwrap();
    let mut bytes = vec![0];
    bytes.extend(600_000_u32.to_be_bytes());
    bytes.resize(40_000, 7);
    let request =
        http::Request::post(format!("http://127.0.0.1:{port}/apache.rocketmq.v2.MessagingService/SendMessage"))
            .header("content-type", "application/grpc")
            .header("x-mq-client-id", "half@1")
            .body(tonic::body::Body::new(Half(Some(bytes.into()))))
            .unwrap();
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let answer = channel.call(request).await.ok()?;
    Some(GrpcCode::from_bytes(answer.headers().get("grpc-status")?.as_bytes()))
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
