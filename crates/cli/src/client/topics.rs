//! Creating, deleting and configuring topics. Every node takes these calls.

use std::collections::BTreeMap;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, TopicName,
};

use super::{Api, Client, ClientError, api, check, text};

const CREATE_TOPICS: Api = api("CreateTopics", 5, 7);
const DELETE_TOPICS: Api = api("DeleteTopics", 6, 6);
const CREATE_PARTITIONS: Api = api("CreatePartitions", 0, 3);
const DESCRIBE_CONFIGS: Api = api("DescribeConfigs", 1, 4);
const INCREMENTAL_ALTER_CONFIGS: Api = api("IncrementalAlterConfigs", 0, 1);

/// Kafka's ConfigResource.Type of a topic.
const RESOURCE_TOPIC: i8 = 2;
const OPERATION_SET: i8 = 0;
const OPERATION_DELETE: i8 = 1;
/// Kafka's ConfigSource of what was set on the topic itself.
const SOURCE_TOPIC: i8 = 1;

/// Where a config's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigOrigin {
    /// Set on the topic.
    Topic,
    /// A default, or derived from another config.
    Default,
}

/// A topic's config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Kafka's name.
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

impl Client {
    /// Creates a topic; `None` means the cluster's default number of partitions. Gives the number of partitions.
    ///
    /// # Errors
    /// The node refuses, or no node answers; so for every call here.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: Option<i32>,
        configs: &[(String, String)],
    ) -> Result<i32, ClientError> {
        let request = |_version| {
            let config = |(key, value): &(String, String)| {
                CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
            };
            let topic = CreatableTopic::default()
                .with_name(TopicName(text(name)))
                .with_num_partitions(partitions.unwrap_or(-1))
                .with_replication_factor(-1)
                .with_configs(configs.iter().map(config).collect());
            CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(self.timeout_ms())
        };
        let response = self.call_any(CREATE_TOPICS, self.timeout(), request).await?;
        let Some(result) = response.topics.first() else { return Ok(partitions.unwrap_or(-1)) };
        check(|| format!("topic {name:?} was not created"), result.error_code, result.error_message.as_ref())?;
        Ok(result.num_partitions)
    }

    /// Deletes a topic with all its records.
    pub async fn delete_topic(&self, name: &str) -> Result<(), ClientError> {
        let request = |_version| {
            let topic = DeleteTopicState::default().with_name(Some(TopicName(text(name))));
            DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(self.timeout_ms())
        };
        let response = self.call_any(DELETE_TOPICS, self.timeout(), request).await?;
        let Some(result) = response.responses.first() else { return Ok(()) };
        check(|| format!("topic {name:?} was not deleted"), result.error_code, result.error_message.as_ref())
    }

    /// Gives a topic more partitions: `count` in all.
    pub async fn create_partitions(&self, name: &str, count: i32) -> Result<(), ClientError> {
        let request = |_version| {
            let topic = CreatePartitionsTopic::default()
                .with_name(TopicName(text(name)))
                .with_count(count)
                .with_assignments(None);
            CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(self.timeout_ms())
        };
        let response = self.call_any(CREATE_PARTITIONS, self.timeout(), request).await?;
        let Some(result) = response.results.first() else { return Ok(()) };
        let what = || format!("topic {name:?} did not get {count} partitions");
        check(what, result.error_code, result.error_message.as_ref())
    }

    /// Configs of topics, by topic; all of them, or those with the given names. Topics that are unknown are left out.
    pub async fn topic_configs(
        &self,
        topics: &[&str],
        names: Option<&[&str]>,
    ) -> Result<BTreeMap<String, Vec<ConfigEntry>>, ClientError> {
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let request = |_version| {
            let keys = names.map(|names| names.iter().map(|name| text(name)).collect::<Vec<_>>());
            let resource = |name: &&str| {
                DescribeConfigsResource::default()
                    .with_resource_type(RESOURCE_TOPIC)
                    .with_resource_name(text(name))
                    .with_configuration_keys(keys.clone())
            };
            DescribeConfigsRequest::default().with_resources(topics.iter().map(resource).collect())
        };
        let response = self.call_any(DESCRIBE_CONFIGS, self.attempt(), request).await?;
        let known = response.results.into_iter().filter(|result| result.error_code == 0);
        Ok(known.map(|r| (r.resource_name.to_string(), r.configs.iter().map(config_entry).collect())).collect())
    }

    /// Changes a topic's configs, all or none.
    pub async fn alter_topic_configs(&self, name: &str, changes: &[ConfigChange]) -> Result<(), ClientError> {
        let request = |_version| {
            let resource = AlterConfigsResource::default()
                .with_resource_type(RESOURCE_TOPIC)
                .with_resource_name(text(name))
                .with_configs(changes.iter().map(alterable_config).collect());
            IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
        };
        let response = self.call_any(INCREMENTAL_ALTER_CONFIGS, self.timeout(), request).await?;
        let Some(result) = response.responses.first() else { return Ok(()) };
        check(|| format!("topic {name:?} was not changed"), result.error_code, result.error_message.as_ref())
    }
}

fn config_entry(config: &DescribeConfigsResourceResult) -> ConfigEntry {
    ConfigEntry {
        name: config.name.to_string(),
        value: config.value.as_ref().map(ToString::to_string).unwrap_or_default(),
        origin: if config.config_source == SOURCE_TOPIC { ConfigOrigin::Topic } else { ConfigOrigin::Default },
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
