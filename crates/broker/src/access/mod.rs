//! Users and ACLs: what front ends ask, and changes of both, which lie in the catalog.
//!
//! Everything is decided by this node's replica of the catalog. A node that has just started may not know yet what it knew before:
//! then nobody is refused for good.

mod acls;
mod first_user;
mod users;

use std::future::Future;

use duolog_types::{Access, Acl, AclFilter, User, UserType, is_allowed};

pub use first_user::FirstUser;
pub(crate) use first_user::create as create_first_user;
pub use users::{UserEdit, UserError};

use crate::api::ItemResult;
use crate::broker::Broker;
use crate::error::BrokerError;

/// Who may do what, as front ends ask it.
pub trait AccessApi {
    /// A user with its secret, for who checks what a client proves itself with; `None` when there is none.
    ///
    /// # Errors
    /// `LeaderNotAvailable`: this node does not know all users yet.
    fn user(&self, name: &str) -> ItemResult<Option<User>>;

    /// Whether a user may do something: ACLs decide, unless it is a super user.
    ///
    /// # Errors
    /// `LeaderNotAvailable`: this node does not know all users and ACLs yet.
    fn is_allowed(&self, access: &Access<'_>) -> ItemResult<bool>;

    /// The ACLs that a filter finds.
    fn acls(&self, filter: &AclFilter) -> Vec<Acl>;

    /// Adds ACLs; answered once this node has them. Results in order.
    ///
    /// # Errors
    /// `InvalidRequest`.
    fn create_acls(&self, acls: Vec<Acl>) -> impl Future<Output = Vec<ItemResult<()>>> + Send;

    /// Deletes the ACLs that each filter finds; answered once this node has done so. Gives what was deleted, in order.
    fn delete_acls(&self, filters: Vec<AclFilter>) -> impl Future<Output = Vec<ItemResult<Vec<Acl>>>> + Send;
}

impl AccessApi for Broker {
    fn user(&self, name: &str) -> ItemResult<Option<User>> {
        match self.catalog().user(name).map(|row| row.user.clone()) {
            None => self.unless_behind(None),
            found => Ok(found),
        }
    }

    fn is_allowed(&self, access: &Access<'_>) -> ItemResult<bool> {
        let catalog = self.catalog();
        let is_super = catalog.user(access.user).is_some_and(|row| row.user.user_type == UserType::Super);
        if is_super || is_allowed(catalog.acls_of(access.user), access) {
            return Ok(true);
        }
        self.unless_behind(false)
    }

    fn acls(&self, filter: &AclFilter) -> Vec<Acl> {
        self.catalog().acls().filter(|acl| filter.finds(acl)).cloned().collect()
    }

    async fn create_acls(&self, acls: Vec<Acl>) -> Vec<ItemResult<()>> {
        acls::create(self, acls).await
    }

    async fn delete_acls(&self, filters: Vec<AclFilter>) -> Vec<ItemResult<Vec<Acl>>> {
        acls::delete(self, filters).await
    }
}

impl Broker {
    fn unless_behind<T>(&self, answer: T) -> ItemResult<T> {
        if self.system().group().has_caught_up() { Ok(answer) } else { Err(BrokerError::LeaderNotAvailable) }
    }
}
