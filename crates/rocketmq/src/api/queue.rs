//! The queue that the calls of pull consumers name.

use duolog_broker::api::{TopicRef, TopicView};
use duolog_broker::message_api::MessageApi;
use duolog_types::TopicPartition;

use crate::context::Context;
use crate::errors::Refusal;
use crate::names;
use crate::place::partition_view;
use crate::proto::{Code, MessageQueue};

/// A queue that exists.
pub(super) struct Queue {
    pub(super) topic: TopicView,
    pub(super) id: i32,
    pub(super) partition: TopicPartition,
}

impl Queue {
    pub(super) fn find<B: MessageApi>(context: &Context<B>, queue: Option<&MessageQueue>) -> Result<Self, Refusal> {
        let queue = queue.ok_or_else(|| Refusal::new(Code::BadRequest, "there is no message queue"))?;
        let topic = context.broker.topic(&TopicRef::Name(names::topic(queue.topic.as_ref())?))?;
        let number = u32::try_from(queue.id)
            .map_err(|_| Refusal::new(Code::BadRequest, format!("queue {}: expected a number from 0 on", queue.id)))?;
        partition_view(&topic, number)?;
        let partition = TopicPartition { topic: topic.id, partition: number };
        Ok(Self { id: queue.id, partition, topic })
    }
}
