//! What consumer groups have taken by single messages.

use duolog_record::group::GroupId;
use duolog_types::{DeliveryId, TopicPartition};

use super::{for_each, get};
use crate::codec;
use crate::rows::{DeliveryRow, PopCursorRow};
use crate::tables::{TableId, TableReader};
use crate::{StateError, keys};

/// A group in a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PopState {
    /// Every offset below was delivered or passed over; `None` when the group has taken nothing yet.
    pub cursor: Option<PopCursorRow>,
    /// What is delivered and not acknowledged.
    pub deliveries: Vec<(DeliveryId, DeliveryRow)>,
}

/// How far a group has taken a partition.
///
/// # Errors
/// See [`pop_state`].
pub fn pop_cursor(
    tables: &dyn TableReader,
    tp: TopicPartition,
    group: &GroupId,
) -> Result<Option<PopCursorRow>, StateError> {
    get(tables, TableId::Pop, &keys::pop_cursor(tp, group))
}

/// What a group has taken of a partition.
///
/// # Errors
/// When the tables fail or hold what cannot be decoded.
pub fn pop_state(tables: &dyn TableReader, tp: TopicPartition, group: &GroupId) -> Result<PopState, StateError> {
    let cursor = pop_cursor(tables, tp, group)?;
    let prefix = keys::pop_deliveries(tp, group);
    let end = keys::prefix_end(&prefix);
    let mut deliveries = Vec::new();
    for_each(tables, TableId::Pop, prefix, end.as_deref(), |key, value| {
        if let Some((_, _, Some(id))) = keys::split_pop(key) {
            deliveries.push((id, codec::decode(value)?));
        }
        Ok(())
    })?;
    Ok(PopState { cursor, deliveries })
}

/// The groups that have taken single messages of a partition.
///
/// # Errors
/// See [`pop_state`].
pub fn pop_groups(tables: &dyn TableReader, tp: TopicPartition) -> Result<Vec<GroupId>, StateError> {
    let end = keys::partition_end(tp);
    let mut next = keys::partition(tp);
    let mut groups = Vec::new();
    // One look per group, however many deliveries it has.
    while let Some((key, _)) = tables.scan(TableId::Pop, &next, Some(&end), 1)?.pop() {
        let Some((_, group, _)) = keys::split_pop(&key) else {
            return Err(StateError::BadKey { table: TableId::Pop.name(), found: key.len(), expected: "a pop key" });
        };
        let Some(after) = keys::prefix_end(&keys::pop_group(tp, &group)) else { break };
        groups.push(group);
        next = after;
    }
    Ok(groups)
}
