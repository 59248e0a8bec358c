//! ACLs of the broker in memory.

use duolog_broker::BrokerError;
use duolog_broker::api::{AccessApi, ItemResult};
use duolog_types::{Access, Acl, AclFilter, User};

use super::FakeBroker;

impl AccessApi for FakeBroker {
    fn user(&self, _: &str) -> ItemResult<Option<User>> {
        Ok(None)
    }

    fn is_allowed(&self, _: &Access<'_>) -> ItemResult<bool> {
        Ok(true)
    }

    fn acls(&self, filter: &AclFilter) -> Vec<Acl> {
        self.state.lock().acls.iter().filter(|acl| filter.finds(acl)).cloned().collect()
    }

    async fn create_acls(&self, acls: Vec<Acl>) -> Vec<ItemResult<()>> {
        let create = |acl: Acl| {
            acl.check().map_err(|error| BrokerError::InvalidRequest(error.to_string()))?;
            self.state.lock().acls.insert(acl);
            Ok(())
        };
        acls.into_iter().map(create).collect()
    }

    async fn delete_acls(&self, filters: Vec<AclFilter>) -> Vec<ItemResult<Vec<Acl>>> {
        let delete = |filter: AclFilter| {
            let found = self.acls(&filter);
            self.state.lock().acls.retain(|acl| !filter.finds(acl));
            Ok(found)
        };
        filters.into_iter().map(delete).collect()
    }
}
