//! The rule by which ACLs allow or deny, that of Kafka's authorizer: a matching DENY counts for more than any ALLOW, and without a
//! matching ALLOW nothing is allowed. Super users are let through before anybody asks here.

use super::acl::{Acl, AclOperation, AclPermission, AclResourceType};

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access<'a> {
    /// The user's name.
    pub user: &'a str,
    /// The client's IP address.
    pub host: &'a str,
    /// The operation; never `All`.
    pub operation: AclOperation,
    /// On what.
    pub resource_type: AclResourceType,
    /// Its name.
    pub name: &'a str,
}

/// Whether these rules allow it.
pub fn is_allowed<'a>(acls: impl IntoIterator<Item = &'a Acl>, access: &Access<'_>) -> bool {
    let mut allowed = false;
    for acl in acls.into_iter().filter(|acl| concerns(acl, access)) {
        match acl.permission {
            AclPermission::Deny if denies(acl.operation, access.operation) => return false,
            AclPermission::Allow if allows(acl.operation, access.operation) => allowed = true,
            AclPermission::Deny | AclPermission::Allow => {}
        }
    }
    allowed
}

fn concerns(acl: &Acl, access: &Access<'_>) -> bool {
    let user = acl.principal.strip_prefix(Acl::USER_PREFIX);
    user.is_some_and(|user| user == access.user || user == Acl::WILDCARD)
        && (acl.host == access.host || acl.host == Acl::WILDCARD)
        && acl.is_about(access.resource_type, access.name)
}

fn denies(denied: AclOperation, wanted: AclOperation) -> bool {
    denied == wanted || denied == AclOperation::All
}

fn allows(allowed: AclOperation, wanted: AclOperation) -> bool {
    use AclOperation::{Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
    let implies = match wanted {
        Describe => matches!(allowed, Read | Write | Delete | Alter),
        DescribeConfigs => allowed == AlterConfigs,
        _ => false,
    };
    implies || denies(allowed, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::PatternType;

    /// `ALLOW|DENY user host operation pattern name`, where the pattern is `=` or `^`.
    fn rule(text: &str) -> Acl {
        let words: Vec<&str> = text.split(' ').collect();
        let [permission, user, host, operation, pattern, name] = words[..] else { panic!("{text}") };
        Acl {
            resource_type: AclResourceType::Topic,
            pattern: if pattern == "^" { PatternType::Prefixed } else { PatternType::Literal },
            name: name.to_owned(),
            principal: Acl::principal_of(user),
            host: host.to_owned(),
            operation: self::operation(operation),
            permission: if permission == "DENY" { AclPermission::Deny } else { AclPermission::Allow },
        }
    }

    fn operation(text: &str) -> AclOperation {
        match text {
            "all" => AclOperation::All,
            "read" => AclOperation::Read,
            "write" => AclOperation::Write,
            "alter-configs" => AclOperation::AlterConfigs,
            "describe-configs" => AclOperation::DescribeConfigs,
            "describe" => AclOperation::Describe,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn rules_decide_as_in_kafka() {
        // The rules; what ann wants from 10.0.0.1 to do with topic orders; whether she may.
        for (rules, wanted, expected) in [
            (&[][..], "read", false),
            (&["ALLOW ann * read = orders"], "read", true),
            (&["ALLOW ann * read = orders"], "write", false),
            (&["ALLOW bob * read = orders"], "read", false),
            (&["ALLOW * * read = orders"], "read", true),
            (&["ALLOW ann 10.0.0.1 read = orders"], "read", true),
            (&["ALLOW ann 10.0.0.2 read = orders"], "read", false),
            (&["ALLOW ann * read = *"], "read", true),
            (&["ALLOW ann * read = order"], "read", false),
            (&["ALLOW ann * read ^ order"], "read", true),
            (&["ALLOW ann * read ^ orders-"], "read", false),
            (&["ALLOW ann * read ^ *"], "read", false),
            (&["ALLOW ann * all = orders"], "write", true),
            (&["ALLOW ann * write = orders"], "describe", true),
            (&["ALLOW ann * describe = orders"], "write", false),
            (&["ALLOW ann * alter-configs = orders"], "describe-configs", true),
            (&["ALLOW ann * all = *", "DENY ann * read = orders"], "read", false),
            (&["DENY ann * read = orders", "ALLOW ann * all = *"], "read", false),
            (&["ALLOW ann * all = *", "DENY ann * read = orders"], "write", true),
            (&["ALLOW ann * all = *", "DENY ann * all ^ ord"], "write", false),
            (&["ALLOW ann * all = *", "DENY * * all = *"], "write", false),
            (&["ALLOW ann * all = *", "DENY ann 10.0.0.2 all = *"], "write", true),
            (&["ALLOW ann * all = *", "DENY ann 10.0.0.1 all = *"], "write", false),
            // To deny reading does not deny looking.
            (&["ALLOW ann * all = *", "DENY ann * read = orders"], "describe", true),
            (&["DENY bob * read = orders"], "read", false),
        ] {
            let acls: Vec<Acl> = rules.iter().map(|text| rule(text)).collect();
            let access = Access {
                user: "ann",
                host: "10.0.0.1",
                operation: operation(wanted),
                resource_type: AclResourceType::Topic,
                name: "orders",
            };
            assert_eq!(is_allowed(&acls, &access), expected, "{rules:?} {wanted}");
            let group = Access { resource_type: AclResourceType::Group, ..access };
            assert!(!is_allowed(&acls, &group), "a rule about topics is none about groups");
        }
    }
}
