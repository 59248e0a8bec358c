//! Creating, deleting and changing topics: proposed to the system group, answered once every hosting group knows.

use std::time::Duration;

use duolog_state::command::{CatalogCommand, Command};
use duolog_state::rows::TopicRow;
use duolog_state::{Response, reader};
use duolog_types::{BrokerGroupId, FlushWish, TopicConfig, TopicId, limits};
use tokio::time::Instant;

use crate::api::{ConfigEdit, CreatedTopic, ItemResult, NewTopic, TopicRef, TopicView};
use crate::assignment;
use crate::broker::Broker;
use crate::config_edit;
use crate::error::BrokerError;
use crate::produce::now;
use crate::runtime::storage;
use crate::views;

/// Shortest time that a catalog change is waited for, whatever the client says: it is durable anyhow.
pub(crate) const TIMEOUT_MIN: Duration = Duration::from_millis(100);

pub(crate) fn deadline(timeout_ms: i32) -> Instant {
    Instant::now() + Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0)).max(TIMEOUT_MIN)
}

/// Kafka's rule for names. A dead-letter topic is named after its group behind RocketMQ's prefix.
fn check_name(name: &str) -> ItemResult<()> {
    let name = name.strip_prefix(limits::DEAD_LETTER_TOPIC_PREFIX).unwrap_or(name);
    let reason = if name.is_empty() {
        "is empty".to_owned()
    } else if name == "." || name == ".." {
        "cannot be . or ..".to_owned()
    } else if name.len() > limits::TOPIC_NAME_BYTES_MAX {
        format!("has {} characters; at most {} are allowed", name.len(), limits::TOPIC_NAME_BYTES_MAX)
    } else if !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
        "has a character other than ASCII letters, digits, '.', '_' and '-'".to_owned()
    } else {
        return Ok(());
    };
    Err(BrokerError::InvalidTopicName(format!("topic name {name:?} {reason}")))
}

struct Checked {
    name: String,
    partitions: u32,
    /// Empty, or one per partition.
    assignments: Vec<Vec<i32>>,
    replication_factor: i16,
    config: TopicConfig,
}

/// An assignment says how many partitions and replicas there are.
fn check_manual(topic: &NewTopic) -> ItemResult<()> {
    let refused = |what: &str, found: i32| {
        Err(BrokerError::InvalidRequest(format!("with assignments {what} must be −1, found {found}")))
    };
    match (topic.partitions, topic.replication_factor) {
        (Some(count), _) => refused("the number of partitions", count),
        (None, Some(factor)) => refused("the replication factor", i32::from(factor)),
        (None, None) if topic.assignments.len() > limits::PARTITIONS_PER_TOPIC_MAX as usize => {
            let (max, found) = (limits::PARTITIONS_PER_TOPIC_MAX, topic.assignments.len());
            Err(BrokerError::InvalidPartitions(format!(
                "a topic has at most {max} partitions, found {found} assignments"
            )))
        }
        (None, None) => Ok(()),
    }
}

fn check(broker: &Broker, topic: NewTopic) -> ItemResult<Checked> {
    check_name(&topic.name)?;
    if !topic.assignments.is_empty() {
        check_manual(&topic)?;
    }
    let assignments = assignment::in_order(topic.assignments)?;
    let partitions = match topic.partitions {
        None if !assignments.is_empty() => u32::try_from(assignments.len()).unwrap_or(u32::MAX),
        None => broker.settings().num_partitions,
        Some(count) => u32::try_from(count)
            .ok()
            .filter(|count| (1..=limits::PARTITIONS_PER_TOPIC_MAX).contains(count))
            .ok_or_else(|| {
                let max = limits::PARTITIONS_PER_TOPIC_MAX;
                BrokerError::InvalidPartitions(format!("number of partitions must be 1 to {max}, found {count}"))
            })?,
    };
    let nodes = i16::try_from(views::cluster(broker).nodes.len()).unwrap_or(i16::MAX);
    match topic.replication_factor {
        None => {}
        Some(factor) if (1..=nodes).contains(&factor) => {}
        Some(factor) => {
            return Err(BrokerError::InvalidReplicationFactor(format!(
                "replication factor must be 1 to {nodes} (the number of nodes) or −1, found {factor}"
            )));
        }
    }
    let configs = topic.configs.into_iter().map(|(key, value)| match value {
        Some(value) => Ok((key, value)),
        None => Err(BrokerError::InvalidConfig(format!("config {key} has no value"))),
    });
    let configs = configs.collect::<ItemResult<Vec<_>>>()?;
    let config = TopicConfig::new(configs).map_err(|error| BrokerError::InvalidConfig(error.to_string()))?;
    Ok(Checked { name: topic.name, partitions, assignments, replication_factor: nodes, config })
}

/// Creates topics, one after the other.
pub(crate) async fn create(
    broker: &Broker,
    topics: Vec<NewTopic>,
    timeout_ms: i32,
    validate_only: bool,
) -> Vec<ItemResult<CreatedTopic>> {
    let deadline = deadline(timeout_ms);
    let mut results = Vec::with_capacity(topics.len());
    for topic in topics {
        results.push(create_one(broker, topic, deadline, validate_only).await);
    }
    results
}

async fn create_one(
    broker: &Broker,
    topic: NewTopic,
    deadline: Instant,
    validate_only: bool,
) -> ItemResult<CreatedTopic> {
    let topic = check(broker, topic)?;
    let catalog = broker.catalog();
    if catalog.find(&TopicRef::Name(topic.name.clone())).is_ok() {
        return Err(BrokerError::TopicExists(topic.name));
    }
    let created = |id: TopicId| CreatedTopic {
        id,
        partitions: i32::try_from(topic.partitions).unwrap_or(i32::MAX),
        replication_factor: topic.replication_factor,
        configs: topic.config.describe(),
    };
    let groups = broker.data_groups(deadline).await?;
    let id = TopicId(*uuid::Uuid::new_v4().as_bytes());
    let partitions = match topic.assignments.is_empty() {
        true => place(id, topic.partitions, &groups),
        false => assignment::assigned(&topic.assignments, 0, &assignment::voters(broker, &groups)?)?,
    };
    if validate_only {
        return Ok(created(TopicId::default()));
    }
    let command = Command::Catalog(CatalogCommand::CreateTopic {
        name: topic.name.clone(),
        id,
        partitions,
        config: topic.config.clone(),
        timestamp: now(),
    });
    match broker.propose(BrokerGroupId::SYSTEM, &command, FlushWish::Now, deadline).await? {
        Response::TopicCreated { id, version } => {
            wait_hosted(broker, id, version, deadline).await?;
            Ok(created(id))
        }
        Response::TopicExists { .. } => Err(BrokerError::TopicExists(topic.name)),
        Response::ClusterNotInitialized => Err(BrokerError::RequestTimedOut("the cluster is not ready yet".to_owned())),
        Response::Invalid(reason) => Err(BrokerError::InvalidRequest(reason)),
        other => Err(BrokerError::Storage(format!("unexpected answer of the catalog: {other:?}"))),
    }
}

/// Partitions go round the data groups, each topic beginning at another one.
pub(crate) fn place(id: TopicId, partitions: u32, groups: &[BrokerGroupId]) -> Vec<BrokerGroupId> {
    let first = usize::from(id.0[0]);
    (0..partitions).map(|number| groups[(first + number as usize) % groups.len()]).collect()
}

/// Waits until this node's replicas of every hosting group know the topic at this version.
pub(crate) async fn wait_hosted(broker: &Broker, id: TopicId, version: u64, deadline: Instant) -> ItemResult<()> {
    broker.wait_catalog(version, deadline).await?;
    let groups: Vec<BrokerGroupId> = match broker.catalog().by_id(id) {
        Some(topic) => topic.row.partitions.clone(),
        None => broker.catalog().data_groups.clone(),
    };
    let mut groups = groups;
    groups.sort_unstable();
    groups.dedup();
    for group in groups {
        let runtime = broker.runtime(group)?;
        let mut topics = runtime.subscribe_topics();
        loop {
            topics.mark_unchanged();
            let known = match reader::hosted_topic(&*runtime.tables(), id).map_err(storage)? {
                Some(TopicRow::Live { catalog_version, .. } | TopicRow::Deleted { catalog_version }) => {
                    catalog_version >= version
                }
                None => broker.catalog().by_id(id).is_none(),
            };
            if known {
                break;
            }
            tokio::time::timeout_at(deadline, topics.changed())
                .await
                .map_err(|_| {
                    BrokerError::RequestTimedOut(format!("broker group {group} does not know the topic yet; it will"))
                })?
                .map_err(storage)?;
        }
    }
    Ok(())
}

/// Deletes topics, one after the other.
pub(crate) async fn delete(broker: &Broker, topics: Vec<TopicRef>, timeout_ms: i32) -> Vec<ItemResult<TopicView>> {
    let deadline = deadline(timeout_ms);
    let mut results = Vec::with_capacity(topics.len());
    for topic in topics {
        results.push(delete_one(broker, &topic, deadline).await);
    }
    results
}

async fn delete_one(broker: &Broker, topic: &TopicRef, deadline: Instant) -> ItemResult<TopicView> {
    let found = broker.catalog().find(topic)?.clone();
    let view = views::topic(broker, &found);
    let command = Command::Catalog(CatalogCommand::DeleteTopic { id: found.id });
    match broker.propose(BrokerGroupId::SYSTEM, &command, FlushWish::Now, deadline).await? {
        Response::TopicChanged { version } => {
            wait_hosted(broker, found.id, version, deadline).await?;
            Ok(view)
        }
        Response::NoSuchTopic | Response::TopicDeleted => Err(BrokerError::UnknownTopic(found.row.name.clone())),
        other => Err(BrokerError::Storage(format!("unexpected answer of the catalog: {other:?}"))),
    }
}

/// Changes a topic's configs; a change that raced with another one is made again.
pub(crate) async fn alter(broker: &Broker, name: String, edit: ConfigEdit, validate_only: bool) -> ItemResult<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let topic = broker.catalog().find(&TopicRef::Name(name.clone()))?.clone();
        let config = config_edit::apply(&edit, &topic.row.config)?;
        if validate_only {
            return Ok(());
        }
        let command = Command::Catalog(CatalogCommand::AlterTopicConfig {
            id: topic.id,
            config,
            expected_version: topic.row.version,
        });
        match broker.propose(BrokerGroupId::SYSTEM, &command, FlushWish::Now, deadline).await? {
            Response::TopicChanged { version } => return wait_hosted(broker, topic.id, version, deadline).await,
            Response::Unchanged | Response::Ok => return Ok(()),
            Response::VersionConflict { found, .. } => broker.wait_topic_version(topic.id, found, deadline).await?,
            Response::NoSuchTopic | Response::TopicDeleted => return Err(BrokerError::UnknownTopic(name)),
            Response::Invalid(reason) => return Err(BrokerError::InvalidConfig(reason)),
            other => return Err(BrokerError::Storage(format!("unexpected answer of the catalog: {other:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kafkas() {
        for good in ["a", "a.b_c-D9", "%DLQ%g", &"x".repeat(249)] {
            check_name(good).unwrap();
        }
        for bad in ["", "%DLQ%", "%DLQ", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(matches!(check_name(bad), Err(BrokerError::InvalidTopicName(_))), "{bad:?}");
        }
    }

    #[test]
    fn partitions_go_round_the_groups() {
        let groups = [BrokerGroupId(1), BrokerGroupId(2), BrokerGroupId(3)];
        let placed = place(TopicId([1; 16]), 4, &groups);
        assert_eq!(placed, [groups[1], groups[2], groups[0], groups[1]]);
    }
}
