//! One topic per durability mode, and those of RocketMQ clients, made through the Kafka admin API.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use crate::client;
use crate::history::messages::{Kind, MessageTopic};
use crate::history::{Sync, Topic};

pub const PARTITION_COUNT: i32 = 4;

const CREATE_LIMIT: Duration = Duration::from_secs(30);

/// Which configs select the mode: both ways are promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigNames {
    /// `duolog.replication` and `duolog.flush`.
    Duolog,
    /// `min.insync.replicas` and `flush.messages`, all that `kafka-topics` lets through.
    Kafka,
}

/// The four modes, or those among them that `only` names.
pub fn of_modes(only: &[String], has_group: bool) -> Vec<Topic> {
    let mut topics = Vec::new();
    for replication in [Sync::Sync, Sync::Async] {
        for flush in [Sync::Sync, Sync::Async] {
            let name = format!("chaos-{}-{}", replication.as_str(), flush.as_str());
            if only.is_empty() || only.iter().any(|only| name.ends_with(&format!("chaos-{only}"))) {
                topics.push(Topic { name, replication, flush, partition_count: PARTITION_COUNT, has_group });
            }
        }
    }
    topics
}

pub fn create(bootstrap: &str, topics: &[Topic], names: ConfigNames, message_topics: &[MessageTopic]) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client::base(bootstrap).create()?;
    let of_kafka = topics.iter().map(|topic| new_topic(topic, names));
    let wanted: Vec<NewTopic> = of_kafka.chain(message_topics.iter().map(new_message_topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(CREATE_LIMIT)).operation_timeout(Some(CREATE_LIMIT));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let created = runtime
        .block_on(async { tokio::time::timeout(2 * CREATE_LIMIT, admin.create_topics(&wanted, &options)).await })
        .context("CreateTopics is not answered")??;
    for result in created {
        result.map_err(|(topic, error)| anyhow!("cannot create topic {topic}: {error}"))?;
    }
    Ok(())
}

fn new_topic(topic: &Topic, names: ConfigNames) -> NewTopic<'_> {
    let new = NewTopic::new(&topic.name, topic.partition_count, TopicReplication::Fixed(-1));
    match names {
        ConfigNames::Duolog => {
            new.set("duolog.replication", topic.replication.as_str()).set("duolog.flush", topic.flush.as_str())
        }
        ConfigNames::Kafka => {
            let min_insync_replicas = if topic.replication == Sync::Sync { "2" } else { "1" };
            let flush_messages = if topic.flush == Sync::Sync { "1" } else { "1000000" };
            new.set("min.insync.replicas", min_insync_replicas).set("flush.messages", flush_messages)
        }
    }
}

fn new_message_topic(topic: &MessageTopic) -> NewTopic<'_> {
    let message_type = match topic.kind {
        Kind::Normal | Kind::Letters | Kind::Filtered => "NORMAL",
        Kind::Fifo => "FIFO",
        Kind::Delay => "DELAY",
        Kind::Transaction => "TRANSACTION",
    };
    NewTopic::new(&topic.name, topic.partition_count, TopicReplication::Fixed(-1))
        .set("message.type", message_type)
        .set("duolog.replication", topic.replication.as_str())
        .set("duolog.flush", topic.flush.as_str())
}
