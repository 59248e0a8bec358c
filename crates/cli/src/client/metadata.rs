//! Metadata: nodes, topics, partitions, leaders.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{MetadataResponse, MetadataResponseTopic};
use kafka_protocol::messages::{BrokerId, MetadataRequest, TopicName};

use super::{Address, Api, Client, ClientError, api, check, text};

const METADATA: Api = api("Metadata", 4, 12);

/// A topic as a node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its id, as a UUID.
    pub id: String,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionInfo>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionInfo {
    /// Its number.
    pub partition: i32,
    /// Its leader's node id, if there is one.
    pub leader: Option<i32>,
    /// The leader's term.
    pub leader_epoch: i32,
    /// Nodes that hold it.
    pub replicas: Vec<i32>,
    /// Those of them that answer.
    pub in_sync_replicas: Vec<i32>,
}

impl Client {
    /// All topics, by name.
    ///
    /// # Errors
    /// No node answers; so for every call here.
    pub async fn all_topics(&self) -> Result<Vec<TopicInfo>, ClientError> {
        let response = self.metadata(None).await?;
        let mut topics = response.topics.iter().map(topic_info).collect::<Result<Vec<_>, _>>()?;
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// One topic; it is not created by asking.
    ///
    /// # Errors
    /// `Refused` with UNKNOWN_TOPIC_OR_PARTITION when there is none.
    pub async fn topic(&self, name: &str) -> Result<TopicInfo, ClientError> {
        let response = self.metadata(Some(&[name.to_owned()])).await?;
        match response.topics.first() {
            Some(topic) => topic_info(topic),
            None => Err(ClientError::refused(topic_words(name), ResponseError::UnknownTopicOrPartition, None)),
        }
    }

    /// Node ids and addresses.
    pub async fn nodes(&self) -> Result<Vec<(i32, Address)>, ClientError> {
        self.metadata(Some(&[])).await?;
        Ok(self.nodes.lock().iter().map(|(id, address)| (*id, address.clone())).collect())
    }

    async fn metadata(&self, names: Option<&[String]>) -> Result<MetadataResponse, ClientError> {
        let request = |_version| {
            let topic = |name: &String| MetadataRequestTopic::default().with_name(Some(TopicName(text(name))));
            MetadataRequest::default()
                .with_topics(names.map(|names| names.iter().map(topic).collect()))
                .with_allow_auto_topic_creation(false)
        };
        let response = self.call_any(METADATA, self.attempt(), request).await?;
        check(|| "metadata".to_owned(), response.error_code, None)?;
        let mut nodes = self.nodes.lock();
        for broker in &response.brokers {
            if let Ok(port) = u16::try_from(broker.port) {
                nodes.insert(broker.node_id.0, Address { host: broker.host.to_string(), port });
            }
        }
        drop(nodes);
        Ok(response)
    }
}

fn topic_words(name: &str) -> String {
    format!("topic {name:?}")
}

fn topic_info(topic: &MetadataResponseTopic) -> Result<TopicInfo, ClientError> {
    let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
    check(|| topic_words(&name), topic.error_code, None)?;
    let ids = |nodes: &[BrokerId]| nodes.iter().map(|node| node.0).collect();
    let mut partitions: Vec<PartitionInfo> = topic
        .partitions
        .iter()
        .map(|partition| PartitionInfo {
            partition: partition.partition_index,
            leader: Some(partition.leader_id.0).filter(|id| *id >= 0),
            leader_epoch: partition.leader_epoch,
            replicas: ids(&partition.replica_nodes),
            in_sync_replicas: ids(&partition.isr_nodes),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.partition);
    Ok(TopicInfo { name, id: topic.topic_id.to_string(), partitions })
}
