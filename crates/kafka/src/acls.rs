//! Kafka's numbers of an ACL's parts (ResourceType, PatternType, AclOperation, AclPermissionType), both ways.

use duolog_types::{Acl, AclFilter, AclOperation, AclPatternFilter, AclPermission, AclResourceType, PatternType};
use kafka_protocol::protocol::StrBytes;

use crate::shape::{Field, INT8, Kind, field};

/// In filters: every value.
const ANY: i8 = 1;
/// In filters: every pattern that is about the named resource.
const MATCH: i8 = 2;

/// The fields of an ACL or a filter, in the order in which requests have them: those of [`Wire`].
pub(crate) const FIELDS: &[Field] = &[
    field(INT8),
    field(Kind::String),
    field(INT8),
    field(Kind::String),
    field(Kind::String),
    field(INT8),
    field(INT8),
];

/// The numbers and texts of an ACL or a filter, as requests have them.
pub(crate) struct Wire<T> {
    pub(crate) resource_type: i8,
    pub(crate) name: T,
    pub(crate) pattern: i8,
    pub(crate) principal: T,
    pub(crate) host: T,
    pub(crate) operation: i8,
    pub(crate) permission: i8,
}

fn named<T>(found: Option<T>, what: &str, number: i8) -> Result<T, String> {
    found.ok_or_else(|| format!("{what} {number} is not supported by this broker"))
}

/// The ACL of a request.
///
/// # Errors
/// A sentence about a number that is none or not supported.
pub(crate) fn acl(wire: &Wire<StrBytes>) -> Result<Acl, String> {
    Ok(Acl {
        resource_type: named(AclResourceType::from_number(wire.resource_type), "resource type", wire.resource_type)?,
        pattern: named(PatternType::from_number(wire.pattern), "pattern type", wire.pattern)?,
        name: wire.name.to_string(),
        principal: wire.principal.to_string(),
        host: wire.host.to_string(),
        operation: named(AclOperation::from_number(wire.operation), "operation", wire.operation)?,
        permission: named(AclPermission::from_number(wire.permission), "permission type", wire.permission)?,
    })
}

/// The filter of a request.
///
/// # Errors
/// As [`acl`].
pub(crate) fn filter(wire: &Wire<Option<StrBytes>>) -> Result<AclFilter, String> {
    fn wanted<T>(found: Option<T>, what: &str, number: i8) -> Result<Option<T>, String> {
        if number == ANY { Ok(None) } else { named(found, what, number).map(Some) }
    }
    let text = |text: &Option<StrBytes>| text.as_ref().map(ToString::to_string);
    Ok(AclFilter {
        resource_type: wanted(AclResourceType::from_number(wire.resource_type), "resource type", wire.resource_type)?,
        name: text(&wire.name),
        pattern: match wire.pattern {
            ANY => AclPatternFilter::Any,
            MATCH => AclPatternFilter::Match,
            number => AclPatternFilter::Only(named(PatternType::from_number(number), "pattern type", number)?),
        },
        principal: text(&wire.principal),
        host: text(&wire.host),
        operation: wanted(AclOperation::from_number(wire.operation), "operation", wire.operation)?,
        permission: wanted(AclPermission::from_number(wire.permission), "permission type", wire.permission)?,
    })
}

/// An ACL as answers have it.
pub(crate) fn wire(acl: &Acl) -> Wire<StrBytes> {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    Wire {
        resource_type: acl.resource_type.number(),
        name: text(&acl.name),
        pattern: acl.pattern.number(),
        principal: text(&acl.principal),
        host: text(&acl.host),
        operation: acl.operation.number(),
        permission: acl.permission.number(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_both_ways_and_unknown_ones_are_named() {
        for operation in AclOperation::EVERY.iter().map(|operation| operation.number()) {
            let text = |text| StrBytes::from_static_str(text);
            let request = Wire {
                resource_type: 3,
                name: text("g"),
                pattern: 4,
                principal: text("User:a"),
                host: text("*"),
                operation,
                permission: 2,
            };
            let answer = wire(&acl(&request).unwrap());
            assert_eq!((answer.resource_type, answer.pattern, answer.operation), (3, 4, operation));
            let bad = Wire { resource_type: 5, ..request };
            assert!(acl(&bad).unwrap_err().contains("resource type 5"));
        }
        let any =
            Wire { resource_type: 1, name: None, pattern: 1, principal: None, host: None, operation: 1, permission: 1 };
        assert_eq!(filter(&any).unwrap(), AclFilter::default());
        assert_eq!(filter(&Wire { pattern: 2, ..any }).unwrap().pattern, AclPatternFilter::Match);
    }
}
