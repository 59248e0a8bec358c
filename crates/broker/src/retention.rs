//! Retention: leaders move log start offsets, and every replica deletes the segments that no partition wants any more.
//!
//! *What* may go is replicated (`AdvanceLogStart`); *when* it goes is each replica's own. Sealed segments are deleted whole:
//! one wanted batch keeps its segment. Rewriting of segments comes later.

use std::sync::Arc;
use std::time::Duration;

use duolog_commit_log::SegmentRole;
use duolog_state::command::{Command, PartitionCommand};
use duolog_state::rows::TopicRow;
use duolog_state::{StateError, TableReader, reader};
use duolog_types::{FlushWish, LogIndex, TimestampMs, TopicPartition};

use crate::broker::Broker;
use crate::produce::now;
use crate::runtime::GroupRuntime;

/// Looks at one broker group again and again.
pub(crate) async fn run(broker: Broker, runtime: Arc<GroupRuntime>, interval: Duration) {
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if runtime.subscribe_serving().borrow().is_some() {
            match overdue(&broker, &runtime) {
                Ok(commands) => propose(&runtime, commands).await,
                Err(error) => tracing::error!(broker_group = %runtime.id(), %error, "cannot look at retention"),
            }
        }
        if let Err(error) = delete_unwanted(&runtime).await {
            tracing::error!(broker_group = %runtime.id(), %error, "cannot delete old segments");
        }
    }
}

/// Log starts that the topics' retention moves.
fn overdue(broker: &Broker, runtime: &GroupRuntime) -> Result<Vec<Command>, StateError> {
    let tables = runtime.tables();
    let mut commands = Vec::new();
    for partition in broker.hosted_partitions(runtime.id()) {
        let Some(state) = reader::partition_state(&*tables, partition)? else { continue };
        let by_time = match state.config.retention_ms() {
            Some(ms) => reader::expired_end(&*tables, partition, TimestampMs(now().0.saturating_sub(ms)))?,
            None => None,
        };
        let by_size = match state.config.retention_bytes().and_then(|bytes| u64::try_from(bytes).ok()) {
            Some(bytes) => reader::find_batch_by_size(&*tables, partition, bytes)?.map(|kept| kept.base_offset),
            None => None,
        };
        // `None` is below every offset.
        if let Some(offset) = by_time.max(by_size).filter(|offset| *offset > state.log_start) {
            commands.push(Command::Partitions(PartitionCommand::AdvanceLogStart { partition, offset }));
        }
    }
    Ok(commands)
}

async fn propose(runtime: &GroupRuntime, commands: Vec<Command>) {
    for command in commands {
        if let Err(error) = runtime.group().propose_command(command.encode(), FlushWish::Now).await {
            tracing::debug!(broker_group = %runtime.id(), %error, "cannot move a log start offset now");
            return;
        }
    }
}

/// The first log index that a partition of this group still wants.
fn first_wanted(runtime: &GroupRuntime) -> Result<LogIndex, StateError> {
    let tables = runtime.tables();
    let applied_next = reader::applied(&*tables)?.map_or(0, |applied| applied.index.0 + 1);
    let mut wanted = LogIndex(applied_next);
    for partition in hosted_partitions(&*tables)? {
        let (visible, hidden) = (first_index(&*tables, partition)?, reader::first_hidden_index(&*tables, partition)?);
        wanted = [visible, hidden].into_iter().flatten().fold(wanted, LogIndex::min);
    }
    Ok(wanted)
}

/// Every partition with rows here. That it cannot be read must not look like "there is none": all would be deleted.
fn hosted_partitions(tables: &dyn TableReader) -> Result<Vec<TopicPartition>, StateError> {
    let mut hosted = Vec::new();
    for (topic, row) in reader::hosted_topics(tables)? {
        if let TopicRow::Live { partitions, .. } = row {
            hosted.extend(partitions.into_iter().map(|partition| TopicPartition { topic, partition }));
        }
    }
    Ok(hosted)
}

fn first_index(tables: &dyn TableReader, partition: TopicPartition) -> Result<Option<LogIndex>, StateError> {
    let start = reader::log_start(tables, partition)?;
    Ok(reader::scan_batches(tables, partition, start, 1)?.first().map(|batch| batch.row.index))
}

async fn delete_unwanted(runtime: &GroupRuntime) -> Result<(), String> {
    let log = runtime.group().log();
    let wanted = first_wanted(runtime).map_err(|error| error.to_string())?;
    let is_unwanted = |last: Option<LogIndex>| last.is_some_and(|last| last < wanted);
    let worth_it =
        log.segments().iter().any(|segment| segment.role != SegmentRole::Active && is_unwanted(segment.last_inclusive));
    if !worth_it {
        return Ok(());
    }
    runtime.group().release_log_below(wanted).await.map_err(|error| error.to_string())?;
    let freed = log.delete_segments_below(wanted).map_err(|error| error.to_string())?;
    if freed > 0 {
        tracing::info!(broker_group = %runtime.id(), bytes = freed, log_index = %wanted, "deleted segments that nothing wants");
    }
    Ok(())
}
