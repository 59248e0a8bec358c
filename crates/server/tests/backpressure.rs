//! Whoever sends much or reads nothing is slowed down: the node's memory stays bounded, and others are served.

mod common;

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use common::{Client, Cluster, Layout, wait_for};

const SMALL: &str = "small";
const GREEDY: &str = "greedy";
const LIMIT: Duration = Duration::from_secs(60);

fn start(tables: &'static str) -> Cluster {
    let cluster = Cluster::start(Layout { nodes: 1, broker_groups: 1, tables });
    for topic in [SMALL, GREEDY] {
        cluster.node(0).client().create_topic(topic, &[]);
    }
    cluster
}

/// A consumer that asks for everything many times and reads nothing has one answer computed at a time, not one for each of its
/// requests; and many of them have a bound together.
#[test]
fn consumers_that_read_nothing_cost_few_answers() {
    const RECORDS: usize = 24;
    const CONSUMERS: usize = 8;
    const REQUESTS: usize = 40;
    const GROWTH_BYTES_MAX: u64 = 256 << 20;
    let cluster = start("[memory]\nlog_tail_bytes = 1048576\n");
    let value = "v".repeat(900_000);
    let mut client = cluster.node(0).client();
    for _ in 0..RECORDS {
        assert_eq!(client.produce(GREEDY, &value).expect("an answer").error_code, 0);
    }
    let before = cluster.node(0).resident_bytes();
    let mut slow: Vec<Client> = (0..CONSUMERS).map(|_| cluster.node(0).client()).collect();
    for consumer in &mut slow {
        for _ in 0..REQUESTS {
            consumer.ask_for_everything(GREEDY).expect("the requests are small");
        }
    }
    let fetches = || {
        let (_, metrics) = cluster.node(0).get("/metrics").expect("metrics");
        let line = metrics.lines().find(|line| line.starts_with("duolog_kafka_requests_total{api=\"Fetch\"}"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).unwrap_or(0)
    };
    wait_for("the node has read the requests", LIMIT, || fetches() >= CONSUMERS);
    for i in 0..50 {
        let value = i.to_string();
        let produced = client.produce(SMALL, &value).expect("an answer");
        assert_eq!(client.fetch(SMALL, produced.offset, LIMIT).expect("an answer").values, [value]);
    }
    let grown = cluster.node(0).resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "{} MiB", grown >> 20);
    // Slow is not lost: who reads at last gets what it asked for.
    let answer = slow[0].answer_for_everything().expect("the answer is there");
    assert!(!answer.values.is_empty());
}

/// Producers that fill every queue they find, and one that sends a record at a time to another topic of the same broker group.
#[test]
fn a_flood_on_one_topic_does_not_starve_another() {
    const PRODUCERS: usize = 16;
    const RECORDS: usize = 30;
    const GROWTH_BYTES_MAX: u64 = 512 << 20;
    let mut cluster = start("");
    let before = cluster.node(0).resident_bytes();
    let (stop, flooded) = (AtomicBool::new(false), AtomicUsize::new(0));
    let port = cluster.node(0).ports.kafka;
    let value = "v".repeat(500_000);
    std::thread::scope(|scope| {
        for _ in 0..PRODUCERS {
            scope.spawn(|| {
                let client = Client::connect(port).expect("the node accepts connections");
                client.flood(GREEDY, &value, &stop, &flooded);
            });
        }
        let end_with = EndWith(&stop);
        wait_for("the flood is on", LIMIT, || flooded.load(Ordering::Relaxed) > 2 * PRODUCERS);
        let begin = flooded.load(Ordering::Relaxed);
        let mut small = Client::connect(port).expect("the node accepts connections");
        for i in 0..RECORDS {
            let produced = small.produce(SMALL, &i.to_string()).expect("an answer in time");
            assert_eq!((produced.error_code, produced.offset), (0, i as i64));
        }
        let meanwhile = flooded.load(Ordering::Relaxed) - begin;
        // In turn with the others, a record waits behind what each of them has sent before, and no longer.
        let fair = RECORDS * PRODUCERS * 40;
        assert!(meanwhile > 0 && meanwhile < fair, "{meanwhile} of the flood went before {RECORDS} records");
        drop(end_with);
    });
    let grown = cluster.node(0).resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "{} MiB", grown >> 20);
    assert!(cluster.node_mut(0).is_running() && cluster.node(0).is_healthy());
}

/// Ends the flood also when an assertion fails, else the threads would never be joined.
struct EndWith<'a>(&'a AtomicBool);

impl Drop for EndWith<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// More connections than the process may have files: those that are too many are closed, the rest of the node has its files.
#[test]
fn a_flood_of_connections_leaves_the_node_its_files() {
    const FILES: u64 = 400;
    let mut cluster =
        Cluster::down(Layout { nodes: 1, broker_groups: 1, tables: "[log]\nsegment_size_bytes = 1048576\n" });
    cluster.node_mut(0).limit_files(FILES);
    cluster.node_mut(0).start();
    cluster.wait_ready();
    let mut client = cluster.node(0).client();
    client.create_topic(SMALL, &[]);
    let ports = cluster.node(0).ports;
    let mut open = Vec::new();
    for port in [ports.kafka, ports.http] {
        open.extend((0..FILES).map_while(|_| TcpStream::connect(("127.0.0.1", port)).ok()));
    }
    assert!(open.len() as u64 > FILES, "{} connections", open.len());
    // Every record needs a segment of its own, every segment a file.
    let value = "v".repeat(900_000);
    for i in 0..20 {
        let produced = client.produce(SMALL, &value).expect("an answer");
        assert_eq!((produced.error_code, produced.offset), (0, i));
    }
    drop(open);
    wait_for("others are served again", LIMIT, || cluster.node(0).is_healthy());
    assert_eq!(cluster.node(0).client().produce(SMALL, "after").expect("an answer").error_code, 0);
}
