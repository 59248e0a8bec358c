//! Who may do what: users, access control lists (ACLs) in Kafka's model, and the one rule that decides. Both front ends rest on it.

mod acl;
mod decide;
mod user;

pub use acl::{Acl, AclFilter, AclOperation, AclPatternFilter, AclPermission, AclResourceType, PatternType};
pub use decide::{Access, is_allowed};
pub use user::{AccessError, Secret, User, UserStatus, UserType, check_user_name};
