//! After the faults: does each topic take one record per partition, and serve it?

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Shared, producer};
use crate::history::{Event, Place, Value};
use crate::recorder::wait_until;

/// How long a topic may take to work again.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The tail readers must still run: they are who sees the records.
pub fn run(shared: &Arc<Shared>, topic: u16, producer_id: u32) -> Result<()> {
    let settings = producer::Settings { topic, producer: producer_id, records_per_second: 1 };
    let from = shared.recorder.len();
    let begin = Instant::now();
    let kafka = producer::connect(shared, &settings)?;
    let partition_count = shared.topics[usize::from(topic)].partition_count as usize;
    for sequence in 0..partition_count as u64 {
        producer::send(&kafka, shared, &settings, sequence)?;
    }
    shared.recorder.record(Event::ProducerEnded { topic, producer: producer_id, sent: partition_count as u64 });
    let is_mine = |value: &Value| matches!(value, Value::Sent { producer, .. } if *producer == producer_id);
    let count = |pick: &dyn Fn(&Event) -> Option<Place>| {
        shared.recorder.look(from, |events| events.iter().filter_map(pick).collect::<BTreeSet<_>>().len())
    };
    let acked = || {
        let places = count(&|event| match event {
            Event::Acked { place, value, .. } if is_mine(value) => Some(*place),
            _ => None,
        });
        places == partition_count
    };
    let seen = || {
        let places = count(&|event| match event {
            Event::Seen { place, value, .. } if is_mine(value) => Some(*place),
            _ => None,
        });
        places == partition_count
    };
    wait_until(LIMIT, || acked() && seen());
    let waited_ms = begin.elapsed().as_millis() as u64;
    shared.recorder.record(Event::Probe { topic, waited_ms, acked: acked(), seen: seen() });
    Ok(())
}
