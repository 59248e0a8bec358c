//! Where a group stands in a partition when its queue is loaded.

use duolog_coordinator::pop::{PopQueue, PopUpdate};
use duolog_record::group::{CommittedOffset, GroupId};
use duolog_state::reader;
use duolog_types::{ConsumptionStart, Offset, TopicPartition};

use super::progress::{self, Told};
use crate::api::ItemResult;
use crate::broker::Broker;
use crate::consumers;
use crate::fetch::Served;
use crate::offsets;
use crate::produce::now;
use crate::runtime::{GroupRuntime, storage};

/// A queue as it goes on, what it has told, and what has to be replicated before anything else: where the group begins, or that somebody
/// has set it to another offset since.
pub(super) fn load(
    broker: &Broker,
    runtime: &GroupRuntime,
    served: &Served,
    group: &GroupId,
    partition: TopicPartition,
) -> ItemResult<(PopQueue, Told, Option<PopUpdate>)> {
    let state = reader::pop_state(&*runtime.tables(), partition, group).map_err(storage)?;
    let committed = committed(broker, group, partition)?;
    let queue = |start, state| PopQueue::load(group.clone(), partition, start, state);
    let Some(cursor) = state.cursor else {
        let start = match &committed {
            Some(committed) => committed.offset,
            None => first(broker, runtime, served, group, partition)?,
        };
        let queue = queue(start, state);
        let begin = queue.touch(now());
        return Ok((queue, Told::nothing(now(), committed.as_ref()), Some(begin)));
    };
    let mut queue = queue(cursor.offset, state);
    let foreign = committed.filter(|committed| progress::is_foreign(committed, cursor.at));
    let sought = match foreign {
        Some(foreign) if !progress::has_members(broker, group)? => Some(foreign),
        Some(_) | None => None,
    };
    let update = sought.as_ref().map(|sought| queue.seek(sought.offset, now()));
    Ok((queue, Told::nothing(cursor.at, sought.as_ref()), update))
}

/// What this node's replica of the coordinating broker group says.
pub(super) fn committed(
    broker: &Broker,
    group: &GroupId,
    partition: TopicPartition,
) -> ItemResult<Option<CommittedOffset>> {
    let coordinator = broker.runtime(broker.coordinating_group(&group.0)?)?;
    reader::committed_offset(&*coordinator.tables(), group, partition).map_err(storage)
}

/// The first offset for a group that has consumed nothing.
fn first(
    broker: &Broker,
    runtime: &GroupRuntime,
    served: &Served,
    group: &GroupId,
    partition: TopicPartition,
) -> ItemResult<Offset> {
    let (_, config) = consumers::configured(&broker.catalog(), group);
    match config.start() {
        ConsumptionStart::First => reader::log_start(&*runtime.tables(), partition).map_err(storage),
        ConsumptionStart::Last => Ok(served.high_watermark),
        ConsumptionStart::At(time) => {
            let found = offsets::at_or_after(runtime, partition, served.high_watermark, time)?;
            Ok(found.map_or(served.high_watermark, |(offset, _)| offset))
        }
    }
}
