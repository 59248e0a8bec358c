//! Whose state counts for a consumer: its group's, or in broadcasting one of its own.
//!
//! ```text
//! clustering     group                 all consumers share what the group has consumed
//! broadcasting   group@client id       each consumer has its own offsets, which outlive it
//! ```
//!
//! Everything below the front ends knows only groups, so a consumer of a broadcasting group is one with a group of its own.
//! RocketMQ's names have no `@`.

use duolog_record::group::GroupId;
use duolog_types::{ConsumptionMode, GroupConfig};

use crate::catalog::Catalog;

const SEPARATOR: char = '@';

/// The group whose state counts for a client of a group.
pub(crate) fn member(catalog: &Catalog, group: &GroupId, client_id: &str) -> GroupId {
    match catalog.group(group).map(|row| row.config.mode()) {
        Some(ConsumptionMode::Broadcasting) => GroupId(format!("{}{SEPARATOR}{client_id}", group.0)),
        Some(ConsumptionMode::Clustering) | None => group.clone(),
    }
}

/// The broadcasting group that a consumer's own group belongs to.
pub(crate) fn broadcasting(catalog: &Catalog, group: &GroupId) -> Option<GroupId> {
    let mut ends = group.0.match_indices(SEPARATOR).map(|(end, _)| GroupId(group.0[..end].to_owned()));
    ends.find(|name| catalog.group(name).is_some_and(|row| row.config.mode() == ConsumptionMode::Broadcasting))
}

/// The group as its users know it, and its configs.
pub(crate) fn configured(catalog: &Catalog, group: &GroupId) -> (GroupId, GroupConfig) {
    let name = broadcasting(catalog, group).unwrap_or_else(|| group.clone());
    let config = catalog.group(&name).map(|row| row.config.clone()).unwrap_or_default();
    (name, config)
}

#[cfg(test)]
mod tests {
    use duolog_state::rows::CatalogGroup;

    use super::*;

    fn id(name: &str) -> GroupId {
        GroupId(name.to_owned())
    }

    #[test]
    fn a_consumer_of_a_broadcasting_group_has_a_group_of_its_own() {
        let config = |mode| GroupConfig::new([("consumption.mode", mode), ("retry.max.times", "3")]).unwrap();
        let row = |mode| CatalogGroup { config: config(mode), version: 1 };
        let catalog = Catalog::with_groups([(id("all"), row("broadcasting")), (id("one"), row("clustering"))]);
        let own = member(&catalog, &id("all"), "host@1@x");
        assert_eq!(own, id("all@host@1@x"));
        assert_eq!(configured(&catalog, &own), (id("all"), config("broadcasting")));
        for shared in ["one", "other"] {
            assert_eq!(member(&catalog, &id(shared), "host@1@x"), id(shared));
            assert_eq!(broadcasting(&catalog, &id(&format!("{shared}@x"))), None);
        }
        assert_eq!(configured(&catalog, &id("other@x")), (id("other@x"), GroupConfig::default()));
    }
}
