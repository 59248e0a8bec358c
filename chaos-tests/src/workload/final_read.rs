//! The read of a whole topic, from the start to the high watermark, after everything else: what the checkers call final.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;

use super::{Shared, tail};
use crate::client;
use crate::history::{Event, Place, Value};
use crate::recorder::wait_until;

/// Without a record for so long, a partition counts as unreadable.
const SILENCE_LIMIT: Duration = Duration::from_secs(20);

pub fn run(shared: &Shared, topic: u16) -> Result<()> {
    let consumer: BaseConsumer = client::reader(&shared.bootstrap).create()?;
    let mut bounds = BTreeMap::new();
    for place in shared.places_of(topic) {
        bounds.insert(place, watermarks(&consumer, shared, place)?);
    }
    let mut next: BTreeMap<Place, i64> =
        bounds.iter().map(|(place, (log_start_offset, _))| (*place, *log_start_offset)).collect();
    tail::assign(&consumer, shared, &next)?;
    let mut heard_at = Instant::now();
    while next.iter().any(|(place, next)| *next < bounds[place].1) && heard_at.elapsed() < SILENCE_LIMIT {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) else { continue };
        let place = Place { topic, partition: message.partition() };
        let offset = message.offset();
        // Nothing is sent any more, so nothing lies beyond; if it did, the next run would say so.
        if offset < bounds[&place].1 {
            let value = Value::of_payload(message.payload().unwrap_or_default());
            shared.recorder.record(Event::FinalRecord { place, offset, value });
            next.insert(place, offset + 1);
            heard_at = Instant::now();
        }
    }
    for (place, (log_start_offset, high_watermark)) in bounds {
        let read_all = next[&place] >= high_watermark;
        shared.recorder.record(Event::FinalEnd { place, log_start_offset, high_watermark, read_all });
    }
    Ok(())
}

fn watermarks(consumer: &BaseConsumer, shared: &Shared, place: Place) -> Result<(i64, i64)> {
    let mut answer = None;
    wait_until(SILENCE_LIMIT, || {
        answer = consumer.fetch_watermarks(shared.name(place.topic), place.partition, client::ASK_LIMIT).ok();
        answer.is_some()
    });
    answer.with_context(|| {
        format!("nobody tells the offsets of {} partition {}", shared.name(place.topic), place.partition)
    })
}
