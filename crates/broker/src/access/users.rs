//! Changes of users, which operators make.

use std::time::Duration;

use duolog_state::Response;
use duolog_state::command::{CatalogCommand, Command};
use duolog_types::{BrokerGroupId, FlushWish, Secret, User, UserStatus, UserType, check_user_name};
use tokio::time::Instant;

use crate::broker::Broker;
use crate::error::BrokerError;

const TIMEOUT: Duration = Duration::from_secs(30);

/// What of a user is changed; `None` leaves it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserEdit {
    /// Its secret.
    pub secret: Option<Secret>,
    /// Whether ACLs count for it.
    pub user_type: Option<UserType>,
    /// Whether it is let in.
    pub status: Option<UserStatus>,
}

/// Why a user was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// There is no such user.
    #[error("there is no user {0:?}")]
    Unknown(String),
    /// There is one already.
    #[error("there is a user {0:?} already")]
    Exists(String),
    /// A name or secret that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The catalog was not reached.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl Broker {
    /// All users, by name.
    #[must_use]
    pub fn users(&self) -> Vec<(String, User)> {
        self.catalog().users().map(|(name, row)| (name.clone(), row.user.clone())).collect()
    }

    /// Creates a user; answered once this node knows it.
    ///
    /// # Errors
    /// `Exists`, `Invalid`, `Broker`.
    pub async fn create_user(&self, name: &str, user: User) -> Result<(), UserError> {
        check_user_name(name)
            .and_then(|()| user.secret.check())
            .map_err(|error| UserError::Invalid(error.to_string()))?;
        let deadline = Instant::now() + TIMEOUT;
        let command = CatalogCommand::PutUser { name: name.to_owned(), user, expected_version: 0 };
        match self.change_user(command, deadline).await? {
            Changed::Done => Ok(()),
            Changed::Conflict { .. } => Err(UserError::Exists(name.to_owned())),
        }
    }

    /// Changes a user; a change that raced with another one is made again.
    ///
    /// # Errors
    /// `Unknown`, `Invalid`, `Broker`.
    pub async fn alter_user(&self, name: &str, edit: UserEdit) -> Result<(), UserError> {
        if let Some(Err(error)) = edit.secret.as_ref().map(Secret::check) {
            return Err(UserError::Invalid(error.to_string()));
        }
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let catalog = self.catalog();
            let row = catalog.user(name).ok_or_else(|| UserError::Unknown(name.to_owned()))?;
            let user = User {
                secret: edit.secret.clone().unwrap_or_else(|| row.user.secret.clone()),
                user_type: edit.user_type.unwrap_or(row.user.user_type),
                status: edit.status.unwrap_or(row.user.status),
            };
            let command = CatalogCommand::PutUser { name: name.to_owned(), user, expected_version: row.version };
            match self.change_user(command, deadline).await? {
                Changed::Done => return Ok(()),
                Changed::Conflict { found: 0 } => return Err(UserError::Unknown(name.to_owned())),
                Changed::Conflict { found } => self.wait_catalog(found, deadline).await?,
            }
        }
    }

    /// Deletes a user with its ACLs; answered once this node has done so.
    ///
    /// # Errors
    /// `Unknown`, `Broker`.
    pub async fn delete_user(&self, name: &str) -> Result<(), UserError> {
        let command = CatalogCommand::DeleteUser { name: name.to_owned() };
        self.change_user(command, Instant::now() + TIMEOUT).await.map(|_| ())
    }

    async fn change_user(&self, command: CatalogCommand, deadline: Instant) -> Result<Changed, UserError> {
        let name = match &command {
            CatalogCommand::DeleteUser { name } => name.clone(),
            _ => String::new(),
        };
        let command = Command::Catalog(command);
        match self.propose(BrokerGroupId::SYSTEM, &command, FlushWish::Now, deadline).await? {
            Response::AccessChanged { version } => {
                self.wait_catalog(version, deadline).await?;
                Ok(Changed::Done)
            }
            Response::VersionConflict { found, .. } => Ok(Changed::Conflict { found }),
            Response::NoSuchUser => Err(UserError::Unknown(name)),
            Response::Invalid(reason) => Err(UserError::Invalid(reason)),
            other => Err(BrokerError::Storage(format!("unexpected answer of the catalog: {other:?}")).into()),
        }
    }
}

enum Changed {
    Done,
    /// The user has another version; 0 when there is none.
    Conflict {
        found: u64,
    },
}
