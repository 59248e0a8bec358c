//! Commands about consumer groups and committed offsets.

use duolog_record::group::{CommittedOffset, GroupId, GroupRecord, OffsetCommit};
use duolog_types::{TimestampMs, TopicPartition};

use super::context::Context;
use crate::command::{GroupCommand, PullBack, Response};
use crate::event::StateEvent;
use crate::rows::{EmptyGroupRow, GroupRow, OffsetRow};
use crate::tables::TableId;
use crate::{StateError, keys, reader};

pub(super) fn apply(context: &mut Context<'_>, command: GroupCommand) -> Result<Response, StateError> {
    match command {
        GroupCommand::PutGroup(GroupRecord::Snapshot(metadata)) => {
            let group = metadata.group.clone();
            context.put(TableId::Groups, keys::group(&group), &GroupRow(metadata));
            context.emit(StateEvent::GroupChanged { group });
            Ok(Response::Ok)
        }
        GroupCommand::PutGroup(GroupRecord::Tombstone(group)) => Ok(delete_group(context, group)),
        GroupCommand::CommitOffsets(commit) => Ok(commit_offsets(context, commit)),
        GroupCommand::PullBackOffset(pull_back) => pull_back_offset(context, pull_back),
        GroupCommand::DeleteOffsets { group, partitions } => Ok(delete_offsets(context, group, partitions)),
        GroupCommand::EmptyGroup { metadata, since } => {
            let group = metadata.group.clone();
            context.put(TableId::Groups, keys::group(&group), &EmptyGroupRow { metadata, since });
            context.emit(StateEvent::GroupChanged { group });
            Ok(Response::Ok)
        }
        GroupCommand::ExpireOffsets { group, seen } => expire_offsets(context, group, seen),
    }
}

fn delete_group(context: &mut Context<'_>, group: GroupId) -> Response {
    let prefix = keys::group_offsets(&group);
    let end = keys::prefix_end(&prefix).expect("the length before a group id is below 2^15, so the prefix has an end");
    context.tables.delete_range(TableId::Offsets, prefix, end);
    context.tables.delete(TableId::Groups, keys::group(&group));
    context.emit(StateEvent::GroupDeleted { group });
    Response::Ok
}

fn commit_offsets(context: &mut Context<'_>, commit: OffsetCommit) -> Response {
    let mut partitions = Vec::with_capacity(commit.offsets.len());
    for (tp, offset) in commit.offsets {
        context.put(TableId::Offsets, keys::committed_offset(&commit.group, tp), &OffsetRow(offset));
        partitions.push(tp);
    }
    context.emit(StateEvent::OffsetsChanged { group: commit.group, partitions });
    Response::Ok
}

fn pull_back_offset(context: &mut Context<'_>, pull_back: PullBack) -> Result<Response, StateError> {
    let PullBack { group, partition, from, from_leader_epoch, to, to_leader_epoch } = pull_back;
    let seen = reader::committed_offset(&context.tables, &group, partition)?
        .filter(|stored| stored.offset == from && stored.leader_epoch == from_leader_epoch && to < from);
    let Some(stored) = seen else {
        return Ok(Response::Unchanged);
    };
    let row = OffsetRow(CommittedOffset { offset: to, leader_epoch: to_leader_epoch, ..stored });
    context.put(TableId::Offsets, keys::committed_offset(&group, partition), &row);
    context.emit(StateEvent::OffsetsChanged { group: group.clone(), partitions: vec![partition] });
    context.emit(StateEvent::OffsetPulledBack { group, partition, from, to });
    Ok(Response::Ok)
}

fn delete_offsets(context: &mut Context<'_>, group: GroupId, partitions: Vec<TopicPartition>) -> Response {
    for tp in &partitions {
        context.tables.delete(TableId::Offsets, keys::committed_offset(&group, *tp));
    }
    context.emit(StateEvent::OffsetsChanged { group, partitions });
    Response::Ok
}

fn expire_offsets(
    context: &mut Context<'_>,
    group: GroupId,
    seen: Vec<(TopicPartition, TimestampMs)>,
) -> Result<Response, StateError> {
    let mut partitions = Vec::new();
    for (tp, commit_timestamp) in seen {
        let stored = reader::committed_offset(&context.tables, &group, tp)?;
        if stored.is_some_and(|stored| stored.commit_timestamp == commit_timestamp) {
            context.tables.delete(TableId::Offsets, keys::committed_offset(&group, tp));
            partitions.push(tp);
        }
    }
    if partitions.is_empty() {
        return Ok(Response::Unchanged);
    }
    context.emit(StateEvent::OffsetsExpired { group: group.clone(), count: partitions.len() });
    context.emit(StateEvent::OffsetsChanged { group, partitions });
    Ok(Response::Ok)
}
