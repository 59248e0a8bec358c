//! Keys of users and ACLs in the catalog.
//!
//! ```text
//! 'u' name
//! 'a' length u16, principal │ resource type u8, pattern u8, operation u8, permission u8 │ length u16, name │ host, to the end
//! ```
//!
//! Numbers of resource type, pattern, operation and permission are Kafka's. Only the first part is ever read
//! back, as the prefix of all ACLs of a principal; the row holds the whole ACL.

use duolog_types::Acl;

use super::tagged;

/// Catalog: a user.
#[must_use]
pub fn user(name: &str) -> Vec<u8> {
    tagged(b'u', name.as_bytes())
}

/// Catalog: the prefix of all ACLs of a principal.
#[must_use]
pub fn user_acls(principal: &str) -> Vec<u8> {
    let mut key = vec![b'a'];
    push_text(&mut key, principal);
    key
}

/// Catalog: an ACL.
#[must_use]
pub fn acl(acl: &Acl) -> Vec<u8> {
    let mut key = user_acls(&acl.principal);
    key.extend([acl.resource_type as u8, acl.pattern as u8, acl.operation as u8, acl.permission as u8]);
    push_text(&mut key, &acl.name);
    key.extend(acl.host.as_bytes());
    key
}

fn push_text(key: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("texts of ACLs are checked to be short");
    key.extend(length.to_be_bytes());
    key.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use duolog_types::{AclOperation, AclPermission, AclResourceType, PatternType};

    use super::*;

    #[test]
    fn different_acls_have_different_keys_and_those_of_a_principal_lie_together() {
        let first = Acl {
            resource_type: AclResourceType::Topic,
            pattern: PatternType::Literal,
            name: "ab".to_owned(),
            principal: "User:a".to_owned(),
            host: "c".to_owned(),
            operation: AclOperation::Read,
            permission: AclPermission::Allow,
        };
        for other in [
            Acl { resource_type: AclResourceType::Group, ..first.clone() },
            Acl { pattern: PatternType::Prefixed, ..first.clone() },
            Acl { operation: AclOperation::Write, ..first.clone() },
            Acl { permission: AclPermission::Deny, ..first.clone() },
            Acl { name: "a".to_owned(), host: "bc".to_owned(), ..first.clone() },
        ] {
            assert_ne!(acl(&first), acl(&other));
            assert!(acl(&other).starts_with(&user_acls("User:a")));
        }
        let longer = Acl { principal: "User:ab".to_owned(), ..first };
        assert!(!acl(&longer).starts_with(&user_acls("User:a")));
    }
}
