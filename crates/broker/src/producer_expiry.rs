//! Idempotent producers expire: a leader looks, by its own clock, and proposes to forget those that have sent nothing for
//! long (`producer.id.expiration.ms`). Apply forgets only a producer whose last batch is still the one that was seen.
//!
//! As in Kafka, the age of a producer is that of the greatest timestamp of its last batch. A producer that comes back
//! later may begin with any sequence.

use std::sync::Arc;
use std::time::Duration;

use duolog_state::command::{Command, PartitionCommand};
use duolog_state::rows::ProducerRow;
use duolog_state::{StateError, reader};
use duolog_types::{FlushWish, Offset, ProducerId, TimestampMs};

use crate::broker::Broker;
use crate::produce::now;
use crate::runtime::GroupRuntime;

/// Producers of one command, so that no command grows large.
const PRODUCERS_PER_COMMAND: usize = 1_000;

/// Runs as long as the node does.
pub(crate) async fn run(broker: Broker, runtime: Arc<GroupRuntime>, interval: Duration, expiration_ms: i64) {
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if runtime.subscribe_serving().borrow().is_none() {
            continue;
        }
        match idle(&broker, &runtime, now(), expiration_ms) {
            Ok(commands) => propose(&runtime, commands).await,
            Err(error) => tracing::error!(broker_group = %runtime.id(), %error, "cannot look for idle producers"),
        }
    }
}

fn idle(
    broker: &Broker,
    runtime: &GroupRuntime,
    now: TimestampMs,
    expiration_ms: i64,
) -> Result<Vec<Command>, StateError> {
    let tables = runtime.tables();
    let mut commands = Vec::new();
    for partition in broker.hosted_partitions(runtime.id()) {
        let producers = reader::producers(&*tables, partition)?;
        let seen: Vec<_> = producers.iter().filter_map(|(id, row)| expired(*id, row, now, expiration_ms)).collect();
        commands.extend(
            seen.chunks(PRODUCERS_PER_COMMAND)
                .map(|seen| Command::Partitions(PartitionCommand::ForgetProducers { partition, seen: seen.to_vec() })),
        );
    }
    Ok(commands)
}

/// The producer with the base offset of its last batch, if it is to go.
fn expired(id: ProducerId, row: &ProducerRow, now: TimestampMs, expiration_ms: i64) -> Option<(ProducerId, Offset)> {
    let last = row.batches.last()?;
    let age_ms = now.0.saturating_sub(last.max_timestamp.0);
    (age_ms >= expiration_ms).then_some((id, last.base_offset))
}

async fn propose(runtime: &GroupRuntime, commands: Vec<Command>) {
    for command in commands {
        if let Err(error) = runtime.group().propose_command(command.encode(), FlushWish::Now).await {
            tracing::debug!(broker_group = %runtime.id(), %error, "cannot forget idle producers now");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use duolog_state::rows::ProducerBatch;
    use duolog_types::ProducerEpoch;

    use super::*;

    #[test]
    fn a_producer_is_idle_by_its_last_batch() {
        let batch = |base_offset: i64, timestamp: i64| ProducerBatch {
            first_sequence: 0,
            last_sequence: 0,
            base_offset: Offset(base_offset),
            max_timestamp: TimestampMs(timestamp),
        };
        let row = ProducerRow { epoch: ProducerEpoch(0), batches: vec![batch(3, 900), batch(4, 500)] };
        let at = |now: i64| expired(ProducerId(7), &row, TimestampMs(now), 100);
        assert_eq!((at(599), at(600)), (None, Some((ProducerId(7), Offset(4)))));
    }
}
