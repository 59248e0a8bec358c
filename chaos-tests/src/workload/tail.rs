//! A reader that follows every partition of a topic from offset 0 and records what it is given.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::{Shared, Stop};
use crate::client;
use crate::history::{Event, Place, Value};

const POLL: Duration = Duration::from_millis(100);

pub fn run(shared: &Shared, topic: u16, reader: u32, stop: &Stop) -> Result<()> {
    let consumer: BaseConsumer = client::reader(&shared.bootstrap).create()?;
    let mut next: BTreeMap<Place, i64> = shared.places_of(topic).map(|place| (place, 0)).collect();
    assign(&consumer, shared, &next)?;
    while !stop.is_wanted() {
        match consumer.poll(POLL) {
            None => {}
            Some(Ok(message)) => {
                let place = Place { topic, partition: message.partition() };
                let value = Value::of_payload(message.payload().unwrap_or_default());
                let (time_ms, offset) = (shared.recorder.now_ms(), message.offset());
                shared.recorder.record(Event::Seen { time_ms, reader, place, offset, value });
                next.insert(place, offset + 1);
            }
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => {
                lost_position(&consumer, shared, reader, &mut next)?;
                assign(&consumer, shared, &next)?;
            }
            // Everything else (a broker is away, time-outs) is repeated by the client itself.
            Some(Err(_)) => {}
        }
    }
    Ok(())
}

/// The client does not say which partition's position is gone: it is each whose end lies below. Those begin anew.
fn lost_position(consumer: &BaseConsumer, shared: &Shared, reader: u32, next: &mut BTreeMap<Place, i64>) -> Result<()> {
    for (place, next) in next {
        let name = shared.name(place.topic);
        let end = consumer
            .fetch_watermarks(name, place.partition, client::ASK_LIMIT)
            .map(|(_, high_watermark)| high_watermark);
        if let Ok(end) = end
            && end < *next
        {
            let error = format!("position {next} is beyond the end {end}");
            let time_ms = shared.recorder.now_ms();
            shared.recorder.record(Event::ReaderReset { time_ms, reader, place: *place, error });
            *next = 0;
        }
    }
    Ok(())
}

pub fn assign(consumer: &BaseConsumer, shared: &Shared, next: &BTreeMap<Place, i64>) -> Result<()> {
    let mut wanted = TopicPartitionList::new();
    for (place, offset) in next {
        wanted.add_partition_offset(shared.name(place.topic), place.partition, Offset::Offset(*offset))?;
    }
    Ok(consumer.assign(&wanted)?)
}
