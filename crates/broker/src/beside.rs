//! Topics that the broker writes to by itself have a partition in each broker group that needs one: what a leader writes there, it leads.

use std::time::Duration;

use duolog_types::BrokerGroupId;
use tokio::time::{Instant, sleep};

use crate::api::{BrokerApi, ItemResult, NewPartitions, NewTopic, TopicRef};
use crate::broker::Broker;
use crate::catalog::Topic;
use crate::error::BrokerError;
use crate::topics::{deadline, place, wait_hosted};

/// For making such a topic, and for a record in it.
pub(crate) const TIMEOUT_MS: i32 = 5_000;
/// Before a second look at a topic that another node is making.
const PAUSE: Duration = Duration::from_millis(20);

/// A partition of the topic in this broker group. The topic is made where it is missing, with these configs, and grows where somebody
/// made it with too few partitions.
///
/// # Errors
/// It was not to be had in time, or somebody made the topic in a way that it cannot grow.
pub(crate) async fn partition_beside(
    broker: &Broker,
    topic: &str,
    configs: &[(&str, &str)],
    group: BrokerGroupId,
) -> ItemResult<i32> {
    let deadline = deadline(TIMEOUT_MS);
    let name = TopicRef::Name(topic.to_owned());
    while Instant::now() < deadline {
        let groups = broker.data_groups(deadline).await?;
        let found = match broker.catalog().find(&name) {
            Ok(found) => Some(found.clone()),
            Err(BrokerError::UnknownTopic(_)) => None,
            Err(error) => return Err(error),
        };
        let changed = match found {
            Some(found) => {
                if let Some(beside) = found.row.partitions.iter().position(|host| *host == group) {
                    // Somebody else may have made it a moment ago.
                    wait_hosted(broker, found.id, found.row.version, deadline).await?;
                    return Ok(i32::try_from(beside).unwrap_or(i32::MAX));
                }
                grow(broker, &found, group, &groups).await
            }
            None => make(broker, topic, configs, groups.len()).await,
        };
        match changed {
            Ok(()) => {}
            // Somebody else was faster; this node may not know it yet.
            Err(BrokerError::TopicExists(_) | BrokerError::InvalidPartitions(_)) => sleep(PAUSE).await,
            Err(error) => return Err(error),
        }
    }
    Err(BrokerError::RequestTimedOut(format!("topic {topic} has no partition in broker group {group} yet")))
}

async fn make(broker: &Broker, topic: &str, configs: &[(&str, &str)], partitions: usize) -> ItemResult<()> {
    let new = NewTopic {
        name: topic.to_owned(),
        partitions: i32::try_from(partitions.max(1)).ok(),
        replication_factor: None,
        assignments: Vec::new(),
        configs: configs.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect(),
    };
    broker.create_topics(vec![new], TIMEOUT_MS, false).await.swap_remove(0).map(drop)
}

/// Adds partitions until one of them lies in the broker group.
async fn grow(broker: &Broker, topic: &Topic, group: BrokerGroupId, groups: &[BrokerGroupId]) -> ItemResult<()> {
    let old = topic.row.partitions.len();
    let placed = place(topic.id, u32::try_from(old + groups.len()).unwrap_or(u32::MAX), groups);
    let beside = placed.iter().skip(old).position(|host| *host == group);
    let beside =
        beside.ok_or_else(|| BrokerError::InvalidRequest(format!("broker group {group} takes no partitions")))?;
    let count = i32::try_from(old + beside + 1).unwrap_or(i32::MAX);
    tracing::info!(
        topic = topic.row.name,
        count,
        "a topic of the broker's own gets a partition in each broker group that needs one"
    );
    let more = NewPartitions { topic: topic.row.name.clone(), count, assignments: Vec::new() };
    broker.create_partitions(vec![more], TIMEOUT_MS, false).await.swap_remove(0)
}
