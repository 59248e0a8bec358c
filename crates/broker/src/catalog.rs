//! The catalog as this node's replica of the system group has it, in memory.
//!
//! Rebuilt whole after each change: changes are rare, look-ups are not.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use duolog_record::group::GroupId;
use duolog_state::reader;
use duolog_state::rows::{CatalogGroup, CatalogTopic, CatalogUser};
use duolog_state::{StateError, TableReader};
use duolog_types::{Acl, BrokerGroupId, TopicId, TopicPartition};

use crate::api::TopicRef;
use crate::error::BrokerError;

/// A topic of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) row: CatalogTopic,
}

/// All topics, configs of consumer groups, users and ACLs, at one version of the catalog.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    pub(crate) version: u64,
    pub(crate) data_groups: Vec<BrokerGroupId>,
    pub(crate) coordinator_slots: Vec<BrokerGroupId>,
    pub(crate) initialized: bool,
    by_id: HashMap<TopicId, Arc<Topic>>,
    by_name: BTreeMap<String, Arc<Topic>>,
    groups: BTreeMap<GroupId, CatalogGroup>,
    users: BTreeMap<String, CatalogUser>,
    /// By principal.
    acls: BTreeMap<String, Vec<Acl>>,
}

impl Catalog {
    /// Reads the applied catalog.
    pub(crate) fn read(tables: &dyn TableReader) -> Result<Self, StateError> {
        let mut catalog = Self { version: reader::catalog_version(tables)?, ..Self::default() };
        if let Some(cluster) = reader::cluster(tables)? {
            catalog.data_groups = cluster.data_groups;
            catalog.coordinator_slots = cluster.coordinator_slots;
            catalog.initialized = true;
        }
        for (id, row) in reader::topics(tables)? {
            let topic = Arc::new(Topic { id, row });
            catalog.by_name.insert(topic.row.name.clone(), topic.clone());
            catalog.by_id.insert(id, topic);
        }
        catalog.groups = reader::group_configs(tables)?.into_iter().collect();
        catalog.users = reader::users(tables)?.into_iter().collect();
        for acl in reader::acls(tables)? {
            catalog.acls.entry(acl.principal.clone()).or_default().push(acl);
        }
        Ok(catalog)
    }

    #[cfg(test)]
    pub(crate) fn with_groups(groups: impl IntoIterator<Item = (GroupId, CatalogGroup)>) -> Self {
        Self { groups: groups.into_iter().collect(), ..Self::default() }
    }

    /// All topics by name.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// The configs of a consumer group, if any were set.
    pub(crate) fn group(&self, group: &GroupId) -> Option<&CatalogGroup> {
        self.groups.get(group)
    }

    /// All consumer groups with configs.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (&GroupId, &CatalogGroup)> {
        self.groups.iter()
    }

    /// A user by name.
    pub(crate) fn user(&self, name: &str) -> Option<&CatalogUser> {
        self.users.get(name)
    }

    /// All users, by name.
    pub(crate) fn users(&self) -> impl Iterator<Item = (&String, &CatalogUser)> {
        self.users.iter()
    }

    /// All ACLs.
    pub(crate) fn acls(&self) -> impl Iterator<Item = &Acl> {
        self.acls.values().flatten()
    }

    /// The ACLs that name a user, or all users.
    pub(crate) fn acls_of(&self, user: &str) -> impl Iterator<Item = &Acl> {
        let of = |user: &str| self.acls.get(&Acl::principal_of(user)).into_iter().flatten();
        of(user).chain(of(Acl::WILDCARD))
    }

    /// A topic by id.
    pub(crate) fn by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    /// A topic by name or id.
    pub(crate) fn find(&self, topic: &TopicRef) -> Result<&Arc<Topic>, BrokerError> {
        match topic {
            TopicRef::Name(name) => self.by_name.get(name).ok_or_else(|| BrokerError::UnknownTopic(name.clone())),
            TopicRef::Id(id) => self.by_id.get(id).ok_or(BrokerError::UnknownTopicId(*id)),
        }
    }

    /// A partition and the broker group that holds it.
    pub(crate) fn partition(&self, topic: &TopicRef, partition: i32) -> Result<Located, BrokerError> {
        let topic = self.find(topic)?;
        let group = usize::try_from(partition).ok().and_then(|index| topic.row.partitions.get(index));
        match (group, u32::try_from(partition)) {
            (Some(group), Ok(number)) => Ok(Located {
                topic: topic.clone(),
                partition: TopicPartition { topic: topic.id, partition: number },
                group: *group,
            }),
            _ => Err(BrokerError::UnknownPartition { topic: topic.row.name.clone(), partition }),
        }
    }

    /// Topics that a data group must host, with the partitions there.
    pub(crate) fn hosted_by(&self, group: BrokerGroupId) -> impl Iterator<Item = (&Arc<Topic>, Vec<u32>)> {
        self.by_name.values().filter_map(move |topic| {
            let partitions: Vec<u32> = topic
                .row
                .partitions
                .iter()
                .zip(0_u32..)
                .filter(|(host, _)| **host == group)
                .map(|(_, number)| number)
                .collect();
            (!partitions.is_empty()).then_some((topic, partitions))
        })
    }
}

/// A partition that was found in the catalog.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    pub(crate) topic: Arc<Topic>,
    pub(crate) partition: TopicPartition,
    pub(crate) group: BrokerGroupId,
}
