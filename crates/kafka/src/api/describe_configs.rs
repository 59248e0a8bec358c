//! DescribeConfigs (32), versions 1–4: configs of topics, of consumer groups and of this node. KIP-226, KIP-569, KIP-848.

use duolog_broker::api::{BrokerApi, BrokerConfigValue, GroupId, TopicRef};
use duolog_types::{ConfigSource, ConfigValue};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::protocol::StrBytes;

use super::{RESOURCE_BROKER, RESOURCE_GROUP, RESOURCE_TOPIC};
use crate::bounds::{AnswerRoom, each_once};
use crate::context::Context;
use crate::shape::{BOOL, INT8, Kind, Shape, field};
use crate::translate::string;

pub(crate) const SHAPE: Shape = Shape {
    flexible_from: 4,
    fields: &[
        field(Kind::Array(&Kind::Struct(&[field(INT8), field(Kind::String), field(Kind::Array(&Kind::String))]))),
        field(BOOL),
        field(BOOL).from(3),
    ],
};

const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;
const SOURCE_GROUP: i8 = 8;

const TYPE_BOOLEAN: i8 = 1;
const TYPE_STRING: i8 = 2;
const TYPE_LONG: i8 = 5;

/// What the request wants to see of each config.
#[derive(Clone, Copy)]
struct Wanted {
    version: i16,
    synonyms: bool,
    documentation: bool,
}

type Described = Result<Vec<DescribeConfigsResourceResult>, (i16, Option<StrBytes>)>;

/// Kafka's ConfigSource of a topic config.
pub(crate) fn topic_config_source(source: ConfigSource) -> i8 {
    match source {
        ConfigSource::Explicit => SOURCE_TOPIC,
        ConfigSource::Default => SOURCE_DEFAULT,
    }
}

pub(crate) async fn handle<B: BrokerApi>(
    context: Context<B>,
    version: i16,
    mut request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let wanted = Wanted {
        version,
        synonyms: request.include_synonyms,
        documentation: version >= 3 && request.include_documentation,
    };
    each_once(&mut request.resources, |resource| (resource.resource_type, resource.resource_name.clone()));
    let room = AnswerRoom::default();
    let results = request.resources.into_iter().map(|resource| {
        let answer = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        let described = match room.refusal(&context) {
            None => describe(&context, wanted, &resource),
            Some(refusal) => Err(refusal),
        };
        let answer = match described {
            Ok(configs) => answer.with_configs(configs).with_error_message(None),
            Err((code, sentence)) => answer.with_error_code(code).with_error_message(sentence),
        };
        room.count(version, &answer);
        answer
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn describe<B: BrokerApi>(context: &Context<B>, wanted: Wanted, resource: &DescribeConfigsResource) -> Described {
    // Null means all configs, and so does an empty list to Kafka.
    let keys = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
    let is_wanted = |name: &str| keys.is_none_or(|keys| keys.iter().any(|key| key.as_str() == name));
    match resource.resource_type {
        RESOURCE_TOPIC => {
            let topic = context.broker.topic(&TopicRef::Name(resource.resource_name.to_string()));
            let topic = topic.map_err(|error| context.failure(&error))?;
            let configs = topic.config.describe();
            Ok(configs.iter().filter(|c| is_wanted(c.key.name)).map(|c| config(wanted, c, SOURCE_TOPIC)).collect())
        }
        RESOURCE_GROUP => {
            let configs = context.broker.group_config(&GroupId(resource.resource_name.to_string())).describe();
            Ok(configs.iter().filter(|c| is_wanted(c.key.name)).map(|c| config(wanted, c, SOURCE_GROUP)).collect())
        }
        RESOURCE_BROKER => {
            let configs = broker_configs(context, &resource.resource_name)?;
            Ok(configs.iter().filter(|c| is_wanted(c.name)).map(|c| broker_config(wanted, c)).collect())
        }
        other => Err(context.refusal(
            ResponseError::InvalidRequest,
            format!("resource type {other} is not supported: 2 (topic), 4 (broker) and 32 (group) are"),
        )),
    }
}

/// The empty name means the cluster-wide dynamic configs, of which there are none.
fn broker_configs<B: BrokerApi>(
    context: &Context<B>,
    name: &StrBytes,
) -> Result<Vec<BrokerConfigValue>, (i16, Option<StrBytes>)> {
    let node_id = context.broker.node_id();
    match name.as_str() {
        "" => Ok(Vec::new()),
        name if name.parse() == Ok(node_id.0) => Ok(context.broker.broker_configs()),
        other => Err(context.refusal(
            ResponseError::InvalidRequest,
            format!("configs of broker {other:?} were asked for at broker {node_id}"),
        )),
    }
}

/// `explicit` is Kafka's ConfigSource of what was set.
fn config(wanted: Wanted, config: &ConfigValue, explicit: i8) -> DescribeConfigsResourceResult {
    let name = StrBytes::from_static_str(config.key.name);
    let source = match config.source {
        ConfigSource::Explicit => explicit,
        ConfigSource::Default => SOURCE_DEFAULT,
    };
    let answer = described(wanted, config.key.name, &config.value, source, config.key.kafka_type());
    let answer = match wanted.documentation {
        true => answer.with_documentation(Some(StrBytes::from_static_str(config.key.doc))),
        false => answer,
    };
    match (wanted.synonyms, config.source) {
        (true, ConfigSource::Explicit) => {
            let mut synonyms = answer.synonyms.clone();
            synonyms.push(synonym(&name, config.key.default, SOURCE_DEFAULT));
            answer.with_synonyms(synonyms)
        }
        _ => answer,
    }
}

fn broker_config(wanted: Wanted, config: &BrokerConfigValue) -> DescribeConfigsResourceResult {
    let is_default = config.default.as_ref() == Some(&config.value);
    let source = if is_default { SOURCE_DEFAULT } else { SOURCE_STATIC_BROKER };
    let config_type = match config.value.as_str() {
        "true" | "false" => TYPE_BOOLEAN,
        value if value.parse::<i64>().is_ok() => TYPE_LONG,
        _ => TYPE_STRING,
    };
    let answer = described(wanted, config.name, &config.value, source, config_type).with_read_only(true);
    match &config.default {
        Some(default) if wanted.synonyms && !is_default => {
            let mut synonyms = answer.synonyms.clone();
            synonyms.push(synonym(&StrBytes::from_static_str(config.name), default, SOURCE_DEFAULT));
            answer.with_synonyms(synonyms)
        }
        _ => answer,
    }
}

fn described(
    wanted: Wanted,
    name: &'static str,
    value: &str,
    source: i8,
    config_type: i8,
) -> DescribeConfigsResourceResult {
    let name = StrBytes::from_static_str(name);
    let synonyms = if wanted.synonyms { vec![synonym(&name, value, source)] } else { Vec::new() };
    DescribeConfigsResourceResult::default()
        .with_name(name)
        .with_value(Some(string(value)))
        .with_config_source(source)
        .with_synonyms(synonyms)
        .with_config_type(if wanted.version >= 3 { config_type } else { 0 })
        .with_documentation(None)
}

fn synonym(name: &StrBytes, value: &str, source: i8) -> DescribeConfigsSynonym {
    DescribeConfigsSynonym::default().with_name(name.clone()).with_value(Some(string(value))).with_source(source)
}
