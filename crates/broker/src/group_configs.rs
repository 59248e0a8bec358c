//! Changes of the configs of consumer groups, which lie in the catalog.

use std::time::Duration;

use duolog_record::group::GroupId;
use duolog_state::Response;
use duolog_state::command::{CatalogCommand, Command};
use duolog_types::{BrokerGroupId, FlushWish, limits};
use tokio::time::Instant;

use crate::api::{ConfigEdit, ItemResult};
use crate::broker::Broker;
use crate::catalog::Catalog;
use crate::config_edit;
use crate::error::BrokerError;
use crate::groups::GROUP_ID_BYTES_MAX;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Changes a group's configs; a change that raced with another one is made again.
pub(crate) async fn alter(broker: &Broker, group: GroupId, edit: ConfigEdit, validate_only: bool) -> ItemResult<()> {
    check_name(&group)?;
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let catalog = broker.catalog();
        let found = catalog.group(&group).cloned();
        let (before, expected_version) = found.map_or((Default::default(), 0), |row| (row.config, row.version));
        let config = config_edit::apply(&edit, &before)?;
        if config == before {
            return Ok(());
        }
        check_room(&catalog, &group)?;
        if validate_only {
            return Ok(());
        }
        let command =
            Command::Catalog(CatalogCommand::PutGroupConfig { group: group.clone(), config, expected_version });
        match broker.propose(BrokerGroupId::SYSTEM, &command, FlushWish::Now, deadline).await? {
            Response::GroupConfigChanged { version } => return broker.wait_catalog(version, deadline).await,
            Response::VersionConflict { .. } => {
                let seen = broker.catalog().version;
                broker.wait_catalog(seen + 1, deadline).await?;
            }
            other => return Err(BrokerError::Storage(format!("unexpected answer of the catalog: {other:?}"))),
        }
    }
}

fn check_name(group: &GroupId) -> ItemResult<()> {
    match group.0.len() {
        0 => Err(BrokerError::InvalidRequest("the name of the consumer group is empty".to_owned())),
        1..=GROUP_ID_BYTES_MAX => Ok(()),
        found => Err(BrokerError::InvalidRequest(format!(
            "the name of the consumer group has {found} bytes, expected at most {GROUP_ID_BYTES_MAX}"
        ))),
    }
}

/// The catalog has room for a group that it has already, and for so many others. Changes at the same time may exceed that by a
/// few: the rule is not replicated, so that it may change.
fn check_room(catalog: &Catalog, group: &GroupId) -> ItemResult<()> {
    if catalog.group(group).is_some() || catalog.groups().count() < limits::GROUP_CONFIGS_MAX {
        return Ok(());
    }
    let sentence = format!("{} consumer groups have configs already, which is the most", limits::GROUP_CONFIGS_MAX);
    Err(BrokerError::InvalidRequest(sentence))
}

#[cfg(test)]
mod tests {
    use duolog_state::rows::CatalogGroup;

    use super::*;

    #[test]
    fn names_have_the_length_of_group_ids() {
        for (length, expected) in [(0, false), (1, true), (GROUP_ID_BYTES_MAX, true), (GROUP_ID_BYTES_MAX + 1, false)] {
            assert_eq!(check_name(&GroupId("x".repeat(length))).is_ok(), expected, "{length} bytes");
        }
    }

    #[test]
    fn a_full_catalog_takes_no_new_group_and_changes_the_others() {
        let group = |number: usize| GroupId(number.to_string());
        let row = || CatalogGroup { config: Default::default(), version: 1 };
        let full = Catalog::with_groups((0..limits::GROUP_CONFIGS_MAX).map(|number| (group(number), row())));
        assert_eq!(check_room(&full, &group(0)), Ok(()));
        assert!(matches!(check_room(&full, &group(limits::GROUP_CONFIGS_MAX)), Err(BrokerError::InvalidRequest(_))));
        let nearly = Catalog::with_groups((1..limits::GROUP_CONFIGS_MAX).map(|number| (group(number), row())));
        assert_eq!(check_room(&nearly, &group(0)), Ok(()));
    }
}
