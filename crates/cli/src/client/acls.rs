//! Access control lists. Every node takes these calls.

use duolog_types::{Acl, AclFilter, AclOperation, AclPatternFilter, AclPermission, AclResourceType, PatternType};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest};
use kafka_protocol::protocol::StrBytes;

use super::{Api, Client, ClientError, api, check, text};

const DESCRIBE_ACLS: Api = api("DescribeAcls", 1, 3);
const CREATE_ACLS: Api = api("CreateAcls", 1, 3);
const DELETE_ACLS: Api = api("DeleteAcls", 1, 3);

/// Kafka's numbers in filters: everything, and what is about a resource.
const ANY: i8 = 1;
const MATCH: i8 = 2;

impl Client {
    /// Adds ACLs; those that are there stay.
    ///
    /// # Errors
    /// The node refuses, or no node answers; so for every call here.
    pub async fn create_acls(&self, acls: &[Acl]) -> Result<(), ClientError> {
        let creation = |acl: &Acl| {
            AclCreation::default()
                .with_resource_type(acl.resource_type.number())
                .with_resource_name(text(&acl.name))
                .with_resource_pattern_type(acl.pattern.number())
                .with_principal(text(&acl.principal))
                .with_host(text(&acl.host))
                .with_operation(acl.operation.number())
                .with_permission_type(acl.permission.number())
        };
        let request = |_version| CreateAclsRequest::default().with_creations(acls.iter().map(creation).collect());
        let response = self.call_any(CREATE_ACLS, self.timeout(), request).await?;
        for (acl, result) in acls.iter().zip(&response.results) {
            let what = || format!("the ACL of {} on {:?} was not created", acl.principal, acl.name);
            check(what, result.error_code, result.error_message.as_ref())?;
        }
        Ok(())
    }

    /// The ACLs that a filter finds. What this build does not know is left out.
    pub async fn acls(&self, filter: &AclFilter) -> Result<Vec<Acl>, ClientError> {
        let request = |_version| {
            DescribeAclsRequest::default()
                .with_resource_type_filter(number(filter.resource_type.map(AclResourceType::number)))
                .with_resource_name_filter(optional(filter.name.as_ref()))
                .with_pattern_type_filter(pattern(filter.pattern))
                .with_principal_filter(optional(filter.principal.as_ref()))
                .with_host_filter(optional(filter.host.as_ref()))
                .with_operation(number(filter.operation.map(AclOperation::number)))
                .with_permission_type(number(filter.permission.map(AclPermission::number)))
        };
        let response = self.call_any(DESCRIBE_ACLS, self.attempt(), request).await?;
        check(|| "the ACLs were not listed".to_owned(), response.error_code, response.error_message.as_ref())?;
        let mut acls = Vec::new();
        for resource in &response.resources {
            for rule in &resource.acls {
                acls.extend(acl(
                    [resource.resource_type, resource.pattern_type, rule.operation, rule.permission_type],
                    [&resource.resource_name, &rule.principal, &rule.host],
                ));
            }
        }
        Ok(acls)
    }

    /// Deletes the ACLs that a filter finds, and gives them.
    pub async fn delete_acls(&self, filter: &AclFilter) -> Result<Vec<Acl>, ClientError> {
        let request = |_version| {
            let filter = DeleteAclsFilter::default()
                .with_resource_type_filter(number(filter.resource_type.map(AclResourceType::number)))
                .with_resource_name_filter(optional(filter.name.as_ref()))
                .with_pattern_type_filter(pattern(filter.pattern))
                .with_principal_filter(optional(filter.principal.as_ref()))
                .with_host_filter(optional(filter.host.as_ref()))
                .with_operation(number(filter.operation.map(AclOperation::number)))
                .with_permission_type(number(filter.permission.map(AclPermission::number)));
            DeleteAclsRequest::default().with_filters(vec![filter])
        };
        let response = self.call_any(DELETE_ACLS, self.timeout(), request).await?;
        let Some(result) = response.filter_results.first() else { return Ok(Vec::new()) };
        check(|| "the ACLs were not deleted".to_owned(), result.error_code, result.error_message.as_ref())?;
        let deleted = result.matching_acls.iter().filter_map(|rule| {
            acl(
                [rule.resource_type, rule.pattern_type, rule.operation, rule.permission_type],
                [&rule.resource_name, &rule.principal, &rule.host],
            )
        });
        Ok(deleted.collect())
    }
}

fn optional(wanted: Option<&String>) -> Option<StrBytes> {
    wanted.map(|wanted| text(wanted))
}

fn number(wanted: Option<i8>) -> i8 {
    wanted.unwrap_or(ANY)
}

fn pattern(filter: AclPatternFilter) -> i8 {
    match filter {
        AclPatternFilter::Any => ANY,
        AclPatternFilter::Match => MATCH,
        AclPatternFilter::Only(pattern) => pattern.number(),
    }
}

fn acl(
    [resource_type, pattern, operation, permission]: [i8; 4],
    [name, principal, host]: [&StrBytes; 3],
) -> Option<Acl> {
    Some(Acl {
        resource_type: AclResourceType::from_number(resource_type)?,
        pattern: PatternType::from_number(pattern)?,
        name: name.to_string(),
        principal: principal.to_string(),
        host: host.to_string(),
        operation: AclOperation::from_number(operation)?,
        permission: AclPermission::from_number(permission)?,
    })
}
