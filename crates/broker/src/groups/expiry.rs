//! Committed offsets expire: the coordinator's leader looks, stamps its time, and proposes what goes.
//!
//! Each group is judged within one step of the machine's driver, so no request comes between the look and the proposal;
//! groups with a proposal in flight are left for the next look. Offsets of deleted topics go as soon as this node's catalog
//! shows a deletion, everything else with the next look.

use std::sync::Arc;
use std::time::Duration;

use duolog_coordinator::groups::{Event, ExpiryRule, GroupMachine, StoredOffset};
use duolog_record::group::{GroupId, GroupState};
use duolog_state::{StateError, TableReader, reader};
use duolog_types::TopicId;

use super::Coordinator;
use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::produce::now;

/// What a look needs besides the machine.
struct Look {
    catalog: Arc<Catalog>,
    system: Arc<dyn TableReader>,
    own: Arc<dyn TableReader>,
    retention_ms: i64,
}

/// Runs as long as the node does.
pub(crate) async fn expire(broker: Broker, coordinator: Arc<Coordinator>, interval: Duration, retention_ms: i64) {
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut changed = broker.subscribe_catalog();
    let mut known = broker.catalog();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            change = changed.changed() => {
                if change.is_err() {
                    return;
                }
                let catalog = broker.catalog();
                let before = std::mem::replace(&mut known, catalog.clone());
                if before.topics().all(|topic| catalog.by_id(topic.id).is_some()) {
                    continue;
                }
            }
        }
        if coordinator.runtime.subscribe_serving().borrow().is_some() {
            look(&broker, &coordinator, retention_ms).await;
        }
    }
}

async fn look(broker: &Broker, coordinator: &Coordinator, retention_ms: i64) {
    let listed = coordinator.look(|machine| machine.list().map(|listing| listing.group).collect::<Vec<_>>()).await;
    // Whoever coordinates now looks for himself.
    let Ok(groups) = listed else { return };
    let look = Arc::new(Look {
        catalog: broker.catalog(),
        system: broker.system().tables(),
        own: coordinator.runtime.tables(),
        retention_ms,
    });
    for group in groups {
        let look = look.clone();
        let step = move |machine: &GroupMachine| match look.judge(machine, &group) {
            Ok(event) => event,
            Err(error) => {
                tracing::error!(consumer_group = %group, %error, "cannot read committed offsets that may have expired");
                None
            }
        };
        if coordinator.step(step).await.is_err() {
            return;
        }
    }
}

impl Look {
    fn judge(&self, machine: &GroupMachine, group: &GroupId) -> Result<Option<Event>, StateError> {
        let mut offsets = Vec::new();
        for (partition, committed) in reader::committed_offsets(&*self.own, group)? {
            let topic = match self.topic(partition.topic)? {
                Known::Live(name) => Some(name),
                Known::Deleted => None,
                Known::NotYet => return Ok(None),
            };
            offsets.push(StoredOffset { partition, topic, commit_timestamp: committed.commit_timestamp });
        }
        let now = now();
        let empty_since = match reader::stored_group(&*self.own, group)? {
            // If it is empty here, the state was not told: then it is not known to have been so for long.
            Some(stored) if stored.metadata.state == GroupState::Stable => Some(now),
            Some(stored) => stored.empty_since,
            None => None,
        };
        let rule = ExpiryRule { now, empty_since, retention_ms: self.retention_ms };
        Ok(machine.expired(group, &offsets, &rule).map(Event::Expire))
    }

    /// Only the catalog's own word counts for a deletion: this node's replica of it may be behind.
    fn topic(&self, id: TopicId) -> Result<Known, StateError> {
        if let Some(topic) = self.catalog.by_id(id) {
            return Ok(Known::Live(topic.row.name.clone()));
        }
        let is_deleted = reader::deleted_topic(&*self.system, id)?.is_some();
        Ok(if is_deleted { Known::Deleted } else { Known::NotYet })
    }
}

/// What this node's replica of the catalog says of a topic id.
enum Known {
    Live(String),
    Deleted,
    NotYet,
}
