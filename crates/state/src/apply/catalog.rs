//! Commands to the catalog.

use duolog_record::group::GroupId;
use duolog_types::{BrokerGroupId, GroupConfig, ProducerId, TimestampMs, TopicConfig, TopicId, limits};

use super::access;
use super::context::Context;
use crate::command::{CatalogCommand, ClusterNode, Response};
use crate::event::StateEvent;
use crate::rows::{CatalogGroup, CatalogTopic, ClusterRow, Counter, DeletedTopic, NameRow, RetiredNodeRow};
use crate::tables::TableId;
use crate::{StateError, keys, reader};

pub(super) fn apply(context: &mut Context<'_>, command: CatalogCommand) -> Result<Response, StateError> {
    match command {
        CatalogCommand::InitCluster { cluster_id, nodes, data_groups, coordinator_slots } => {
            init_cluster(context, ClusterRow { cluster_id, nodes, data_groups, coordinator_slots })
        }
        CatalogCommand::CreateTopic { name, id, partitions, config, timestamp } => {
            create_topic(context, name, id, partitions, config, timestamp)
        }
        CatalogCommand::DeleteTopic { id } => delete_topic(context, id),
        CatalogCommand::AlterTopicConfig { id, config, expected_version } => {
            alter_topic_config(context, id, config, expected_version)
        }
        CatalogCommand::AllocateProducerIds { node: _ } => allocate_producer_ids(context),
        CatalogCommand::AddPartitions { id, added, expected_version } => {
            add_partitions(context, id, &added, expected_version)
        }
        CatalogCommand::PutGroupConfig { group, config, expected_version } => {
            put_group_config(context, &group, config, expected_version)
        }
        CatalogCommand::InitUser { name, user } => access::init_user(context, &name, user),
        CatalogCommand::PutUser { name, user, expected_version } => {
            access::put_user(context, &name, user, expected_version)
        }
        CatalogCommand::DeleteUser { name } => access::delete_user(context, &name),
        CatalogCommand::AddAcls(acls) => access::add_acls(context, acls),
        CatalogCommand::DeleteAcls(acls) => access::delete_acls(context, &acls),
        CatalogCommand::RetireNode { node } => {
            context.put(TableId::Catalog, keys::retired_node(node), &RetiredNodeRow(node));
            Ok(Response::Ok)
        }
    }
}

fn init_cluster(context: &mut Context<'_>, row: ClusterRow) -> Result<Response, StateError> {
    if let Some(first) = reader::cluster(&context.tables)? {
        return Ok(Response::ClusterInitialized { cluster_id: first.cluster_id });
    }
    if let Err(reason) = check_cluster(&row.nodes, &row.data_groups, &row.coordinator_slots) {
        return Ok(Response::Invalid(reason));
    }
    context.put(TableId::Catalog, keys::CLUSTER.to_vec(), &row);
    bump_version(context)?;
    Ok(Response::ClusterInitialized { cluster_id: row.cluster_id })
}

fn check_cluster(nodes: &[ClusterNode], groups: &[BrokerGroupId], slots: &[BrokerGroupId]) -> Result<(), String> {
    if nodes.is_empty() {
        return Err("a cluster has at least one node".to_owned());
    }
    // A cluster with a single broker group keeps its data beside the catalog.
    let alone = groups == [BrokerGroupId::SYSTEM];
    if groups.is_empty() || (groups.contains(&BrokerGroupId::SYSTEM) && !alone) || !groups.is_sorted_by(|a, b| a < b) {
        return Err(format!(
            "data groups {groups:?}: expected at least one, ascending, and the system group only if it is the only one"
        ));
    }
    if slots.len() != limits::COORDINATOR_SLOTS as usize {
        return Err(format!("found {} coordinator slots, expected {}", slots.len(), limits::COORDINATOR_SLOTS));
    }
    match slots.iter().find(|slot| !groups.contains(slot)) {
        Some(unknown) => Err(format!("a coordinator slot lies in broker group {unknown}, which is no data group")),
        None => Ok(()),
    }
}

fn create_topic(
    context: &mut Context<'_>,
    name: String,
    id: TopicId,
    partitions: Vec<BrokerGroupId>,
    config: TopicConfig,
    created: TimestampMs,
) -> Result<Response, StateError> {
    let Some(cluster) = reader::cluster(&context.tables)? else {
        return Ok(Response::ClusterNotInitialized);
    };
    if let Err(reason) = check_topic(&name, &partitions, &cluster.data_groups) {
        return Ok(Response::Invalid(reason));
    }
    if let Some((id, _)) = reader::topic_by_name(&context.tables, &name)? {
        return Ok(Response::TopicExists { id });
    }
    if reader::topic_by_id(&context.tables, id)?.is_some() || reader::deleted_topic(&context.tables, id)?.is_some() {
        return Ok(Response::TopicIdUsed);
    }
    let version = bump_version(context)?;
    context.put(TableId::Catalog, keys::catalog_name(&name), &NameRow(id));
    let topic = CatalogTopic { name, partitions, config, created, version };
    context.put(TableId::Catalog, keys::catalog_topic(id), &topic);
    Ok(Response::TopicCreated { id, version })
}

fn check_topic(name: &str, partitions: &[BrokerGroupId], data_groups: &[BrokerGroupId]) -> Result<(), String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name = name.strip_prefix(limits::DEAD_LETTER_TOPIC_PREFIX).unwrap_or(name);
    if name.is_empty() || name == "." || name == ".." || !name.chars().all(is_allowed) {
        return Err(format!("topic name {name:?}: expected ASCII letters, digits, '.', '_' and '-'"));
    }
    if name.len() > limits::TOPIC_NAME_BYTES_MAX {
        return Err(format!("topic name of {} bytes, expected at most {}", name.len(), limits::TOPIC_NAME_BYTES_MAX));
    }
    if partitions.is_empty() || partitions.len() > limits::PARTITIONS_PER_TOPIC_MAX as usize {
        return Err(format!(
            "found {} partitions, expected 1 to {}",
            partitions.len(),
            limits::PARTITIONS_PER_TOPIC_MAX
        ));
    }
    match partitions.iter().find(|group| !data_groups.contains(group)) {
        Some(unknown) => Err(format!("a partition is placed in broker group {unknown}, which is no data group")),
        None => Ok(()),
    }
}

fn delete_topic(context: &mut Context<'_>, id: TopicId) -> Result<Response, StateError> {
    let Some(topic) = reader::topic_by_id(&context.tables, id)? else {
        let is_deleted = reader::deleted_topic(&context.tables, id)?.is_some();
        return Ok(if is_deleted { Response::TopicDeleted } else { Response::NoSuchTopic });
    };
    let version = bump_version(context)?;
    context.tables.delete(TableId::Catalog, keys::catalog_topic(id));
    context.tables.delete(TableId::Catalog, keys::catalog_name(&topic.name));
    context.put(TableId::Catalog, keys::catalog_deleted(id), &DeletedTopic { version });
    Ok(Response::TopicChanged { version })
}

fn alter_topic_config(
    context: &mut Context<'_>,
    id: TopicId,
    config: TopicConfig,
    expected: u64,
) -> Result<Response, StateError> {
    let Some(topic) = reader::topic_by_id(&context.tables, id)? else {
        return Ok(Response::NoSuchTopic);
    };
    if topic.version != expected {
        return Ok(Response::VersionConflict { found: topic.version, expected });
    }
    let version = bump_version(context)?;
    context.put(TableId::Catalog, keys::catalog_topic(id), &CatalogTopic { config, version, ..topic });
    Ok(Response::TopicChanged { version })
}

fn add_partitions(
    context: &mut Context<'_>,
    id: TopicId,
    added: &[BrokerGroupId],
    expected: u64,
) -> Result<Response, StateError> {
    let (Some(cluster), Some(topic)) = (reader::cluster(&context.tables)?, reader::topic_by_id(&context.tables, id)?)
    else {
        let is_deleted = reader::deleted_topic(&context.tables, id)?.is_some();
        return Ok(if is_deleted { Response::TopicDeleted } else { Response::NoSuchTopic });
    };
    if topic.version != expected {
        return Ok(Response::VersionConflict { found: topic.version, expected });
    }
    let partitions = [&topic.partitions, added].concat();
    if let Err(reason) = check_topic(&topic.name, &partitions, &cluster.data_groups) {
        return Ok(Response::Invalid(reason));
    }
    let version = bump_version(context)?;
    context.put(TableId::Catalog, keys::catalog_topic(id), &CatalogTopic { partitions, version, ..topic });
    Ok(Response::TopicChanged { version })
}

fn put_group_config(
    context: &mut Context<'_>,
    group: &GroupId,
    config: GroupConfig,
    expected: u64,
) -> Result<Response, StateError> {
    let found = reader::group_config(&context.tables, group)?.map_or(0, |row| row.version);
    if found != expected {
        return Ok(Response::VersionConflict { found, expected });
    }
    let version = bump_version(context)?;
    let key = keys::catalog_group(group);
    if config.is_empty() {
        context.tables.delete(TableId::Catalog, key);
    } else {
        context.put(TableId::Catalog, key, &CatalogGroup { config, version });
    }
    Ok(Response::GroupConfigChanged { version })
}

fn allocate_producer_ids(context: &mut Context<'_>) -> Result<Response, StateError> {
    let first = reader::next_producer_id(&context.tables)?;
    let count = limits::PRODUCER_ID_BLOCK;
    context.put(TableId::Catalog, keys::NEXT_PRODUCER_ID.to_vec(), &Counter(first + count.cast_unsigned()));
    let first = i64::try_from(first).expect("2^63 producer ids are never used up");
    Ok(Response::ProducerIds { first: ProducerId(first), count })
}

pub(super) fn bump_version(context: &mut Context<'_>) -> Result<u64, StateError> {
    let version = reader::catalog_version(&context.tables)? + 1;
    context.put(TableId::Catalog, keys::CATALOG_VERSION.to_vec(), &Counter(version));
    context.emit(StateEvent::CatalogChanged { version });
    Ok(version)
}
