//! Configs of topics and of consumer groups. Every node takes these calls.

use std::collections::BTreeMap;
use std::fmt;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};

use super::{Api, Client, ClientError, api, check, text};

const DESCRIBE_CONFIGS: Api = api("DescribeConfigs", 1, 4);
const INCREMENTAL_ALTER_CONFIGS: Api = api("IncrementalAlterConfigs", 0, 1);

const OPERATION_SET: i8 = 0;
const OPERATION_DELETE: i8 = 1;
/// Kafka's ConfigSource of what was set on a topic or a group itself.
const EXPLICIT: [i8; 2] = [1, 8];

/// What has configs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A topic.
    Topic,
    /// A consumer group.
    Group,
}

impl Resource {
    /// Kafka's ConfigResource.Type.
    fn kafka_type(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Group => 32,
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Group => "consumer group",
        }
    }
}

/// Where a config's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigOrigin {
    /// Set on the topic or group.
    Explicit,
    /// A default, or derived from another config.
    Default,
}

/// A config of a topic or a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// The effective value.
    pub value: String,
    /// Where it comes from.
    pub origin: ConfigOrigin,
}

/// A change of one config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// Set it.
    Set(String, String),
    /// Back to the default.
    Delete(String),
}

impl fmt::Display for ConfigChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(key, value) => write!(f, "{key}={value}"),
            Self::Delete(key) => write!(f, "{key} at its default"),
        }
    }
}

impl Client {
    /// Configs of topics or groups, by name; all of them, or those with the given names. Topics that are unknown are left out.
    ///
    /// # Errors
    /// The node refuses, or no node answers; so for every call here.
    pub async fn configs(
        &self,
        resource: Resource,
        of: &[&str],
        names: Option<&[&str]>,
    ) -> Result<BTreeMap<String, Vec<ConfigEntry>>, ClientError> {
        if of.is_empty() {
            return Ok(BTreeMap::new());
        }
        let request = |_version| {
            let keys = names.map(|names| names.iter().map(|name| text(name)).collect::<Vec<_>>());
            let wanted = |name: &&str| {
                DescribeConfigsResource::default()
                    .with_resource_type(resource.kafka_type())
                    .with_resource_name(text(name))
                    .with_configuration_keys(keys.clone())
            };
            DescribeConfigsRequest::default().with_resources(of.iter().map(wanted).collect())
        };
        let response = self.call_any(DESCRIBE_CONFIGS, self.attempt(), request).await?;
        let known = response.results.into_iter().filter(|result| result.error_code == 0);
        Ok(known.map(|r| (r.resource_name.to_string(), r.configs.iter().map(config_entry).collect())).collect())
    }

    /// Changes configs of a topic or a group, all or none.
    pub async fn alter_configs(
        &self,
        resource: Resource,
        name: &str,
        changes: &[ConfigChange],
    ) -> Result<(), ClientError> {
        let request = |_version| {
            let altered = AlterConfigsResource::default()
                .with_resource_type(resource.kafka_type())
                .with_resource_name(text(name))
                .with_configs(changes.iter().map(alterable_config).collect());
            IncrementalAlterConfigsRequest::default().with_resources(vec![altered])
        };
        let response = self.call_any(INCREMENTAL_ALTER_CONFIGS, self.timeout(), request).await?;
        let Some(result) = response.responses.first() else { return Ok(()) };
        check(
            || format!("{} {name:?} was not changed", resource.noun()),
            result.error_code,
            result.error_message.as_ref(),
        )
    }
}

fn config_entry(config: &DescribeConfigsResourceResult) -> ConfigEntry {
    ConfigEntry {
        name: config.name.to_string(),
        value: config.value.as_ref().map(ToString::to_string).unwrap_or_default(),
        origin: if EXPLICIT.contains(&config.config_source) { ConfigOrigin::Explicit } else { ConfigOrigin::Default },
    }
}

fn alterable_config(change: &ConfigChange) -> AlterableConfig {
    let config = AlterableConfig::default();
    match change {
        ConfigChange::Set(name, value) => {
            config.with_name(text(name)).with_config_operation(OPERATION_SET).with_value(Some(text(value)))
        }
        ConfigChange::Delete(name) => {
            config.with_name(text(name)).with_config_operation(OPERATION_DELETE).with_value(None)
        }
    }
}
