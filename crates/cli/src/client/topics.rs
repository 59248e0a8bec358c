//! Creating and deleting topics. Every node takes these calls.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, TopicName};

use super::{Api, Client, ClientError, api, check, text};

const CREATE_TOPICS: Api = api("CreateTopics", 5, 7);
const DELETE_TOPICS: Api = api("DeleteTopics", 6, 6);
const CREATE_PARTITIONS: Api = api("CreatePartitions", 0, 3);

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
}
