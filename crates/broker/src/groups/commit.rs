//! OffsetCommit: topics become ids, and each partition gets its own answer.

use std::collections::BTreeMap;

use duolog_coordinator::groups::{Event, OffsetCommitRequest, PartitionCommit, ReplyBody};
use duolog_types::TopicPartition;

use super::{coordinator, locate};
use crate::api::{ItemResult, OffsetCommits};
use crate::broker::Broker;
use crate::produce::now;

/// Commits offsets; one result per partition, in order.
pub(crate) async fn commit(broker: &Broker, request: OffsetCommits) -> Vec<ItemResult<()>> {
    let located: Vec<ItemResult<TopicPartition>> = request
        .partitions
        .iter()
        .map(|wanted| Ok(locate(broker, &wanted.topic, wanted.partition)?.partition))
        .collect();
    let answer = commit_located(broker, request, &located).await;
    located
        .into_iter()
        .map(|place| {
            let place = place?;
            let results = answer.as_ref().map_err(Clone::clone)?;
            results.get(&place).expect("one result per partition that was committed").clone()
        })
        .collect()
}

type Results = BTreeMap<TopicPartition, ItemResult<()>>;

async fn commit_located(
    broker: &Broker,
    request: OffsetCommits,
    located: &[ItemResult<TopicPartition>],
) -> ItemResult<Results> {
    let coordinator = coordinator(broker, &request.group)?;
    let mut commits = BTreeMap::new();
    for (place, wanted) in located.iter().zip(request.partitions) {
        let Ok(partition) = *place else { continue };
        let (offset, leader_epoch, metadata) = (wanted.offset, wanted.leader_epoch, wanted.metadata);
        // Of several commits of a partition the last one counts.
        commits.insert(partition, PartitionCommit { partition, offset, leader_epoch, metadata });
    }
    if commits.is_empty() {
        return Ok(Results::new());
    }
    let request = OffsetCommitRequest {
        group: request.group,
        member_id: request.member_id,
        instance_id: request.instance_id,
        generation: request.generation,
        commit_timestamp: now(),
        partitions: commits.into_values().collect(),
    };
    match coordinator.ask(|reply_to| Event::CommitOffsets { reply_to, request }).await? {
        ReplyBody::CommitOffsets(results) => {
            Ok(results?.into_iter().map(|(partition, result)| (partition, result.map_err(Into::into))).collect())
        }
        other => unreachable!("an OffsetCommit is answered as one, found {other:?}"),
    }
}
