//! Reads of the state for the broker, over any [`TableReader`]: the live tables, a snapshot, or the overlay of a run.
//!
//! Everything here is *applied* state. What is appended and not applied yet is the sequencer's and the log tail's.

mod catalog;
mod epochs;
mod groups;
mod hidden;
mod partitions;
mod pop;
mod producers;
mod times;

pub use catalog::{
    acls, catalog_version, cluster, deleted_topic, group_config, group_configs, has_acl, next_producer_id,
    retired_nodes, topic_by_id, topic_by_name, topics, user, user_acls, users,
};
pub(crate) use epochs::last_epoch;
pub use epochs::{CurrentEpoch, EpochEnd, epoch_end_offset, epoch_of, leader_epochs};
pub use groups::{committed_offset, committed_offsets, group, groups, groups_with_offsets, stored_group};
pub use hidden::{Timer, first_hidden_index, hidden, hidden_of_topic, references_below, timers};
pub use partitions::{
    Batch, PartitionState, find_batch, find_batch_by_size, hosted_topic, hosted_topics, last_batch, log_end, log_start,
    partition_row, partition_size_bytes, partition_state, scan_batches, tail,
};
pub use pop::{PopState, pop_cursor, pop_groups, pop_state};
pub use producers::{producer, producers};
pub(crate) use times::last_time_row;
pub use times::{expired_end, find_batch_by_time, max_timestamp_batch};

use crate::codec::{self, Versioned};
use crate::rows::{Applied, MembershipRow};
use crate::run::OpenRun;
use crate::tables::{TableId, TableReader};
use crate::{StateError, keys};

/// Rows read at a time where a scan has no limit of its own.
pub(crate) const PAGE_ROWS: usize = 256;

/// The last applied entry; `None` when nothing was applied.
///
/// # Errors
/// When the tables fail or hold what cannot be decoded; so for every function of this module.
pub fn applied(tables: &dyn TableReader) -> Result<Option<Applied>, StateError> {
    get(tables, TableId::Meta, keys::APPLIED)
}

/// The last applied membership.
///
/// # Errors
/// See [`applied`].
pub fn membership(tables: &dyn TableReader) -> Result<Option<MembershipRow>, StateError> {
    get(tables, TableId::Meta, keys::MEMBERSHIP)
}

/// The run of the sequencer that is open in the applied state.
///
/// # Errors
/// See [`applied`].
pub fn open_run(tables: &dyn TableReader) -> Result<Option<OpenRun>, StateError> {
    get(tables, TableId::Meta, keys::RUN)
}

/// A row, decoded.
pub(crate) fn get<V: Versioned>(tables: &dyn TableReader, table: TableId, key: &[u8]) -> Result<Option<V>, StateError> {
    tables.get(table, key)?.map(|value| codec::decode(&value)).transpose()
}

/// Calls `each` with every row of `from .. to_exclusive`, page by page.
pub(crate) fn for_each(
    tables: &dyn TableReader,
    table: TableId,
    from: Vec<u8>,
    to_exclusive: Option<&[u8]>,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), StateError>,
) -> Result<(), StateError> {
    let mut next = from;
    loop {
        let page = tables.scan(table, &next, to_exclusive, PAGE_ROWS)?;
        for (key, value) in &page {
            each(key, value)?;
        }
        match page.into_iter().nth(PAGE_ROWS - 1) {
            Some((mut last, _)) => {
                last.push(0);
                next = last;
            }
            None => return Ok(()),
        }
    }
}
