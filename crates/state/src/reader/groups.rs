//! Consumer groups and committed offsets.

use duolog_record::group::{CommittedOffset, GroupId, GroupMetadata};
use duolog_types::TopicPartition;

use super::{for_each, get};
use crate::rows::{CommittedOffsets, OffsetRow, StoredGroup};
use crate::tables::{TableId, TableReader};
use crate::{StateError, codec, keys};

/// A consumer group.
///
/// # Errors
/// See [`super::applied`].
pub fn group(tables: &dyn TableReader, id: &GroupId) -> Result<Option<GroupMetadata>, StateError> {
    Ok(stored_group(tables, id)?.map(|stored| stored.metadata))
}

/// A consumer group, and since when it is empty.
///
/// # Errors
/// See [`super::applied`].
pub fn stored_group(tables: &dyn TableReader, id: &GroupId) -> Result<Option<StoredGroup>, StateError> {
    tables.get(TableId::Groups, &keys::group(id))?.map(|row| StoredGroup::decode(&row)).transpose()
}

/// All consumer groups, by id.
///
/// # Errors
/// See [`super::applied`].
pub fn groups(tables: &dyn TableReader) -> Result<Vec<GroupMetadata>, StateError> {
    let mut groups = Vec::new();
    for_each(tables, TableId::Groups, Vec::new(), None, |_, value| {
        groups.push(StoredGroup::decode(value)?.metadata);
        Ok(())
    })?;
    Ok(groups)
}

/// Ids of all consumer groups that have committed offsets.
///
/// # Errors
/// See [`super::applied`].
pub fn groups_with_offsets(tables: &dyn TableReader) -> Result<Vec<GroupId>, StateError> {
    let mut groups = Vec::new();
    let mut from = Vec::new();
    while let Some((key, _)) = tables.scan(TableId::Offsets, &from, None, 1)?.pop() {
        let group = keys::group_of_offset(&key).ok_or(StateError::BadKey {
            table: TableId::Offsets.name(),
            found: key.len(),
            expected: "a group id and 20 bytes",
        })?;
        // One row per group is enough: go on behind the others.
        from = keys::prefix_end(&keys::group_offsets(&group)).expect("a Kafka string's length has a clear first bit");
        groups.push(group);
    }
    Ok(groups)
}

/// A committed offset.
///
/// # Errors
/// See [`super::applied`].
pub fn committed_offset(
    tables: &dyn TableReader,
    id: &GroupId,
    tp: TopicPartition,
) -> Result<Option<CommittedOffset>, StateError> {
    Ok(get::<OffsetRow>(tables, TableId::Offsets, &keys::committed_offset(id, tp))?.map(|row| row.0))
}

/// All committed offsets of a group.
///
/// # Errors
/// See [`super::applied`].
pub fn committed_offsets(tables: &dyn TableReader, id: &GroupId) -> Result<CommittedOffsets, StateError> {
    let prefix = keys::group_offsets(id);
    let end = keys::prefix_end(&prefix);
    let mut offsets = CommittedOffsets::new();
    for_each(tables, TableId::Offsets, prefix.clone(), end.as_deref(), |key, value| {
        let tp: TopicPartition = keys::parse_partition(&key[prefix.len()..]).ok_or(StateError::BadKey {
            table: TableId::Offsets.name(),
            found: key.len(),
            expected: "a group id and 20 bytes",
        })?;
        offsets.insert(tp, codec::decode::<OffsetRow>(value)?.0);
        Ok(())
    })?;
    Ok(offsets)
}
