//! The catalog: cluster, topics by name and by id, configs of groups, users and ACLs. Only in the system group.

use duolog_record::group::GroupId;
use duolog_types::{Acl, NodeId, TopicId};

use super::{for_each, get};
use crate::rows::{
    AclRow, CatalogGroup, CatalogTopic, CatalogUser, ClusterRow, Counter, DeletedTopic, NameRow, RetiredNodeRow,
};
use crate::tables::{TableId, TableReader};
use crate::{StateError, codec, keys};

/// The cluster; `None` before it was initialized.
///
/// # Errors
/// See [`super::applied`].
pub fn cluster(tables: &dyn TableReader) -> Result<Option<ClusterRow>, StateError> {
    get(tables, TableId::Catalog, keys::CLUSTER)
}

/// The catalog version; 0 before the cluster was initialized.
///
/// # Errors
/// See [`super::applied`].
pub fn catalog_version(tables: &dyn TableReader) -> Result<u64, StateError> {
    Ok(get::<Counter>(tables, TableId::Catalog, keys::CATALOG_VERSION)?.map_or(0, |counter| counter.0))
}

/// The first producer id that no block holds.
///
/// # Errors
/// See [`super::applied`].
pub fn next_producer_id(tables: &dyn TableReader) -> Result<u64, StateError> {
    Ok(get::<Counter>(tables, TableId::Catalog, keys::NEXT_PRODUCER_ID)?.map_or(0, |counter| counter.0))
}

/// A topic by id.
///
/// # Errors
/// See [`super::applied`].
pub fn topic_by_id(tables: &dyn TableReader, id: TopicId) -> Result<Option<CatalogTopic>, StateError> {
    get(tables, TableId::Catalog, &keys::catalog_topic(id))
}

/// A topic by name, with its id.
///
/// # Errors
/// See [`super::applied`].
pub fn topic_by_name(tables: &dyn TableReader, name: &str) -> Result<Option<(TopicId, CatalogTopic)>, StateError> {
    let Some(NameRow(id)) = get(tables, TableId::Catalog, &keys::catalog_name(name))? else {
        return Ok(None);
    };
    Ok(topic_by_id(tables, id)?.map(|topic| (id, topic)))
}

/// The deletion of a topic that was deleted.
///
/// # Errors
/// See [`super::applied`].
pub fn deleted_topic(tables: &dyn TableReader, id: TopicId) -> Result<Option<DeletedTopic>, StateError> {
    get(tables, TableId::Catalog, &keys::catalog_deleted(id))
}

/// All topics, by id.
///
/// # Errors
/// See [`super::applied`].
pub fn topics(tables: &dyn TableReader) -> Result<Vec<(TopicId, CatalogTopic)>, StateError> {
    let mut topics = Vec::new();
    for_each(tables, TableId::Catalog, b"t".to_vec(), Some(b"u"), |key, value| {
        let id = key[1..].try_into().map_err(|_| StateError::BadKey {
            table: TableId::Catalog.name(),
            found: key.len(),
            expected: "17 bytes",
        })?;
        topics.push((TopicId(id), codec::decode(value)?));
        Ok(())
    })?;
    Ok(topics)
}

/// The configs of a consumer group, if any were set.
///
/// # Errors
/// See [`super::applied`].
pub fn group_config(tables: &dyn TableReader, group: &GroupId) -> Result<Option<CatalogGroup>, StateError> {
    get(tables, TableId::Catalog, &keys::catalog_group(group))
}

/// All consumer groups with configs, by name.
///
/// # Errors
/// See [`super::applied`].
pub fn group_configs(tables: &dyn TableReader) -> Result<Vec<(GroupId, CatalogGroup)>, StateError> {
    let mut groups = Vec::new();
    for_each(tables, TableId::Catalog, b"g".to_vec(), Some(b"h"), |key, value| {
        let name = std::str::from_utf8(&key[1..]).map_err(|_| StateError::BadKey {
            table: TableId::Catalog.name(),
            found: key.len(),
            expected: "a group id in UTF-8",
        })?;
        groups.push((GroupId(name.to_owned()), codec::decode(value)?));
        Ok(())
    })?;
    Ok(groups)
}

/// A user by name.
///
/// # Errors
/// See [`super::applied`].
pub fn user(tables: &dyn TableReader, name: &str) -> Result<Option<CatalogUser>, StateError> {
    get(tables, TableId::Catalog, &keys::user(name))
}

/// All users, by name.
///
/// # Errors
/// See [`super::applied`].
pub fn users(tables: &dyn TableReader) -> Result<Vec<(String, CatalogUser)>, StateError> {
    let mut users = Vec::new();
    for_each(tables, TableId::Catalog, b"u".to_vec(), Some(b"v"), |key, value| {
        let name = std::str::from_utf8(&key[1..]).map_err(|_| StateError::BadKey {
            table: TableId::Catalog.name(),
            found: key.len(),
            expected: "a user name in UTF-8",
        })?;
        users.push((name.to_owned(), codec::decode(value)?));
        Ok(())
    })?;
    Ok(users)
}

/// Nodes that left for good, ascending.
///
/// # Errors
/// See [`super::applied`].
pub fn retired_nodes(tables: &dyn TableReader) -> Result<Vec<NodeId>, StateError> {
    let mut nodes = Vec::new();
    for_each(tables, TableId::Catalog, b"x".to_vec(), Some(b"y"), |_, value| {
        let RetiredNodeRow(node) = codec::decode(value)?;
        nodes.push(node);
        Ok(())
    })?;
    Ok(nodes)
}

/// Whether an ACL is there.
///
/// # Errors
/// See [`super::applied`].
pub fn has_acl(tables: &dyn TableReader, acl: &Acl) -> Result<bool, StateError> {
    Ok(get::<AclRow>(tables, TableId::Catalog, &keys::acl(acl))?.is_some())
}

/// All ACLs.
///
/// # Errors
/// See [`super::applied`].
pub fn acls(tables: &dyn TableReader) -> Result<Vec<Acl>, StateError> {
    acls_from(tables, b"a".to_vec(), b"b")
}

/// All ACLs of a principal.
///
/// # Errors
/// See [`super::applied`].
pub fn user_acls(tables: &dyn TableReader, principal: &str) -> Result<Vec<Acl>, StateError> {
    let prefix = keys::user_acls(principal);
    let end = keys::prefix_end(&prefix).expect("the prefix begins with a letter");
    acls_from(tables, prefix, &end)
}

fn acls_from(tables: &dyn TableReader, from: Vec<u8>, end: &[u8]) -> Result<Vec<Acl>, StateError> {
    let mut acls = Vec::new();
    for_each(tables, TableId::Catalog, from, Some(end), |_, value| {
        let AclRow(acl) = codec::decode(value)?;
        acls.push(acl);
        Ok(())
    })?;
    Ok(acls)
}
