//! Users and ACLs of the brokers in memory.

use duolog_broker::api::{AccessApi, ItemResult};
use duolog_types::{Access, Acl, AclFilter, User, UserType, is_allowed};

use super::FakeBroker;

impl AccessApi for FakeBroker {
    fn user(&self, name: &str) -> ItemResult<Option<User>> {
        Ok(self.state.lock().users.get(name).cloned())
    }

    fn is_allowed(&self, access: &Access<'_>) -> ItemResult<bool> {
        let state = self.state.lock();
        let is_super = state.users.get(access.user).is_some_and(|user| user.user_type == UserType::Super);
        Ok(is_super || is_allowed(&state.acls, access))
    }

    fn acls(&self, _: &AclFilter) -> Vec<Acl> {
        Vec::new()
    }

    async fn create_acls(&self, _: Vec<Acl>) -> Vec<ItemResult<()>> {
        Vec::new()
    }

    async fn delete_acls(&self, _: Vec<AclFilter>) -> Vec<ItemResult<Vec<Acl>>> {
        Vec::new()
    }
}
