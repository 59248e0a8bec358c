//! The read after everything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use duolog_chaos::history::{Event, Place, Value};
use tokio::time::{Instant, sleep};

use super::{Clients, Phase, RECOVERY, batch, groups, messages, replicas};
use crate::cluster::{PAUSE, Read, SimCluster};
use crate::node::Standing;

/// Between two looks at the states of replicas.
const SETTLING: Duration = Duration::from_secs(5);

/// After the faults: every node gets ready, every partition takes a record and is read from its start to its end, each replica serves
/// the same, and their states are equal.
pub async fn final_read(clients: &Clients) {
    let Clients { cluster, recorder, .. } = clients;
    for node in cluster.ready(RECOVERY).await {
        recorder.record(Event::NodeNotReady { node, waited_ms: RECOVERY.as_millis() as u64 });
    }
    messages::drain(clients).await;
    clients.phase.set(Phase::Over);
    messages::read_back(clients).await;
    groups::ask_all(clients).await;
    for (topic, of_topic) in (0_u16..).zip(cluster.topics.iter()) {
        let places: Vec<Place> = (0..of_topic.partition_count).map(|partition| Place { topic, partition }).collect();
        let begun = Instant::now();
        let mut taken = Vec::new();
        for place in &places {
            taken.push(probe(cluster, *place).await);
        }
        let mut seen = true;
        for (place, probe) in places.iter().zip(&taken) {
            seen &= read_all(clients, *place, *probe).await;
        }
        let (producer, sent) = (prober(topic), places.len() as u64);
        recorder.record(Event::ProducerEnded { topic, producer, sent });
        let acked = taken.iter().all(Option::is_some);
        recorder.record(Event::Probe { topic, waited_ms: begun.elapsed().as_millis() as u64, acked, seen });
    }
    replicas::read_from_each(clients).await;
    record_states(clients).await;
}

/// The states of all replicas, once they stand still: leaders go back to where they belong first, which takes entries.
async fn record_states(clients: &Clients) {
    let end = Instant::now() + RECOVERY;
    let states = loop {
        sleep(SETTLING).await;
        let states = states(&clients.cluster).await;
        let mut by_group: BTreeMap<u32, BTreeSet<u64>> = BTreeMap::new();
        for (_, group, applied_index, _) in &states {
            by_group.entry(*group).or_default().insert(*applied_index);
        }
        if by_group.values().all(|indexes| indexes.len() == 1) || Instant::now() >= end {
            break states;
        }
    };
    for (node, broker_group, applied_index, hash) in states {
        let hash = format!("{hash:016x}");
        clients.recorder.record(Event::StateHash { node, broker_group, applied_index, hash });
    }
}

/// Node, broker group, applied index and hash of each replica.
async fn states(cluster: &SimCluster) -> Vec<(u32, u32, u64, u64)> {
    let mut states = Vec::new();
    for node in cluster.nodes.iter().filter(|node| node.standing() == Standing::Present) {
        let hashes = node.call(|broker| async move { broker.state_hashes() }).await;
        let hashes = hashes.and_then(Result::ok).unwrap_or_default();
        states.extend(hashes.into_iter().map(|(group, applied_index, hash)| (node.id, group.0, applied_index, hash)));
    }
    states
}

/// The producer of a topic's probes.
fn prober(topic: u16) -> u32 {
    u32::MAX - u32::from(topic)
}

/// A record of its own; gives its offset. It may be there more than once when an answer was lost.
async fn probe(cluster: &SimCluster, place: Place) -> Option<i64> {
    let value = Value::Sent { producer: prober(place.topic), sequence: place.partition as u64 };
    let end = Instant::now() + RECOVERY;
    for turn in 0.. {
        let node = turn % cluster.nodes.len();
        if let Ok(offset) = cluster.produce(node, place, batch(value, None)).await {
            return Some(offset.0);
        }
        if Instant::now() >= end {
            break;
        }
        sleep(PAUSE).await;
    }
    None
}

/// Reads a partition from its start to its end; whether the probe's record was there.
async fn read_all(clients: &Clients, place: Place, probe: Option<i64>) -> bool {
    let Clients { cluster, recorder, .. } = clients;
    let (mut position, mut node, mut seen) = (0, 0, false);
    let end = Instant::now() + RECOVERY;
    while Instant::now() < end {
        match cluster.read(node, place, position).await {
            Ok(read) => {
                for (offset, value) in read.values() {
                    recorder.record(Event::FinalRecord { place, offset, value });
                    seen |= Some(offset) == probe;
                    position = offset + 1;
                }
                // With asynchronous replication a record is visible some time after its acknowledgement.
                let Read { high_watermark, log_start_offset, .. } = read;
                if position >= high_watermark && (seen || probe.is_none()) {
                    let read_all = true;
                    recorder.record(Event::FinalEnd { place, log_start_offset, high_watermark, read_all });
                    return seen;
                }
            }
            Err(_) => {
                node = cluster.after(node);
                sleep(PAUSE).await;
            }
        }
    }
    false
}
