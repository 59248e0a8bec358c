//! AlterConfigs (33), versions 0–2: the given configs take the place of all that a topic has. Older than
//! IncrementalAlterConfigs, and still what some clients send.

use std::collections::BTreeSet;

use duolog_broker::api::{BrokerApi, ConfigEdit, GroupId};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_request::{AlterConfigsRequest, AlterConfigsResource};
use kafka_protocol::messages::alter_configs_response::{AlterConfigsResourceResponse, AlterConfigsResponse};

use super::incremental_alter_configs::{Refused, refuse_broker_configs, refuse_resource_type};
use super::{RESOURCE_BROKER, RESOURCE_GROUP, RESOURCE_TOPIC};
use crate::context::Context;
use crate::shape::{BOOL, INT8, Kind, Shape, field};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 2,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[
            field(INT8),
            field(Kind::String),
            field(Kind::Array(&Kind::Struct(&[field(Kind::String), field(Kind::String)]))),
        ]))),
        field(BOOL),
    ],
};

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    _version: i16,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
    let mut seen = BTreeSet::new();
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let answer = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        let is_first = seen.insert((resource.resource_type, resource.resource_name.clone()));
        responses.push(match replace(&context, resource, is_first, request.validate_only).await {
            Ok(()) => answer.with_error_message(None),
            Err((code, sentence)) => answer.with_error_code(code).with_error_message(sentence),
        });
    }
    AlterConfigsResponse::default().with_responses(responses)
}

async fn replace<B: BrokerApi>(
    context: &Context<B>,
    resource: AlterConfigsResource,
    is_first: bool,
    validate_only: bool,
) -> Result<(), Refused> {
    let refuse = |sentence: String| context.refusal(ResponseError::InvalidRequest, sentence);
    if !is_first {
        return Err(refuse(format!("resource {} is named more than once in the request", resource.resource_name)));
    }
    match resource.resource_type {
        RESOURCE_TOPIC => {
            let edit = ConfigEdit::Replacement(configs(&resource).map_err(refuse)?);
            let name = resource.resource_name.to_string();
            context.broker.alter_topic_config(name, edit, validate_only).await.map_err(|error| context.failure(&error))
        }
        RESOURCE_GROUP => {
            let edit = ConfigEdit::Replacement(configs(&resource).map_err(refuse)?);
            let group = GroupId(resource.resource_name.to_string());
            context.broker.alter_group_config(group, edit, validate_only).await.map_err(|error| context.failure(&error))
        }
        RESOURCE_BROKER => {
            let names = resource.configs.iter().map(|config| config.name.as_str());
            refuse_broker_configs(context, &resource.resource_name, names)
        }
        other => refuse_resource_type(context, other),
    }
}

fn configs(resource: &AlterConfigsResource) -> Result<Vec<(String, String)>, String> {
    let mut seen = BTreeSet::new();
    let pair = |(name, value): (&str, Option<&str>)| match value {
        Some(_) if !seen.insert(name.to_owned()) => Err(format!("config {name} is named more than once")),
        Some(value) => Ok((name.to_owned(), value.to_owned())),
        None => Err(format!("config {name} has no value")),
    };
    resource.configs.iter().map(|config| (config.name.as_str(), config.value.as_deref())).map(pair).collect()
}
