//! What is no request, half a request or too large a one on every port of a running node: it stays healthy and goes on serving,
//! its memory does not grow with what strangers send.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use common::{Cluster, Layout, batch, wait_for};

const TOPIC: &str = "t";
const LIMIT: Duration = Duration::from_secs(30);
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Memory that all of it together may cost.
const GROWTH_BYTES_MAX: u64 = 128 << 20;
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A port that strangers reach, by its name.
fn ports(cluster: &Cluster) -> [(&'static str, u16); 4] {
    let ports = cluster.node(0).ports;
    [("kafka", ports.kafka), ("rocketmq", ports.rocketmq), ("http", ports.http), ("grpc", ports.grpc)]
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the node accepts connections");
    stream.set_read_timeout(Some(READ_TIMEOUT)).expect("a socket option");
    stream.set_write_timeout(Some(READ_TIMEOUT)).expect("a socket option");
    stream
}

/// Sends bytes, as many as the node takes, and gives the beginning of what it answers until it closes or says no more.
fn answer_to(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(port);
    // The node may close before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    read_to_end(&mut stream)
}

/// What comes until the node closes.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = vec![0; 4_096];
    let mut read = 0;
    loop {
        match stream.read(&mut answer[read..]) {
            Ok(0) => break,
            Ok(bytes) => read += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    answer.truncate(read);
    answer
}

/// Bytes that look like noise and are the same in every run.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, length: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn http2(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = HTTP2_PREFACE.to_vec();
    bytes.extend(frame(4, 0, 0, 0, &[]));
    frames.iter().for_each(|frame| bytes.extend(frame));
    bytes
}

/// What no port can make sense of.
fn nonsense() -> Vec<(String, Vec<u8>)> {
    let mut cases: Vec<(String, Vec<u8>)> = [
        ("nothing", &b""[..]),
        ("one byte", b"\0"),
        ("half a Kafka length", b"\0\0"),
        ("half a Kafka frame", b"\0\0\0\x40\0\x03"),
        ("a Kafka frame of 2 GiB", b"\x7f\xff\xff\xff\0\x03\0\x01"),
        ("a Kafka frame of a negative size", b"\xff\xff\xff\xff\0\x03\0\x01"),
        ("an unknown Kafka API", b"\0\0\0\x0a\x03\xe8\0\0\0\0\0\x01\xff\xff"),
        ("a Kafka version out of range", b"\0\0\0\x0a\0\x01\x7f\xff\0\0\0\x01\xff\xff"),
        ("half an HTTP request", b"GET /health HTT"),
        ("an HTTP head without an end", b"GET /health HTTP/1.1\r\nHost: x\r\n"),
        ("an HTTP body that does not come", b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\nx"),
        ("an HTTP method that is none", b"\x01\x02 / HTTP/1.1\r\n\r\n"),
        ("two HTTP lengths", b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        ("a TLS hello", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"),
        ("half an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM"),
        ("an HTTP/2 preface alone", HTTP2_PREFACE),
    ]
    .map(|(what, bytes)| (what.to_owned(), bytes.to_vec()))
    .into();
    cases.extend([
        ("a long HTTP line".to_owned(), [&b"GET /"[..], &vec![b'a'; 4 << 20], b" HTTP/1.1\r\n\r\n"].concat()),
        ("a long HTTP head".to_owned(), [&b"GET / HTTP/1.1\r\n"[..], &b"a: b\r\n".repeat(1 << 19)].concat()),
        ("an HTTP/2 frame of 16 MiB".to_owned(), http2(&[frame(0, 0, 1, 0xff_ffff, &noise(1 << 20, 1))])),
        ("HTTP/2 data on no stream".to_owned(), http2(&[frame(0, 0, 0, 4, b"data")])),
        ("an HTTP/2 head of noise".to_owned(), http2(&[frame(1, 4, 1, 64, &noise(64, 2))])),
        ("an HTTP/2 frame of no kind".to_owned(), http2(&[frame(0xee, 0xff, 0x7fff_ffff, 9, b"something")])),
        ("an HTTP/2 flood of settings".to_owned(), http2(&vec![frame(4, 0, 0, 0, &[]); 50_000])),
        ("an HTTP/2 flood of pings".to_owned(), http2(&vec![frame(6, 0, 0, 8, b"pingpong"); 50_000])),
    ]);
    cases.extend((0..20).map(|seed| (format!("noise {seed}"), noise(64 << (seed % 12), seed))));
    cases
}

/// The node is what it was: healthy, and it takes and gives records.
fn assert_serves(cluster: &mut Cluster, after: &str) {
    assert!(cluster.node_mut(0).is_running(), "the node ended after {after}");
    assert!(cluster.node(0).is_healthy(), "the node is not healthy after {after}");
    let produced = cluster.node(0).client().produce(TOPIC, after).expect("an answer");
    assert_eq!(produced.error_code, 0, "after {after}");
    let fetched = cluster.node(0).client().fetch(TOPIC, produced.offset, LIMIT).expect("an answer");
    assert_eq!(fetched.values, [after]);
    assert!(cluster.node(0).cluster_status().is_some(), "the port for calls between nodes answers after {after}");
}

#[test]
fn nonsense_on_any_port_disturbs_nobody() {
    let mut cluster = Cluster::start(Layout { nodes: 1, broker_groups: 1, tables: "" });
    cluster.node(0).client().create_topic(TOPIC, &[]);
    assert_serves(&mut cluster, "nothing");
    let before = cluster.node(0).resident_bytes();
    for (name, port) in ports(&cluster) {
        for (what, bytes) in nonsense() {
            let answer = answer_to(port, &bytes);
            assert!(!answer.starts_with(b"HTTP/1.1 2"), "{what} on {name} is answered as if it were a request");
        }
        assert_serves(&mut cluster, name);
    }
    let grown = cluster.node(0).resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes");
    let said = cluster.node(0).output();
    assert!(!said.contains("panicked"), "{said}");
}

/// Connections that say half of something and stay are many, and cost little.
#[test]
fn clients_that_never_finish_a_request_keep_nobody_out() {
    const CONNECTIONS: usize = 200;
    let mut cluster = Cluster::start(Layout { nodes: 1, broker_groups: 1, tables: "" });
    cluster.node(0).client().create_topic(TOPIC, &[]);
    assert_serves(&mut cluster, "nothing");
    let before = cluster.node(0).resident_bytes();
    // Kafka: the beginning of a frame of 90 MiB, most of what is allowed. RocketMQ: the beginning of a TLS handshake.
    let halves: [&[u8]; 4] =
        [b"\x05\xa0\0\0\0\0\0\x09", b"\x16\x03\x01\x02\0\x01", b"GET /health HTTP/1.1\r\nHo", &HTTP2_PREFACE[..20]];
    let mut open = Vec::new();
    for ((name, port), half) in ports(&cluster).into_iter().zip(halves) {
        for _ in 0..CONNECTIONS {
            let mut stream = connect(port);
            stream.write_all(half).expect("a few bytes");
            open.push(stream);
        }
        assert_serves(&mut cluster, name);
    }
    let grown = cluster.node(0).resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes");
    drop(open);
    wait_for("the connections are gone", LIMIT, || {
        let (_, metrics) = cluster.node(0).get("/metrics").expect("metrics");
        let gone = ["duolog_kafka_connections 0", "duolog_rocketmq_connections 0"];
        gone.iter().all(|gone| metrics.lines().any(|line| line == *gone))
    });
}

/// What is a request and cannot be granted is answered with an error of its own, and the connection goes on.
#[test]
fn wrong_topics_and_batches_are_refused_one_by_one() {
    const CORRUPT_MESSAGE: i16 = 2;
    const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    const INVALID_TOPIC: i16 = 17;
    const UNSUPPORTED_FOR_MESSAGE_FORMAT: i16 = 43;
    const INVALID_RECORD: i16 = 87;
    let cluster = Cluster::start(Layout { nodes: 1, broker_groups: 1, tables: "" });
    let mut client = cluster.node(0).client();
    client.create_topic(TOPIC, &[]);
    let good = batch("good");
    let mut damaged = good.to_vec();
    *damaged.last_mut().expect("a batch has bytes") ^= 1;
    let half = good.slice(..good.len() / 2);
    let nonsense = Bytes::from(noise(500, 1));
    let cases = [
        ("a damaged batch", TOPIC, 0, damaged.into(), &[CORRUPT_MESSAGE][..]),
        ("half a batch", TOPIC, 0, half, &[CORRUPT_MESSAGE, INVALID_RECORD]),
        ("noise", TOPIC, 0, nonsense, &[UNSUPPORTED_FOR_MESSAGE_FORMAT]),
        ("no batch", TOPIC, 0, Bytes::new(), &[INVALID_RECORD]),
        ("an unknown topic", "unknown", 0, good.clone(), &[UNKNOWN_TOPIC_OR_PARTITION]),
        ("a name that is not allowed", "../t", 0, good.clone(), &[UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC]),
        ("an unknown partition", TOPIC, 1, good.clone(), &[UNKNOWN_TOPIC_OR_PARTITION]),
        ("a negative partition", TOPIC, -1, good.clone(), &[UNKNOWN_TOPIC_OR_PARTITION]),
    ];
    for (what, topic, partition, records, expected) in cases {
        let produced = client.produce_records(topic, partition, records).expect("an answer");
        assert!(expected.contains(&produced.error_code), "{what}: {}", produced.error_code);
    }
    assert_eq!(client.produce_records(TOPIC, 0, good).expect("an answer").offset, 0, "nothing else was stored");
    assert_eq!(client.fetch_all(TOPIC), ["good"]);
}

#[test]
fn http_says_what_it_does_not_have() {
    let cluster = Cluster::start(Layout { nodes: 1, broker_groups: 1, tables: "" });
    let status = |path: &str| cluster.node(0).get(path).map(|(status, _)| status);
    assert_eq!(status("/nothing-here"), Some(404));
    // The writing half stays open: a client that closes it before it has its answer has given up, as far as HTTP/1 is concerned.
    let mut stream = connect(cluster.node(0).ports.http);
    stream.write_all(b"DELETE /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
    let answer = read_to_end(&mut stream);
    assert!(answer.starts_with(b"HTTP/1.1 405"), "{}", String::from_utf8_lossy(&answer));
}
