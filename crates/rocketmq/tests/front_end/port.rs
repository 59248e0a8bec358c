//! The port itself: TLS and plaintext, what is no HTTP/2, limits, a clean stop.

use std::time::Duration;

use crate::support::{Client, FakeBroker, Node, message, plain, start_with, tls};
use duolog_rocketmq::RocketmqConfig;
use duolog_rocketmq::proto::{Code, HeartbeatRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMIT: Duration = Duration::from_secs(10);

async fn beat(client: &mut Client) {
    let answer = client.heartbeat(HeartbeatRequest::default()).await.unwrap().into_inner();
    assert_eq!(answer.status.unwrap().code(), Code::Ok);
}

async fn node(config: RocketmqConfig) -> Node {
    start_with(&[FakeBroker::new().with_topic("t", "NORMAL", &[0])], config).await.pop().unwrap()
}

/// Whether the node closed the connection.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut answer = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await.is_ok()
}

#[tokio::test]
async fn one_port_serves_with_tls_and_without() {
    let node = node(RocketmqConfig::default()).await;
    let (mut plain, mut tls) = (plain(node.port, "a").await, tls(node.port, "b").await);
    for client in [&mut plain, &mut tls] {
        beat(client).await;
    }
    let body = duolog_rocketmq::proto::SendMessageRequest {
        messages: vec![duolog_rocketmq::proto::Message { body: vec![7; 4 << 20].into(), ..message("t", "01A", 0) }],
    };
    let sent = tls.send_message(body).await.unwrap().into_inner();
    assert_eq!(sent.status.unwrap().code(), Code::Ok, "the largest body fits");
    assert_eq!(node.metrics.connections(), 2);
    drop((plain, tls));
    node.stop().await;
}

#[tokio::test]
async fn garbage_disturbs_nobody() {
    let node = node(RocketmqConfig { handshake_timeout_ms: 300, ..RocketmqConfig::default() }).await;
    let mut client = node.client("a").await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let noise: Vec<u8> = (0..4_096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut after_preface = preface.to_vec();
    after_preface.extend(&noise);
    for bytes in [
        &b""[..],
        b"\0",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"\x16garbage that looks like TLS at first",
        &preface[..10],
        &noise,
        &after_preface,
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", node.port)).await.unwrap();
        // The node may close before it has read everything.
        let _ = stream.write_all(bytes).await;
        assert!(is_closed(&mut stream).await, "{:?} is not closed", bytes.escape_ascii().to_string());
        beat(&mut client).await;
    }
    drop(client);
    node.stop().await;
}

#[tokio::test]
async fn too_many_connections_are_refused() {
    let node = node(RocketmqConfig { connections_max: 2, ..RocketmqConfig::default() }).await;
    let mut client = node.client("a").await;
    let _silent = TcpStream::connect(("127.0.0.1", node.port)).await.unwrap();
    while node.metrics.connections() < 2 {
        tokio::task::yield_now().await;
    }
    let mut refused = TcpStream::connect(("127.0.0.1", node.port)).await.unwrap();
    assert!(is_closed(&mut refused).await);
    beat(&mut client).await;
    assert!(node.metrics.render().contains("duolog_rocketmq_connections_refused_total 1"));
}

#[tokio::test]
async fn a_stop_ends_connections_that_stay_open() {
    let config = RocketmqConfig { shutdown_grace_ms: 100, ..RocketmqConfig::default() };
    let node = node(config).await;
    let mut client = node.client("a").await;
    beat(&mut client).await;
    let mut silent = TcpStream::connect(("127.0.0.1", node.port)).await.unwrap();
    silent.write_all(b"P").await.unwrap();
    tokio::time::timeout(LIMIT, node.stop()).await.expect("it stops");
    assert!(is_closed(&mut silent).await);
    assert!(client.heartbeat(HeartbeatRequest::default()).await.is_err());
}
