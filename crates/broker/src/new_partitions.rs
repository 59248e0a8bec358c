//! CreatePartitions: a topic grows. Proposed to the system group, answered once every hosting group knows.

use duolog_state::Response;
use duolog_state::command::{CatalogCommand, Command};
use duolog_types::{BrokerGroupId, FlushWish, limits};
use tokio::time::Instant;

use crate::api::{ItemResult, NewPartitions, TopicRef};
use crate::assignment::{self, Voters};
use crate::broker::Broker;
use crate::catalog::Topic;
use crate::error::BrokerError;
use crate::topics::{deadline, place, wait_hosted};

/// Adds partitions to topics, one topic after the other; results in order.
pub(crate) async fn create(
    broker: &Broker,
    topics: Vec<NewPartitions>,
    timeout_ms: i32,
    validate_only: bool,
) -> Vec<ItemResult<()>> {
    let deadline = deadline(timeout_ms);
    let mut results = Vec::with_capacity(topics.len());
    for topic in topics {
        results.push(create_one(broker, topic, deadline, validate_only).await);
    }
    results
}

async fn create_one(broker: &Broker, wanted: NewPartitions, deadline: Instant, validate_only: bool) -> ItemResult<()> {
    let groups = assignment::voters(broker, &broker.data_groups(deadline).await?)?;
    let mut proposed: Option<Vec<BrokerGroupId>> = None;
    loop {
        let topic = broker.catalog().find(&TopicRef::Name(wanted.topic.clone()))?.clone();
        // An answer was lost, and the command had been applied.
        if proposed.as_ref() == Some(&topic.row.partitions) {
            return wait_hosted(broker, topic.id, topic.row.version, deadline).await;
        }
        let partitions = grown(&topic, &wanted, &groups)?;
        if validate_only {
            return Ok(());
        }
        let command = Command::Catalog(CatalogCommand::AddPartitions {
            id: topic.id,
            added: partitions[topic.row.partitions.len()..].to_vec(),
            expected_version: topic.row.version,
        });
        proposed = Some(partitions);
        match broker.propose(BrokerGroupId::SYSTEM, &command, FlushWish::Now, deadline).await? {
            Response::TopicChanged { version } => return wait_hosted(broker, topic.id, version, deadline).await,
            Response::VersionConflict { found, .. } => broker.wait_topic_version(topic.id, found, deadline).await?,
            Response::NoSuchTopic | Response::TopicDeleted => return Err(BrokerError::UnknownTopic(wanted.topic)),
            Response::Invalid(reason) => return Err(BrokerError::InvalidPartitions(reason)),
            other => return Err(BrokerError::Storage(format!("unexpected answer of the catalog: {other:?}"))),
        }
    }
}

/// All partitions of the grown topic: the new ones go where they were assigned, or on round the data groups where CreateTopics would have.
fn grown(topic: &Topic, wanted: &NewPartitions, groups: &[Voters]) -> ItemResult<Vec<BrokerGroupId>> {
    let (name, old, max) = (&topic.row.name, topic.row.partitions.len(), limits::PARTITIONS_PER_TOPIC_MAX);
    let refused = |reason: String| Err(BrokerError::InvalidPartitions(reason));
    let count = match u32::try_from(wanted.count) {
        Ok(count) if count as usize == old => return refused(format!("topic {name} has {old} partitions already")),
        Ok(count) if count as usize > old && count <= max => count,
        Ok(count) if count > max => return refused(format!("a topic has at most {max} partitions, found {count}")),
        Ok(_) | Err(_) => {
            return refused(format!("topic {name} has {old} partitions; {} would not be more", wanted.count));
        }
    };
    let mut partitions = topic.row.partitions.clone();
    if wanted.assignments.is_empty() {
        let groups: Vec<BrokerGroupId> = groups.iter().map(|(group, _)| *group).collect();
        partitions.extend_from_slice(&place(topic.id, count, &groups)[old..]);
    } else if wanted.assignments.len() == count as usize - old {
        partitions.extend(assignment::assigned(&wanted.assignments, old, groups)?);
    } else {
        return Err(BrokerError::InvalidReplicaAssignment(format!(
            "topic {name} gets {} partitions more, so as many lists of replicas were expected; found {}",
            count as usize - old,
            wanted.assignments.len()
        )));
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use duolog_state::rows::CatalogTopic;
    use duolog_types::{NodeId, TimestampMs, TopicConfig, TopicId};

    use super::*;

    fn check(count: i32, assignments: &[&[i32]]) -> ItemResult<Vec<u32>> {
        let groups = [1, 2, 3].map(|id| (BrokerGroupId(id), vec![NodeId(u64::from(id)), NodeId(0)]));
        let row = CatalogTopic {
            name: "t".to_owned(),
            partitions: vec![BrokerGroupId(3), BrokerGroupId(3)],
            config: TopicConfig::default(),
            created: TimestampMs(1),
            version: 1,
        };
        let assignments = assignments.iter().map(|list| list.to_vec()).collect();
        let wanted = NewPartitions { topic: "t".to_owned(), count, assignments };
        let all = grown(&Topic { id: TopicId([1; 16]), row }, &wanted, &groups)?;
        Ok(all.into_iter().map(|group| group.0).collect())
    }

    #[test]
    fn old_partitions_stay_and_new_ones_go_round() {
        assert_eq!(check(5, &[]), Ok(vec![3, 3, 1, 2, 3]));
    }

    #[test]
    fn new_partitions_go_where_they_were_assigned() {
        assert_eq!(check(4, &[&[2, 0], &[1]]), Ok(vec![3, 3, 2, 1]));
        for wrong in [&[&[2, 0][..]][..], &[&[2], &[1], &[3]], &[&[2], &[0, 2]]] {
            assert!(matches!(check(4, wrong), Err(BrokerError::InvalidReplicaAssignment(_))), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_no_growth_is_refused() {
        for count in [i32::MIN, -1, 0, 1, 2, i32::MAX] {
            assert!(matches!(check(count, &[]), Err(BrokerError::InvalidPartitions(_))), "{count}");
        }
    }
}
