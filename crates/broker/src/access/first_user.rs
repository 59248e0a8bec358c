//! The first super user of a cluster, from the node's config.

use std::time::Duration;

use duolog_state::Response;
use duolog_state::command::{CatalogCommand, Command};
use duolog_types::{BrokerGroupId, FlushWish, Secret, User, UserStatus, UserType};
use tokio::time::{Instant, sleep};

use crate::broker::Broker;

const TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(500);

/// The user that is made when there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstUser {
    /// Its name.
    pub name: String,
    /// Its secret.
    pub secret: Secret,
}

/// Creates the user once the catalog is there, unless it has users. Every node tries; the first one wins.
pub(crate) async fn create(broker: Broker, first: FirstUser) {
    let user = User { secret: first.secret, user_type: UserType::Super, status: UserStatus::Enabled };
    let command = Command::Catalog(CatalogCommand::InitUser { name: first.name.clone(), user });
    loop {
        if broker.is_ready() {
            if broker.catalog().users().next().is_some() {
                return;
            }
            let deadline = Instant::now() + TIMEOUT;
            match broker.propose(BrokerGroupId::SYSTEM, &command, FlushWish::Now, deadline).await {
                Ok(Response::AccessChanged { .. }) => {
                    tracing::info!(user = first.name, "the first super user was created");
                    return;
                }
                Ok(Response::Unchanged) => return,
                Ok(other) => {
                    tracing::error!(user = first.name, answer = ?other, "the first super user cannot be created");
                    return;
                }
                Err(error) => tracing::debug!(%error, "the first super user could not be created yet"),
            }
        }
        sleep(PAUSE).await;
    }
}
