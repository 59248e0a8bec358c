//! Frames of the Kafka protocol, against a live server over a broker in memory.
//!
//! An input is what one client writes on one connection, after which it closes its side. Nobody may panic: neither the
//! frame reader, nor a decoder (the server survives that, but the shapes are there to prevent it), nor a handler or an
//! encoder. The server must come to its end by itself, and now and then show that it still answers others.

use std::cell::Cell;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use duolog_kafka::KafkaConfig;
use kafka_protocol::messages::ApiVersionsRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::timeout;

pub use crate::frame_seeds::seeds;
use crate::kafka_support::{FakeBroker, frame};

/// Turns that the server gets before the client closes its side, so that answers are written too. More than it needs.
const TURNS: u32 = 16;
/// A long poll may hold the answers back; the client does not wait for it.
const ANSWERS_WAIT: Duration = Duration::from_millis(20);
const ANSWERS_BYTES_MAX: u64 = 4 << 20;
/// A server that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(10);
/// Every so many inputs another client asks for something.
const BYSTANDER_EVERY: usize = 64;
/// A closed connection keeps its pair of ports for a while; with several listeners they do not run out.
const LISTENERS: usize = 8;

thread_local! {
    static SITE: Site = Site {
        runtime: runtime(),
        listeners: std::array::from_fn(|_| listen()),
        inputs: Cell::new(0),
    };
}

/// What all inputs share.
struct Site {
    runtime: Runtime,
    listeners: [TcpListener; LISTENERS],
    inputs: Cell<usize>,
}

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime of one thread can be built");
    let inside = runtime.enter();
    // Writing to a client that has gone must be an error, as in any Rust program; libFuzzer's `main` leaves it deadly. The handler stays.
    drop(signal(SignalKind::pipe()).expect("the signal can be handled"));
    drop(inside);
    runtime
}

fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.set_nonblocking(true).expect("a socket can be non-blocking");
    listener
}

/// Sends an input to a server of its own.
///
/// # Panics
/// When the server does, or hangs.
pub fn run(input: &[u8]) {
    SITE.with(|site| {
        let number = site.inputs.replace(site.inputs.get() + 1);
        let listener = site.listeners[number % LISTENERS].try_clone().expect("a file descriptor is free");
        let has_bystander = number.is_multiple_of(BYSTANDER_EVERY);
        let exchange = async { timeout(LIMIT, exchange(listener, input, has_bystander)).await };
        site.runtime.block_on(exchange).expect("the server answers and stops");
    });
}

async fn exchange(listener: TcpListener, input: &[u8], has_bystander: bool) {
    let config = KafkaConfig {
        frame_bytes_max: 1 << 20,
        request_budget_bytes: 1 << 20,
        frame_timeout_ms: 20,
        write_timeout_ms: 20,
        shutdown_grace_ms: 1,
        ..KafkaConfig::default()
    };
    let broker = FakeBroker::new().with_topic("topic", 2).with_topic("elsewhere", 1).with_topic("leaderless", 1);
    let address = listener.local_addr().expect("it is bound");
    let listener = tokio::net::TcpListener::from_std(listener).expect("it is non-blocking");
    let (stop, stopped) = oneshot::channel::<()>();
    let server = duolog_kafka::serve(listener, broker, config, async {
        let _ = stopped.await;
    });
    let clients = async {
        send(address, input).await;
        if has_bystander {
            ask(address).await;
        }
        drop(stop);
    };
    tokio::join!(server, clients);
}

async fn send(address: SocketAddr, input: &[u8]) {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    // The server may close before all is written.
    let _ = stream.write_all(input).await;
    for _ in 0..TURNS {
        yield_now().await;
    }
    let _ = stream.shutdown().await;
    let mut answers = Vec::new();
    let _ = timeout(ANSWERS_WAIT, stream.take(ANSWERS_BYTES_MAX).read_to_end(&mut answers)).await;
}

/// The next client is answered.
async fn ask(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    stream.write_all(&frame(0, 77, &ApiVersionsRequest::default())).await.expect("the server reads");
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).await.expect("the server answers");
    assert_eq!(answer[4..], *b"\0\0\0\x4d\0\0", "correlation id and error code");
}
