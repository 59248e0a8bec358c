//! Users and ACLs of the sample log.

use duolog_types::{
    Acl, AclOperation, AclPermission, AclResourceType, NodeId, PatternType, Secret, User, UserStatus, UserType,
};

use super::SampleLog;
use crate::command::CatalogCommand;

impl SampleLog {
    pub(super) fn access_command(&mut self) -> CatalogCommand {
        let name = format!("user-{}", self.below(2));
        let secret = Secret::new(format!("secret-{}", self.next_index)).expect("a good secret");
        let user = User { secret, user_type: UserType::Normal, status: UserStatus::Enabled };
        match self.below(7) {
            6 => CatalogCommand::RetireNode { node: NodeId(self.below(9)) },
            0 => CatalogCommand::InitUser { name, user },
            1 => CatalogCommand::PutUser { name, user, expected_version: self.below(9) },
            2 => CatalogCommand::DeleteUser { name },
            3 => CatalogCommand::DeleteAcls(vec![self.acl(&name)]),
            _ => CatalogCommand::AddAcls(vec![self.acl(&name), self.acl(&name)]),
        }
    }

    fn acl(&mut self, user: &str) -> Acl {
        Acl {
            resource_type: AclResourceType::Topic,
            pattern: PatternType::Literal,
            name: format!("topic-{}", self.below(2)),
            principal: Acl::principal_of(user),
            host: Acl::WILDCARD.to_owned(),
            operation: AclOperation::Read,
            permission: if self.below(2) == 0 { AclPermission::Allow } else { AclPermission::Deny },
        }
    }
}
