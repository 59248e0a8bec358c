//! DescribeAcls (29), versions 1–3: the ACLs that a filter finds. KIP-140, KIP-290.

use std::collections::BTreeMap;

use duolog_broker::api::BrokerApi;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};

use crate::acls::{self, Wire};
use crate::context::Context;
use crate::shape::Shape;

pub(crate) const SHAPE: Shape = Shape { flexible_from: 2, fields: acls::FIELDS };

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    _version: i16,
    request: DescribeAclsRequest,
) -> DescribeAclsResponse {
    let filter = acls::filter(&Wire {
        resource_type: request.resource_type_filter,
        name: request.resource_name_filter,
        pattern: request.pattern_type_filter,
        principal: request.principal_filter,
        host: request.host_filter,
        operation: request.operation,
        permission: request.permission_type,
    });
    let filter = match filter {
        Ok(filter) => filter,
        Err(sentence) => {
            let (code, sentence) = context.refusal(ResponseError::InvalidRequest, sentence);
            return DescribeAclsResponse::default().with_error_code(code).with_error_message(sentence);
        }
    };
    let mut resources: BTreeMap<_, Vec<AclDescription>> = BTreeMap::new();
    for acl in context.broker.acls(&filter) {
        let wire = acls::wire(&acl);
        let description = AclDescription::default()
            .with_principal(wire.principal)
            .with_host(wire.host)
            .with_operation(wire.operation)
            .with_permission_type(wire.permission);
        resources.entry((wire.resource_type, wire.name, wire.pattern)).or_default().push(description);
    }
    let resources = resources.into_iter().map(|((resource_type, name, pattern), acls)| {
        DescribeAclsResource::default()
            .with_resource_type(resource_type)
            .with_resource_name(name)
            .with_pattern_type(pattern)
            .with_acls(acls)
    });
    DescribeAclsResponse::default().with_resources(resources.collect())
}
