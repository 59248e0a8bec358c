//! What is measured: one row per case.

use super::super::duolog::Durability;
use super::side::{KafkaFlush, Topic};

/// Records per second of the latency cases.
pub const LATENCY_RECORDS_PER_SECOND: u32 = 3_000;
pub const LATENCY_SECONDS: u32 = 20;
/// Records of an end-to-end case, one at a time.
pub const END_TO_END_RECORDS: u32 = 4_000;

/// What a case does to a started cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// As fast as the load tool can; the records stay for a `Consume`.
    Produce,
    /// A topic that a run of `Produce` has filled.
    Consume,
    /// A fixed rate.
    Latency,
    /// One record at a time, from produce to consume.
    EndToEnd,
    /// kill -9 of the leader of a topic with one partition.
    LeaderKill,
}

#[derive(Clone)]
pub struct Case {
    pub name: String,
    pub load: Load,
    pub record_bytes: u64,
    pub topic: Topic,
}

/// Cases that run one after the other on a cluster, which is started anew for each round.
pub struct Suite {
    pub nodes: u16,
    pub cases: Vec<Case>,
}

pub fn suites() -> Vec<Suite> {
    vec![three_nodes(), Suite { nodes: 3, cases: leader_kills() }, one_node()]
}

fn three_nodes() -> Suite {
    use Durability::{SyncAsync, SyncSync};
    use KafkaFlush::{EveryMessage, Os};
    use Load::{Consume, EndToEnd, Latency, Produce};
    let mut cases = Vec::new();
    let mut add = |name: &str, load, record_bytes, partitions, durability: Durability, kafka_flush| {
        let topic = Topic { partitions, durability, kafka_flush };
        cases.push(Case { name: format!("{name}-{}", durability.name()), load, record_bytes, topic });
    };
    for durability in [SyncSync, SyncAsync] {
        add("produce-1k", Produce, 1_024, 8, durability, Os);
        if durability == SyncSync {
            add("consume-1k", Consume, 1_024, 8, durability, Os);
        }
        add("produce-100b", Produce, 100, 8, durability, Os);
        if durability == SyncSync {
            add("consume-100b", Consume, 100, 8, durability, Os);
        }
        add("produce-1k-1-partition", Produce, 1_024, 1, durability, Os);
        add("latency-1k", Latency, 1_024, 8, durability, Os);
        add("end-to-end-1k", EndToEnd, 1_024, 1, durability, Os);
    }
    // Kafka with a flush for every batch is its nearest to sync/sync.
    add("produce-1k-kafka-flushes", Produce, 1_024, 8, SyncSync, EveryMessage);
    add("latency-1k-kafka-flushes", Latency, 1_024, 8, SyncSync, EveryMessage);
    add("end-to-end-1k-kafka-flushes", EndToEnd, 1_024, 1, SyncSync, EveryMessage);
    // Last: the deletion of so many partitions goes on for a while behind them.
    for durability in [SyncSync, SyncAsync] {
        add("produce-1k-1000-partitions", Produce, 1_024, 1_000, durability, Os);
    }
    Suite { nodes: 3, cases }
}

fn leader_kills() -> Vec<Case> {
    let topic = Topic { partitions: 1, durability: Durability::SyncSync, kafka_flush: KafkaFlush::Os };
    vec![Case { name: "leader-kill-sync-sync".to_owned(), load: Load::LeaderKill, record_bytes: 1_024, topic }]
}

fn one_node() -> Suite {
    let mut cases = Vec::new();
    for durability in [Durability::SyncSync, Durability::SyncAsync] {
        for (size, record_bytes) in [("1k", 1_024), ("100b", 100)] {
            let name = format!("one-node-produce-{size}-{}", durability.name());
            let topic = Topic { partitions: 8, durability, kafka_flush: KafkaFlush::Os };
            cases.push(Case { name, load: Load::Produce, record_bytes, topic });
        }
    }
    Suite { nodes: 1, cases }
}
