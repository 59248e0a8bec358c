//! Background work of leaders: the cluster's first catalog entry, and what data groups must know of the catalog.

use std::sync::Arc;
use std::time::Duration;

use duolog_replication::CommandResponse;
use duolog_state::Response;
use duolog_state::command::{CatalogCommand, ClusterNode, Command, PartitionCommand};
use duolog_state::rows::TopicRow;
use duolog_state::{StateError, reader};
use duolog_types::{BrokerGroupId, FlushWish, limits};

use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::runtime::GroupRuntime;

/// Looks at least this often, so that a lost wake-up heals.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the in-memory catalog up to date with this node's replica of the system group.
pub(crate) async fn follow_catalog(broker: Broker) {
    let system = broker.system();
    let mut changed = system.subscribe_catalog();
    loop {
        changed.mark_unchanged();
        match Catalog::read(&*system.tables()) {
            Ok(catalog) => broker.publish_catalog(catalog),
            Err(error) => tracing::error!(%error, "cannot read the catalog"),
        }
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// The system group's leader writes the first entry of the catalog.
pub(crate) async fn initialize_catalog(broker: Broker) {
    let system = broker.system();
    let mut serving = system.subscribe_serving();
    loop {
        let serves = serving.borrow_and_update().is_some();
        if serves && !broker.catalog().initialized {
            propose_first_entry(&broker).await;
        }
        if serving.changed().await.is_err() {
            return;
        }
    }
}

async fn propose_first_entry(broker: &Broker) {
    let data_groups: Vec<BrokerGroupId> =
        broker.runtimes().map(|runtime| runtime.id()).filter(|id| !id.is_system()).collect();
    // With a single broker group it holds everything.
    let data_groups = if data_groups.is_empty() { vec![BrokerGroupId::SYSTEM] } else { data_groups };
    let slots = (0..limits::COORDINATOR_SLOTS as usize).map(|slot| data_groups[slot % data_groups.len()]).collect();
    let nodes = broker
        .system()
        .group()
        .members()
        .into_iter()
        .map(|view| ClusterNode { id: view.node_id, host: view.member.host, kafka_port: view.member.kafka_port })
        .collect();
    let command = Command::Catalog(CatalogCommand::InitCluster {
        cluster_id: broker.cluster_handle().identity().get().cluster_id.unwrap_or_default(),
        nodes,
        data_groups,
        coordinator_slots: slots,
    });
    match broker.system().group().propose_command(command.encode(), FlushWish::Now).await {
        Ok((_, CommandResponse(Response::ClusterInitialized { .. }))) => tracing::info!("initialized the catalog"),
        Ok((_, other)) => tracing::error!(answer = %other, "the catalog refused its first entry"),
        Err(error) => tracing::warn!(%error, "cannot initialize the catalog yet"),
    }
}

/// What a data group does not know of the catalog yet.
fn missing(catalog: &Catalog, group: &GroupRuntime) -> Result<Vec<Command>, StateError> {
    let tables = group.tables();
    let mut commands = Vec::new();
    for (topic, partitions) in catalog.hosted_by(group.id()) {
        let known = match reader::hosted_topic(&*tables, topic.id)? {
            Some(TopicRow::Live { catalog_version, .. }) => catalog_version >= topic.row.version,
            Some(TopicRow::Deleted { .. }) => true,
            None => false,
        };
        if !known {
            commands.push(Command::Partitions(PartitionCommand::UpsertTopic {
                topic_id: topic.id,
                catalog_version: topic.row.version,
                partitions,
                config: topic.row.config.clone(),
            }));
        }
    }
    for (id, row) in reader::hosted_topics(&*tables)? {
        // Created here from a newer catalog than this node has: only what is older than it can have been deleted in it.
        let gone = matches!(row, TopicRow::Live { catalog_version, .. } if catalog_version <= catalog.version)
            && catalog.by_id(id).is_none();
        if gone {
            let catalog_version = catalog.version;
            commands.push(Command::Partitions(PartitionCommand::DeleteTopic { topic_id: id, catalog_version }));
        }
    }
    Ok(commands)
}

/// The leader of a data group proposes what its group must know; idempotent by topic id and catalog version.
pub(crate) async fn reconcile(broker: Broker, group: Arc<GroupRuntime>) {
    let mut catalog = broker.subscribe_catalog();
    let mut serving = group.subscribe_serving();
    loop {
        catalog.mark_unchanged();
        let serves = serving.borrow_and_update().is_some();
        if serves {
            match missing(&broker.catalog(), &group) {
                Ok(commands) => {
                    for command in commands {
                        if let Err(error) = group.group().propose_command(command.encode(), FlushWish::Now).await {
                            tracing::debug!(broker_group = %group.id(), %error, "cannot tell the group of the catalog yet");
                            break;
                        }
                    }
                }
                Err(error) => tracing::error!(broker_group = %group.id(), %error, "cannot read the group's topics"),
            }
        }
        let woken = async {
            tokio::select! {
                changed = catalog.changed() => changed.is_ok(),
                changed = serving.changed() => changed.is_ok(),
            }
        };
        // A time-out is a look without a reason.
        if let Ok(false) = tokio::time::timeout(LOOK_INTERVAL, woken).await {
            return;
        }
    }
}
