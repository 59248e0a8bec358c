//! Producers and consumers of the simulation, and the read after everything.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use duolog_broker::BrokerError;
use duolog_chaos::history::{Event, Place, Value};
use duolog_chaos::recorder::Recorder;
use duolog_record::BatchBuilder;
use duolog_types::{ProducerEpoch, ProducerId, TimestampMs};
use tokio::time::{Instant, sleep};

use crate::cluster::{Failure, SimCluster};
use crate::random::Random;

/// A producer that cannot get rid of a record gives up after this time: no fault lasts so long.
const GIVE_UP: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(20);
/// Time for the cluster to come to rest.
pub const RECOVERY: Duration = Duration::from_secs(60);

/// What all clients share.
#[derive(Clone)]
pub struct Clients {
    pub cluster: SimCluster,
    pub recorder: Arc<Recorder>,
    /// Set when the load is over.
    pub is_over: Rc<Cell<bool>>,
}

fn batch(value: Value, identity: Option<(u32, u64)>) -> Bytes {
    let mut builder = BatchBuilder::new();
    if let Some((producer, sequence)) = identity {
        let sequence = i32::try_from(sequence).unwrap_or(i32::MAX);
        builder = builder.producer(ProducerId(i64::from(producer)), ProducerEpoch(0), sequence);
    }
    builder.push(TimestampMs(-1), None, Some(&value.payload())).expect("a small record");
    builder.build().expect("a small batch").into_bytes()
}

/// Sends records to one partition, one after the other; each until it is known to be there.
pub async fn produce(clients: Clients, place: Place, producer: u32, mut random: Random) {
    let Clients { cluster, recorder, is_over } = clients;
    let mut node = random.below(cluster.nodes.len() as u64) as usize;
    let mut sequence = 0;
    while !is_over.get() {
        let value = Value::Sent { producer, sequence };
        let records = batch(value, Some((producer, sequence)));
        let end = Instant::now() + GIVE_UP;
        loop {
            match cluster.produce(node, place, records.clone()).await {
                Ok(offset) => {
                    let by = Some(cluster.nodes[node].id);
                    let time_ms = recorder.now_ms();
                    let offset = Some(offset.0);
                    recorder.record(Event::Acked { sent_ms: None, time_ms, place, offset, value, by });
                    break;
                }
                Err(Failure::Final(BrokerError::DuplicateSequence)) => {
                    let by = Some(cluster.nodes[node].id);
                    let time_ms = recorder.now_ms();
                    recorder.record(Event::Acked { sent_ms: None, time_ms, place, offset: None, value, by });
                    break;
                }
                Err(Failure::Final(error)) => {
                    let (time_ms, error) = (recorder.now_ms(), error.to_string());
                    recorder.record(Event::ProducerDied { time_ms, topic: place.topic, producer, error });
                    return;
                }
                Err(Failure::Refused | Failure::Unknown) if Instant::now() < end => {
                    node = (node + 1) % cluster.nodes.len();
                    sleep(PAUSE).await;
                }
                Err(Failure::Refused | Failure::Unknown) => {
                    let error = "given up".to_owned();
                    recorder.record(Event::NotAcked { time_ms: recorder.now_ms(), place, value, error });
                    recorder.record(Event::ProducerEnded { topic: place.topic, producer, sent: sequence + 1 });
                    return;
                }
            }
        }
        sequence += 1;
        sleep(random.ms(0..30)).await;
    }
    recorder.record(Event::ProducerEnded { topic: place.topic, producer, sent: sequence });
}

/// Reads a partition as it grows.
pub async fn consume(clients: Clients, place: Place, reader: u32, mut random: Random) {
    let Clients { cluster, recorder, is_over } = clients;
    let mut node = random.below(cluster.nodes.len() as u64) as usize;
    let mut position = 0;
    while !is_over.get() {
        match cluster.read(node, place, position).await {
            Ok((values, ..)) => {
                for (offset, value) in values {
                    recorder.record(Event::Seen { time_ms: recorder.now_ms(), reader, place, offset, value });
                    position = offset + 1;
                }
            }
            Err(Failure::Final(BrokerError::OffsetOutOfRange { found, start, end_inclusive })) => {
                let (time_ms, error) = (recorder.now_ms(), format!("{found} is not in {start}..={end_inclusive}"));
                recorder.record(Event::ReaderReset { time_ms, reader, place, error });
                position = 0;
            }
            Err(_) => {
                node = (node + 1) % cluster.nodes.len();
                sleep(PAUSE).await;
            }
        }
    }
}

/// After the faults: every node gets ready, every partition takes a record and is read from its start to its end, and the states of
/// the replicas are equal.
pub async fn final_read(clients: &Clients) {
    let Clients { cluster, recorder, .. } = clients;
    for node in cluster.ready(RECOVERY).await {
        recorder.record(Event::NodeNotReady { node, waited_ms: RECOVERY.as_millis() as u64 });
    }
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
    sleep(Duration::from_secs(5)).await;
    for node in cluster.nodes.iter() {
        let hashes = node.call(|broker| async move { broker.state_hashes() }).await;
        for (group, applied_index, hash) in hashes.and_then(Result::ok).unwrap_or_default() {
            let hash = format!("{hash:016x}");
            recorder.record(Event::StateHash { node: node.id, broker_group: group.0, applied_index, hash });
        }
    }
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
            Ok((values, high_watermark, log_start_offset)) => {
                for (offset, value) in values {
                    recorder.record(Event::FinalRecord { place, offset, value });
                    seen |= Some(offset) == probe;
                    position = offset + 1;
                }
                // With asynchronous replication a record is visible some time after its acknowledgement.
                if position >= high_watermark && (seen || probe.is_none()) {
                    let read_all = true;
                    recorder.record(Event::FinalEnd { place, log_start_offset, high_watermark, read_all });
                    return seen;
                }
            }
            Err(_) => {
                node = (node + 1) % cluster.nodes.len();
                sleep(PAUSE).await;
            }
        }
    }
    false
}
