//! Producers and consumers of the topics of all modes.

use std::time::Duration;

use duolog_broker::BrokerError;
use duolog_chaos::history::{Event, Place, Value};
use tokio::time::{Instant, sleep};

use super::{Clients, Phase, batch};
use crate::cluster::{Failure, PAUSE};
use crate::random::Random;

/// A producer that cannot get rid of a record gives up after this time: no fault lasts so long.
const GIVE_UP: Duration = Duration::from_secs(90);

/// Sends records to one partition, one after the other; each until it is known to be there.
pub async fn produce(clients: Clients, place: Place, producer: u32, mut random: Random) {
    let Clients { cluster, recorder, phase, .. } = clients;
    let mut node = random.below(cluster.nodes.len() as u64) as usize;
    let mut sequence = 0;
    while phase.get() == Phase::Load {
        let value = Value::Sent { producer, sequence };
        let records = batch(value, Some((producer, sequence)));
        let end = Instant::now() + GIVE_UP;
        loop {
            match cluster.produce(node, place, records.clone()).await {
                Ok(offset) => {
                    let by = Some(cluster.nodes[node].id);
                    let time_ms = recorder.now_ms();
                    recorder.record(Event::Acked { sent_ms: None, time_ms, place, offset: Some(offset.0), value, by });
                    break;
                }
                Err(Failure::Final(BrokerError::DuplicateSequence)) => {
                    let by = Some(cluster.nodes[node].id);
                    recorder.record(Event::Acked {
                        sent_ms: None,
                        time_ms: recorder.now_ms(),
                        place,
                        offset: None,
                        value,
                        by,
                    });
                    break;
                }
                Err(Failure::Final(error)) => {
                    let (time_ms, error) = (recorder.now_ms(), error.to_string());
                    recorder.record(Event::ProducerDied { time_ms, topic: place.topic, producer, error });
                    return;
                }
                Err(Failure::Refused | Failure::Unknown(_)) if Instant::now() < end => {
                    node = cluster.after(node);
                    sleep(PAUSE).await;
                }
                Err(Failure::Refused | Failure::Unknown(_)) => {
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
    let Clients { cluster, recorder, phase, .. } = clients;
    let mut node = random.below(cluster.nodes.len() as u64) as usize;
    let mut position = 0;
    while phase.get() == Phase::Load {
        match cluster.read(node, place, position).await {
            Ok(read) => {
                for (offset, value) in read.values() {
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
                node = cluster.after(node);
                sleep(PAUSE).await;
            }
        }
    }
}
