//! Changes of the configs of consumer groups, which lie in the catalog.

use std::time::Duration;

use duolog_record::group::GroupId;
use duolog_state::Response;
use duolog_state::command::{CatalogCommand, Command};
use duolog_types::{BrokerGroupId, FlushWish};
use tokio::time::Instant;

use crate::api::{ConfigEdit, ItemResult};
use crate::broker::Broker;
use crate::config_edit;
use crate::error::BrokerError;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Changes a group's configs; a change that raced with another one is made again.
pub(crate) async fn alter(broker: &Broker, group: GroupId, edit: ConfigEdit, validate_only: bool) -> ItemResult<()> {
    if group.0.is_empty() {
        return Err(BrokerError::InvalidRequest("the name of the consumer group is empty".to_owned()));
    }
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let found = broker.catalog().group(&group).cloned();
        let (before, expected_version) = found.map_or((Default::default(), 0), |row| (row.config, row.version));
        let config = config_edit::apply(&edit, &before)?;
        if validate_only || config == before {
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
