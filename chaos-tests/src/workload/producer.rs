//! An idempotent producer that sends a known sequence at a fixed rate and records what became of each record.
//!
//! The i-th record goes to partition i modulo the number of partitions, so that the order within each partition is known.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, bindings, config::FromClientConfigAndContext};

use super::{Shared, Stop};
use crate::client;
use crate::history::{Event, Place, Value};

/// Records that may wait for their report. Enough for a fail-over, little enough to see that a topic is stuck.
const OUTSTANDING_MAX: i32 = 3_000;

/// After the load, longer than `message.timeout.ms`: then every record has a report.
const DRAIN_LIMIT: Duration = Duration::from_secs(70);

pub struct Settings {
    pub topic: u16,
    /// Unique in the run.
    pub producer: u32,
    pub records_per_second: u32,
}

pub fn run(shared: &Arc<Shared>, settings: &Settings, stop: &Stop) -> Result<()> {
    let &Settings { topic, producer, records_per_second } = settings;
    let mut kafka = connect(shared, settings)?;
    let pause = Duration::from_secs(1) / records_per_second;
    let mut next_at = Instant::now();
    let mut sequence = 0;
    while !stop.is_wanted() {
        if let Some((_, error)) = kafka.client().fatal_error() {
            let time_ms = shared.recorder.now_ms();
            shared.recorder.record(Event::ProducerDied { time_ms, topic, producer, error });
            kafka = connect(shared, settings)?;
        }
        let waiting = kafka.in_flight_count() >= OUTSTANDING_MAX;
        if !waiting && send(&kafka, shared, settings, sequence)? {
            sequence += 1;
        }
        next_at += pause;
        match next_at.checked_duration_since(Instant::now()) {
            Some(early) => sleep(early),
            // A stall is not made up for: that would be a burst that two cores cannot take.
            None => next_at = Instant::now(),
        }
    }
    shared.recorder.record(Event::ProducerEnded { topic, producer, sent: sequence });
    // Records without a report after this are as unknown as those that timed out: no ack is recorded for them.
    let _ = kafka.flush(DRAIN_LIMIT);
    Ok(())
}

pub fn connect(shared: &Arc<Shared>, settings: &Settings) -> Result<ThreadedProducer<Reports>> {
    let context = Reports { shared: Arc::clone(shared), topic: settings.topic, producer: settings.producer };
    Ok(ThreadedProducer::from_config_and_context(&client::producer(&shared.bootstrap), context)?)
}

/// False when the client's queue is full.
pub fn send(
    kafka: &ThreadedProducer<Reports>,
    shared: &Shared,
    &Settings { topic, producer, .. }: &Settings,
    sequence: u64,
) -> Result<bool> {
    let partitions = shared.topics[usize::from(topic)].partition_count as u64;
    let payload = Value::Sent { producer, sequence }.payload();
    let ticket = Ticket { sent_ms: shared.recorder.now_ms(), sequence };
    let record = BaseRecord::<(), [u8], Box<Ticket>>::with_opaque_to(shared.name(topic), Box::new(ticket))
        .partition((sequence % partitions) as i32)
        .payload(&payload);
    match kafka.send(record) {
        Ok(()) => Ok(true),
        Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull | RDKafkaErrorCode::Fatal), _)) => Ok(false),
        Err((error, _)) => Err(error.into()),
    }
}

/// What comes back with a record's report.
pub struct Ticket {
    sent_ms: u64,
    sequence: u64,
}

/// Writes each delivery report into the recorder.
pub struct Reports {
    shared: Arc<Shared>,
    topic: u16,
    producer: u32,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let (time_ms, sent_ms) = (self.shared.recorder.now_ms(), Some(ticket.sent_ms));
        let value = Value::Sent { producer: self.producer, sequence: ticket.sequence };
        let place = |message: &BorrowedMessage| Place { topic: self.topic, partition: message.partition() };
        self.shared.recorder.record(match result {
            Ok(message) => {
                let offset = Some(message.offset()).filter(|offset| *offset >= 0);
                Event::Acked { sent_ms, time_ms, place: place(message), offset, value, by: answered_by(message) }
            }
            Err((error, message)) => {
                Event::NotAcked { time_ms, place: place(message), value, error: error.to_string() }
            }
        });
    }
}

/// The node whose answer a delivery report is.
fn answered_by(message: &BorrowedMessage) -> Option<u32> {
    // SAFETY: the message lives as long as the borrow, and the function only reads it.
    let node = unsafe { bindings::rd_kafka_message_broker_id(message.ptr()) };
    u32::try_from(node).ok()
}
