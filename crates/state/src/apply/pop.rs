//! Deliveries of single messages.

use super::context::Context;
use crate::command::{PopUpdate, Response};
use crate::rows::DeliveryRow;
use crate::tables::TableId;
use crate::{StateError, keys, reader};

/// Changes of partitions that are gone are void.
pub(super) fn apply(context: &mut Context<'_>, updates: Vec<PopUpdate>) -> Result<Response, StateError> {
    for update in updates {
        if reader::partition_row(&context.tables, update.partition)?.is_some() {
            apply_update(context, update)?;
        }
    }
    Ok(Response::Ok)
}

fn apply_update(context: &mut Context<'_>, update: PopUpdate) -> Result<(), StateError> {
    let PopUpdate { group, partition, cursor, removed, extended, added, forget } = update;
    if forget {
        let prefix = keys::pop_group(partition, &group);
        let end =
            keys::prefix_end(&prefix).expect("the length before a group id is below 2^15, so the prefix has an end");
        context.tables.delete_range(TableId::Pop, prefix, end);
        return Ok(());
    }
    if let Some(cursor) = cursor {
        context.put(TableId::Pop, keys::pop_cursor(partition, &group), &cursor);
    }
    for (id, offsets) in removed {
        let key = keys::pop_delivery(partition, &group, id);
        let Some(mut row) = reader::get::<DeliveryRow>(&context.tables, TableId::Pop, &key)? else { continue };
        row.messages.retain(|message| !offsets.contains(&message.offset));
        if row.messages.is_empty() {
            context.tables.delete(TableId::Pop, key);
        } else {
            context.put(TableId::Pop, key, &row);
        }
    }
    for (id, due) in extended {
        let key = keys::pop_delivery(partition, &group, id);
        if let Some(row) = reader::get::<DeliveryRow>(&context.tables, TableId::Pop, &key)? {
            context.put(TableId::Pop, key, &DeliveryRow { due, ..row });
        }
    }
    for (id, row) in added {
        context.put(TableId::Pop, keys::pop_delivery(partition, &group, id), &row);
    }
    Ok(())
}
