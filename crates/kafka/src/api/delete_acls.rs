//! DeleteAcls (31), versions 1–3: deletes the ACLs that filters find. KIP-140, KIP-290.

use duolog_broker::api::BrokerApi;
use duolog_types::{Acl, AclFilter};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use kafka_protocol::messages::{DeleteAclsRequest, DeleteAclsResponse};

use crate::acls::{self, Wire};
use crate::context::Context;
use crate::shape::{Kind, Shape, field};

pub(crate) const SHAPE: Shape = Shape { flexible_from: 2, fields: &[field(Kind::Array(&Kind::Struct(acls::FIELDS)))] };

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    _version: i16,
    request: DeleteAclsRequest,
) -> DeleteAclsResponse {
    let filters: Vec<_> = request.filters.into_iter().map(read).collect();
    let good: Vec<_> = filters.iter().filter_map(|filter| filter.as_ref().ok().cloned()).collect();
    let mut deleted = match good.is_empty() {
        true => Vec::new(),
        false => context.broker.delete_acls(good).await,
    }
    .into_iter();
    let results = filters.into_iter().map(|filter| {
        let refused = match filter {
            Err(sentence) => context.refusal(ResponseError::InvalidRequest, sentence),
            Ok(_) => match deleted.next() {
                Some(Ok(acls)) => {
                    let matching = acls.iter().map(matching).collect();
                    return DeleteAclsFilterResult::default().with_matching_acls(matching);
                }
                Some(Err(error)) => context.failure(&error),
                None => context.refusal(ResponseError::UnknownServerError, "the broker gave no result"),
            },
        };
        DeleteAclsFilterResult::default().with_error_code(refused.0).with_error_message(refused.1)
    });
    let results = results.collect();
    DeleteAclsResponse::default().with_filter_results(results)
}

fn read(filter: DeleteAclsFilter) -> Result<AclFilter, String> {
    acls::filter(&Wire {
        resource_type: filter.resource_type_filter,
        name: filter.resource_name_filter,
        pattern: filter.pattern_type_filter,
        principal: filter.principal_filter,
        host: filter.host_filter,
        operation: filter.operation,
        permission: filter.permission_type,
    })
}

fn matching(acl: &Acl) -> DeleteAclsMatchingAcl {
    let wire = acls::wire(acl);
    DeleteAclsMatchingAcl::default()
        .with_resource_type(wire.resource_type)
        .with_resource_name(wire.name)
        .with_pattern_type(wire.pattern)
        .with_principal(wire.principal)
        .with_host(wire.host)
        .with_operation(wire.operation)
        .with_permission_type(wire.permission)
}
