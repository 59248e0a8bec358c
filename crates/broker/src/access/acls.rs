//! Changes of ACLs.

use std::collections::BTreeSet;
use std::time::Duration;

use duolog_state::Response;
use duolog_state::command::{CatalogCommand, Command};
use duolog_types::{Acl, AclFilter, BrokerGroupId, FlushWish, limits};
use tokio::time::Instant;

use crate::api::ItemResult;
use crate::broker::Broker;
use crate::error::BrokerError;

const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn create(broker: &Broker, acls: Vec<Acl>) -> Vec<ItemResult<()>> {
    let checked: Vec<ItemResult<()>> =
        acls.iter().map(|acl| acl.check().map_err(|error| BrokerError::InvalidRequest(error.to_string()))).collect();
    let good = acls.into_iter().zip(&checked).filter(|(_, result)| result.is_ok()).map(|(acl, _)| acl).collect();
    let created = change(broker, good, CatalogCommand::AddAcls).await;
    checked.into_iter().map(|result| result.and_then(|()| created.clone())).collect()
}

/// What several filters find is given to the first of them.
pub(super) async fn delete(broker: &Broker, filters: Vec<AclFilter>) -> Vec<ItemResult<Vec<Acl>>> {
    let catalog = broker.catalog();
    let mut found = BTreeSet::new();
    let per_filter: Vec<Vec<Acl>> = filters
        .iter()
        .map(|filter| catalog.acls().filter(|acl| filter.finds(acl) && found.insert((*acl).clone())).cloned().collect())
        .collect();
    let deleted = change(broker, found.into_iter().collect(), CatalogCommand::DeleteAcls).await;
    per_filter.into_iter().map(|acls| deleted.clone().map(|()| acls)).collect()
}

async fn change(broker: &Broker, acls: Vec<Acl>, command: impl Fn(Vec<Acl>) -> CatalogCommand) -> ItemResult<()> {
    let deadline = Instant::now() + TIMEOUT;
    let mut version = 0;
    for some in acls.chunks(limits::ACLS_PER_COMMAND_MAX) {
        let command = Command::Catalog(command(some.to_vec()));
        match broker.propose(BrokerGroupId::SYSTEM, &command, FlushWish::Now, deadline).await? {
            Response::AccessChanged { version: now } => version = now,
            Response::Invalid(reason) => return Err(BrokerError::InvalidRequest(reason)),
            other => return Err(BrokerError::Storage(format!("unexpected answer of the catalog: {other:?}"))),
        }
    }
    broker.wait_catalog(version, deadline).await
}
