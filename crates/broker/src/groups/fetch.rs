//! OffsetFetch: from the applied state, after the loss check.

use duolog_record::group::{CommittedOffset, GroupId};
use duolog_state::reader;
use duolog_types::{BrokerGroupId, TopicPartition};

use super::{coordinator, locate, loss};
use crate::api::{GroupOffset, ItemResult, TopicRef};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::runtime::storage;

/// A committed offset, and the broker group that holds its partition.
pub(super) struct Found {
    pub(super) partition: TopicPartition,
    pub(super) host: BrokerGroupId,
    pub(super) committed: CommittedOffset,
}

/// Committed offsets of the wanted partitions, in order; `None` means all of the group, by topic id and partition.
pub(crate) async fn fetch(
    broker: &Broker,
    group: GroupId,
    wanted: Option<Vec<(TopicRef, i32)>>,
) -> ItemResult<Vec<GroupOffset>> {
    let coordinator = coordinator(broker, &group)?;
    let term = coordinator.serving().await?;
    let tables = coordinator.runtime.tables();
    let all = wanted.is_none();
    let wanted = match wanted {
        Some(wanted) => wanted,
        None => reader::committed_offsets(&*tables, &group)
            .map_err(storage)?
            .into_keys()
            .map(|at| (TopicRef::Id(at.topic), i32::try_from(at.partition).expect("topics have few enough partitions")))
            .collect(),
    };
    let mut answers = Vec::with_capacity(wanted.len());
    let mut found = Vec::new();
    for (topic, partition) in wanted {
        let place = match locate(broker, &topic, partition) {
            Ok(place) => place,
            Err(BrokerError::CoordinatorLoading) => return Err(BrokerError::CoordinatorLoading),
            // A topic that is gone.
            Err(_) if all => continue,
            // As in Kafka, nothing is committed for a partition that does not exist.
            Err(_) => {
                answers.push((GroupOffset { topic, partition, committed: None }, None));
                continue;
            }
        };
        let committed = reader::committed_offset(&*tables, &group, place.partition).map_err(storage)?;
        let index = committed.map(|committed| {
            found.push(Found { partition: place.partition, host: place.group, committed });
            found.len() - 1
        });
        let topic = if all { TopicRef::Name(place.topic.row.name.clone()) } else { topic };
        answers.push((GroupOffset { topic, partition, committed: None }, index));
    }
    loss::check(broker, &coordinator, term, &group, &mut found).await?;
    let filled = answers
        .into_iter()
        .map(|(answer, index)| GroupOffset { committed: index.map(|index| found[index].committed.clone()), ..answer });
    Ok(filled.collect())
}
