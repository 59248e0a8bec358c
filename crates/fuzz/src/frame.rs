//! Frames of the Kafka protocol, against a live server over a broker in memory.
//!
//! An input is what one client writes on one connection, after which it closes its side. Nobody may panic: neither the
//! frame reader, nor a decoder (the server survives that, but the shapes are there to prevent it), nor a handler or an
//! encoder. The server must come to its end by itself, and now and then show that it still answers others.

use std::cell::Cell;
use std::time::Duration;

use duolog_kafka::KafkaConfig;
use kafka_protocol::messages::ApiVersionsRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio::time::timeout;

pub use crate::frame_seeds::seeds;
use crate::kafka_support::{FakeBroker, TestServer};

/// Turns that the server gets before the client closes its side, so that answers are written too. More than it needs.
const TURNS: u32 = 16;
/// A long poll may hold the answers back; the client does not wait for it.
const ANSWERS_WAIT: Duration = Duration::from_millis(20);
const ANSWERS_BYTES_MAX: u64 = 4 << 20;
/// A server that takes longer to stop hangs.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Every so many inputs another client asks for something.
const BYSTANDER_EVERY: u64 = 64;

thread_local! {
    static RUNTIME: Runtime =
        Builder::new_current_thread().enable_all().build().expect("a runtime of one thread can be built");
    static INPUTS: Cell<u64> = const { Cell::new(0) };
}

/// Sends an input to a server of its own.
///
/// # Panics
/// When the server does, or hangs.
pub fn run(input: &[u8]) {
    let number = INPUTS.replace(INPUTS.get() + 1);
    RUNTIME.with(|runtime| runtime.block_on(serve(input, number.is_multiple_of(BYSTANDER_EVERY))));
}

async fn serve(input: &[u8], has_bystander: bool) {
    let config = KafkaConfig {
        frame_bytes_max: 1 << 20,
        request_budget_bytes: 1 << 20,
        frame_timeout_ms: 20,
        write_timeout_ms: 20,
        shutdown_grace_ms: 1,
        ..KafkaConfig::default()
    };
    let broker = FakeBroker::new().with_topic("topic", 2).with_topic("elsewhere", 1).with_topic("leaderless", 1);
    let server = TestServer::start_with(broker, config).await;
    let mut stream = server.client().await.stream;
    // The server may close before all is written.
    let _ = stream.write_all(input).await;
    for _ in 0..TURNS {
        yield_now().await;
    }
    let _ = stream.shutdown().await;
    let mut answers = Vec::new();
    let _ = timeout(ANSWERS_WAIT, (&mut stream).take(ANSWERS_BYTES_MAX).read_to_end(&mut answers)).await;
    drop(stream);
    if has_bystander {
        let answer = timeout(STOP_LIMIT, async { server.client().await.call(0, ApiVersionsRequest::default()).await });
        assert_eq!(answer.await.expect("the next client is answered").error_code, 0);
    }
    timeout(STOP_LIMIT, server.stop()).await.expect("the server stops");
}
