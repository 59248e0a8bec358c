//! What Kafka's clients see of the topics of messages, and the end: everything is delivered, then everything is read.

use std::time::Duration;

use duolog_chaos::history::messages::{MessageEvent, Spot};
use tokio::time::{Instant, sleep};

use super::{Clients, ms};
use crate::cluster::PAUSE;
use crate::workload::{Phase, RECOVERY};

/// How long the broker may take, after the faults, to give everything to everybody. A half message is asked about every 30 s.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
/// How long producers may take, after the load, to learn how their last messages ended.
const PRODUCERS_LIMIT: Duration = Duration::from_secs(45);

/// Follows a partition from the start.
pub async fn follow(clients: Clients, topic: u16, partition: i32) {
    let name = clients.message_topic(topic).name.clone();
    let (mut node, mut position) = (0, 0);
    while clients.phase.get() != Phase::Over {
        match clients.cluster.read_topic(node, &name, partition, position).await {
            Ok(read) => {
                for (offset, value) in read.values() {
                    let (time_ms, spot) = (clients.recorder.now_ms(), Spot { topic, partition, offset });
                    clients.record(MessageEvent::Read { time_ms, spot, value });
                    position = offset + 1;
                }
            }
            Err(_) => {
                node = clients.cluster.after(node);
                sleep(PAUSE).await;
            }
        }
    }
}

/// After the load and with all nodes up: waits until nothing is owed any more.
pub async fn drain(clients: &Clients) {
    let end = Instant::now() + PRODUCERS_LIMIT;
    while clients.producers.get() > 0 && Instant::now() < end {
        sleep(PAUSE).await;
    }
    let begin = Instant::now();
    let owed = || clients.ledger.owed();
    while (owed() > 0 || clients.ledger.silence() < clients.silence()) && begin.elapsed() < DRAIN_LIMIT {
        sleep(PAUSE).await;
    }
    clients.record(MessageEvent::Drained { waited_ms: ms(begin.elapsed()), owed: owed() });
}

/// Reads every partition from the start to the end.
pub async fn read_back(clients: &Clients) {
    for topic in 0..clients.cluster.message_topics.len() as u16 {
        for partition in 0..clients.message_topic(topic).partition_count {
            read_partition(clients, topic, partition).await;
        }
    }
}

async fn read_partition(clients: &Clients, topic: u16, partition: i32) {
    let name = clients.message_topic(topic).name.clone();
    let (mut node, mut position) = (0, 0);
    let end = Instant::now() + RECOVERY;
    while Instant::now() < end {
        let Ok(read) = clients.cluster.read_topic(node, &name, partition, position).await else {
            node = clients.cluster.after(node);
            sleep(PAUSE).await;
            continue;
        };
        for (offset, value) in read.values() {
            clients.record(MessageEvent::FinalRecord { spot: Spot { topic, partition, offset }, value });
            position = offset + 1;
        }
        if position >= read.high_watermark {
            let (high_watermark, read_all) = (read.high_watermark, true);
            clients.record(MessageEvent::FinalEnd { topic, partition, high_watermark, read_all });
            return;
        }
    }
}
