//! Commands about the partitions of a data group.

use std::collections::BTreeSet;

use duolog_types::{Offset, ProducerId, Term, TopicConfig, TopicId, TopicPartition};

use super::context::Context;
use super::hidden;
use crate::command::{PartitionCommand, Response};
use crate::event::StateEvent;
use crate::rows::{EpochRow, PartitionRow, TimeRow, TopicRow};
use crate::tables::{TableId, TableReader};
use crate::{StateError, codec, keys, reader};

pub(super) fn apply(context: &mut Context<'_>, command: PartitionCommand) -> Result<Response, StateError> {
    match command {
        PartitionCommand::UpsertTopic { topic_id, catalog_version, partitions, config } => {
            upsert_topic(context, topic_id, catalog_version, &partitions, config)
        }
        PartitionCommand::DeleteTopic { topic_id, catalog_version } => delete_topic(context, topic_id, catalog_version),
        PartitionCommand::AdvanceLogStart { partition, offset } => advance_log_start(context, partition, offset),
        PartitionCommand::ForgetProducers { partition, seen } => forget_producers(context, partition, &seen),
    }
}

fn upsert_topic(
    context: &mut Context<'_>,
    topic_id: TopicId,
    catalog_version: u64,
    wanted: &[u32],
    config: TopicConfig,
) -> Result<Response, StateError> {
    let mut partitions = match reader::hosted_topic(&context.tables, topic_id)? {
        Some(TopicRow::Deleted { .. }) => return Ok(Response::TopicDeleted),
        Some(TopicRow::Live { catalog_version: known, .. }) if known >= catalog_version => {
            return Ok(Response::Unchanged);
        }
        Some(TopicRow::Live { partitions, .. }) => partitions.into_iter().collect::<BTreeSet<_>>(),
        None => BTreeSet::new(),
    };
    for &partition in wanted {
        if partitions.insert(partition) {
            let partition = TopicPartition { topic: topic_id, partition };
            context.put(TableId::Topics, keys::topic_partition(partition), &PartitionRow::default());
            context.emit(StateEvent::PartitionCreated { partition });
        }
    }
    let row = TopicRow::Live { catalog_version, partitions: partitions.into_iter().collect(), config };
    context.put(TableId::Topics, keys::topic(topic_id), &row);
    context.emit(StateEvent::TopicConfigChanged { topic_id, catalog_version });
    Ok(Response::Ok)
}

fn delete_topic(context: &mut Context<'_>, topic: TopicId, catalog_version: u64) -> Result<Response, StateError> {
    let partitions = match reader::hosted_topic(&context.tables, topic)? {
        Some(TopicRow::Deleted { .. }) => return Ok(Response::Unchanged),
        Some(TopicRow::Live { partitions, .. }) => partitions,
        None => Vec::new(),
    };
    for table in [TableId::ConsumeQueue, TableId::TimeIndex, TableId::LeaderEpochs, TableId::Producers, TableId::Pop] {
        context.tables.delete_range(table, topic.0.to_vec(), keys::topic_end(topic));
    }
    hidden::delete_topic(context, topic)?;
    for partition in partitions {
        let partition = TopicPartition { topic, partition };
        context.tables.delete(TableId::Topics, keys::topic_partition(partition));
        context.emit(StateEvent::PartitionDeleted { partition });
    }
    context.put(TableId::Topics, keys::topic(topic), &TopicRow::Deleted { catalog_version });
    context.caches.forget_topic(topic);
    Ok(Response::Ok)
}

/// ```text
///  rows before   [0────)[10───)[20───)[30───)   log end 40
///  offset 25                      ^
///  rows after                  [20───)[30───)   the batch that holds the offset stays whole
/// ```
fn advance_log_start(context: &mut Context<'_>, tp: TopicPartition, offset: Offset) -> Result<Response, StateError> {
    let Some(row) = reader::partition_row(&context.tables, tp)? else {
        return Ok(Response::NoSuchTopic);
    };
    let tail = reader::tail(&context.tables, tp)?.expect("the partition was found above");
    let log_start = offset.min(tail.end);
    if log_start <= row.log_start {
        return Ok(Response::LogStart { offset: row.log_start });
    }
    let first_kept = reader::find_batch(&context.tables, tp, log_start)?.map_or(log_start, |batch| batch.base_offset);
    context.tables.delete_range(TableId::ConsumeQueue, keys::batch(tp, Offset(0)), keys::batch(tp, first_kept));
    hidden::unpin_below(context, tp, first_kept)?;
    trim_time_index(context, tp, first_kept)?;
    trim_leader_epochs(context, tp, log_start)?;
    context.put(TableId::Topics, keys::topic_partition(tp), &PartitionRow { log_start, floor: tail });
    context.caches.forget_partition(tp);
    context.emit(StateEvent::LogStartAdvanced { partition: tp, offset: log_start });
    Ok(Response::LogStart { offset: log_start })
}

/// Deletes the rows of batches that are gone; time and offset grow together.
fn trim_time_index(context: &mut Context<'_>, tp: TopicPartition, first_kept: Offset) -> Result<(), StateError> {
    let (from, end) = (keys::partition(tp), keys::partition_end(tp));
    let mut gone = Vec::new();
    reader::for_each(&context.tables, TableId::TimeIndex, from, Some(&end), |key, value| {
        if codec::decode::<TimeRow>(value)?.base_offset < first_kept {
            gone.push(key.to_vec());
        }
        Ok(())
    })?;
    for key in gone {
        context.tables.delete(TableId::TimeIndex, key);
    }
    Ok(())
}

/// As Kafka's `truncateFromStart`: the last epoch that began at or before the log start begins there now, those before
/// it are gone.
fn trim_leader_epochs(context: &mut Context<'_>, tp: TopicPartition, log_start: Offset) -> Result<(), StateError> {
    let mut at_or_before: Vec<(Term, Offset)> = reader::leader_epochs(&context.tables, tp)?;
    at_or_before.retain(|(_, first_offset)| *first_offset <= log_start);
    let Some((current, _)) = at_or_before.pop() else {
        return Ok(());
    };
    for (gone, _) in at_or_before {
        context.tables.delete(TableId::LeaderEpochs, keys::epoch(tp, gone));
    }
    context.put(TableId::LeaderEpochs, keys::epoch(tp, current), &EpochRow { first_offset: log_start });
    Ok(())
}

fn forget_producers(
    context: &mut Context<'_>,
    tp: TopicPartition,
    seen: &[(ProducerId, Offset)],
) -> Result<Response, StateError> {
    let mut count = 0;
    for &(id, last_seen) in seen {
        let row = context.caches.producer(&context.tables as &dyn TableReader, tp, id)?;
        if row.and_then(|row| row.batches.last().copied()).is_some_and(|last| last.base_offset == last_seen) {
            context.caches.forget_producer(tp, id);
            context.tables.delete(TableId::Producers, keys::producer(tp, id));
            count += 1;
        }
    }
    if count == 0 {
        return Ok(Response::Unchanged);
    }
    context.emit(StateEvent::ProducersForgotten { partition: tp, count });
    Ok(Response::Ok)
}
