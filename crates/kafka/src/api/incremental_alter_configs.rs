//! IncrementalAlterConfigs (44), versions 0–1: changes configs of topics, live. KIP-339.

use std::collections::BTreeSet;

use duolog_broker::api::{BrokerApi, ConfigChange, ConfigEdit, GroupId};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use kafka_protocol::messages::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{RESOURCE_BROKER, RESOURCE_GROUP, RESOURCE_TOPIC};
use crate::context::Context;
use crate::shape::{BOOL, INT8, Kind, Shape, field};

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 1,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[
            field(INT8),
            field(Kind::String),
            field(Kind::Array(&Kind::Struct(&[field(Kind::String), field(INT8), field(Kind::String)]))),
        ]))),
        field(BOOL),
    ],
};

/// Kafka's code, and why.
pub(super) type Refused = (i16, Option<StrBytes>);

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    _version: i16,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut seen = BTreeSet::new();
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in request.resources {
        let answer = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        let is_first = seen.insert((resource.resource_type, resource.resource_name.clone()));
        responses.push(match alter(&context, resource, is_first, request.validate_only).await {
            Ok(()) => answer.with_error_message(None),
            Err((code, sentence)) => answer.with_error_code(code).with_error_message(sentence),
        });
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

async fn alter<B: BrokerApi>(
    context: &Context<B>,
    resource: AlterConfigsResource,
    is_first: bool,
    validate_only: bool,
) -> Result<(), Refused> {
    let refuse = |sentence: String| Err(context.refusal(ResponseError::InvalidRequest, sentence));
    if !is_first {
        return refuse(format!("resource {} is named more than once in the request", resource.resource_name));
    }
    match resource.resource_type {
        RESOURCE_TOPIC => {
            let changes = changes(resource.configs)
                .map_err(|sentence| context.refusal(ResponseError::InvalidRequest, sentence))?;
            let (name, edit) = (resource.resource_name.to_string(), ConfigEdit::Changes(changes));
            context.broker.alter_topic_config(name, edit, validate_only).await.map_err(|error| context.failure(&error))
        }
        RESOURCE_GROUP => {
            let changes = changes(resource.configs)
                .map_err(|sentence| context.refusal(ResponseError::InvalidRequest, sentence))?;
            let (group, edit) = (GroupId(resource.resource_name.to_string()), ConfigEdit::Changes(changes));
            context.broker.alter_group_config(group, edit, validate_only).await.map_err(|error| context.failure(&error))
        }
        RESOURCE_BROKER => {
            let names = resource.configs.iter().map(|config| config.name.as_str());
            refuse_broker_configs(context, &resource.resource_name, names)
        }
        other => refuse_resource_type(context, other),
    }
}

/// Nothing of a node can be changed while it runs. The code is Kafka's for read-only configs; so is the success of a
/// request that changes nothing.
pub(super) fn refuse_broker_configs<'a, B: BrokerApi>(
    context: &Context<B>,
    broker: &StrBytes,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), Refused> {
    let node_id = context.broker.node_id();
    if !broker.is_empty() && broker.parse() != Ok(node_id.0) {
        let sentence = format!("configs of broker {broker:?} were to be changed at broker {node_id}");
        return Err(context.refusal(ResponseError::InvalidRequest, sentence));
    }
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        return Ok(());
    }
    let sentence = format!(
        "configs of a broker are read-only, found {}: change the configuration file and restart the broker",
        names.join(", ")
    );
    Err(context.refusal(ResponseError::InvalidRequest, sentence))
}

pub(super) fn refuse_resource_type<B: BrokerApi>(context: &Context<B>, found: i8) -> Result<(), Refused> {
    let sentence = format!("configs of resource type {found} cannot be changed: those of 2 (topic) and 32 (group) can");
    Err(context.refusal(ResponseError::InvalidRequest, sentence))
}

fn changes(configs: Vec<AlterableConfig>) -> Result<Vec<ConfigChange>, String> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = configs.iter().find(|config| !seen.insert(config.name.clone())) {
        return Err(format!("config {} is named more than once", twice.name));
    }
    configs.into_iter().map(change).collect()
}

fn change(config: AlterableConfig) -> Result<ConfigChange, String> {
    let name = config.name.to_string();
    let value = config.value.map(|value| value.to_string());
    match (config.config_operation, value) {
        (1, _) => Ok(ConfigChange::Delete(name)),
        (0, Some(value)) => Ok(ConfigChange::Set(name, value)),
        (2, Some(value)) => Ok(ConfigChange::Append(name, value)),
        (3, Some(value)) => Ok(ConfigChange::Subtract(name, value)),
        (0 | 2 | 3, None) => Err(format!("config {name} has no value")),
        (other, _) => Err(format!("operation {other} on config {name} is unknown: 0 to 3 are known")),
    }
}
