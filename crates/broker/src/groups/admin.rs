//! What administrators ask of coordinators: list, describe and delete consumer groups, delete committed offsets.

use std::collections::BTreeMap;

use duolog_coordinator::groups::{Event, GroupDescription, GroupListing, OffsetDeleteRequest, ReplyBody};
use duolog_record::group::GroupId;
use duolog_types::TopicPartition;

use super::{coordinator, locate};
use crate::api::{ItemResult, TopicRef};
use crate::broker::Broker;
use crate::error::BrokerError;

/// Every group that this node coordinates, by broker group and id; those of other nodes are theirs to list.
pub(crate) async fn list(broker: &Broker) -> ItemResult<Vec<GroupListing>> {
    let mut groups = Vec::new();
    for (_, coordinator) in broker.coordinators() {
        match coordinator.look(|machine| machine.list().collect::<Vec<_>>()).await {
            Ok(listed) => groups.extend(listed),
            Err(BrokerError::NotCoordinator) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(groups)
}

/// A group as it is now; `None` when there is none.
pub(crate) async fn describe(broker: &Broker, group: GroupId) -> ItemResult<Option<GroupDescription>> {
    coordinator(broker, &group)?.look(move |machine| machine.describe(&group)).await
}

/// Deletes a group with its committed offsets; answered once that is committed.
pub(crate) async fn delete(broker: &Broker, group: GroupId) -> ItemResult<()> {
    let coordinator = coordinator(broker, &group)?;
    match coordinator.ask(|reply_to| Event::Delete { reply_to, group }).await? {
        ReplyBody::Delete(result) => Ok(result?),
        other => unreachable!("a DeleteGroups is answered as one, found {other:?}"),
    }
}

/// Deletes committed offsets of topics that no member subscribes to; one result per partition, in order.
pub(crate) async fn delete_offsets(
    broker: &Broker,
    group: GroupId,
    partitions: Vec<(TopicRef, i32)>,
) -> ItemResult<Vec<ItemResult<()>>> {
    let coordinator = coordinator(broker, &group)?;
    let located: Vec<ItemResult<TopicPartition>> =
        partitions.iter().map(|(topic, number)| Ok(locate(broker, topic, *number)?.partition)).collect();
    let catalog = broker.catalog();
    let named: BTreeMap<TopicPartition, String> =
        located.iter().flatten().filter_map(|at| Some((*at, catalog.by_id(at.topic)?.row.name.clone()))).collect();
    let request = OffsetDeleteRequest { group, partitions: named.into_iter().map(|(at, name)| (name, at)).collect() };
    let results = match coordinator.ask(|reply_to| Event::DeleteOffsets { reply_to, request }).await? {
        ReplyBody::DeleteOffsets(results) => results?.into_iter().collect::<BTreeMap<_, _>>(),
        other => unreachable!("an OffsetDelete is answered as one, found {other:?}"),
    };
    let answer = |place: ItemResult<TopicPartition>| {
        let place = place?;
        // The topic was deleted in between.
        let unknown = || BrokerError::UnknownTopicId(place.topic);
        Ok((*results.get(&place).ok_or_else(unknown)?)?)
    };
    Ok(located.into_iter().map(answer).collect())
}
