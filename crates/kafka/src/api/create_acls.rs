//! CreateAcls (30), versions 1–3: adds ACLs to the catalog, for the clients of both protocols. KIP-140, KIP-290.

use duolog_broker::api::BrokerApi;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::{CreateAclsRequest, CreateAclsResponse};

use crate::acls::{self, Wire};
use crate::context::Context;
use crate::shape::{Kind, Shape, field};

pub(crate) const SHAPE: Shape = Shape { flexible_from: 2, fields: &[field(Kind::Array(&Kind::Struct(acls::FIELDS)))] };

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    _version: i16,
    request: CreateAclsRequest,
) -> CreateAclsResponse {
    let wanted: Vec<_> = request.creations.into_iter().map(read).collect();
    let good: Vec<_> = wanted.iter().filter_map(|acl| acl.as_ref().ok().cloned()).collect();
    let mut created = match good.is_empty() {
        true => Vec::new(),
        false => context.broker.create_acls(good).await,
    }
    .into_iter();
    let results = wanted.into_iter().map(|acl| {
        let refused = match acl {
            Err(sentence) => Some(context.refusal(ResponseError::InvalidRequest, sentence)),
            Ok(_) => match created.next() {
                Some(result) => result.err().map(|error| context.failure(&error)),
                None => Some(context.refusal(ResponseError::UnknownServerError, "the broker gave no result")),
            },
        };
        let (code, sentence) = refused.unwrap_or((0, None));
        AclCreationResult::default().with_error_code(code).with_error_message(sentence)
    });
    let results = results.collect();
    CreateAclsResponse::default().with_results(results)
}

fn read(creation: AclCreation) -> Result<duolog_types::Acl, String> {
    acls::acl(&Wire {
        resource_type: creation.resource_type,
        name: creation.resource_name,
        pattern: creation.resource_pattern_type,
        principal: creation.principal,
        host: creation.host,
        operation: creation.operation,
        permission: creation.permission_type,
    })
}
