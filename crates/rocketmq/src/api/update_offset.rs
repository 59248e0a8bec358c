//! UpdateOffset: commits the offset at which a group goes on in a queue. Kafka's consumers of the group go on there, too, and so do
//! RocketMQ's others.

use duolog_broker::BrokerError;
use duolog_broker::api::{OffsetCommits, PartitionOffset, TopicRef};
use duolog_broker::message_api::MessageApi;
use duolog_types::Offset;

use super::queue::Queue;
use crate::caller::Caller;
use crate::context::Context;
use crate::errors::Refusal;
use crate::names;
use crate::place::at_coordinator;
use crate::proto::{Code, UpdateOffsetRequest, UpdateOffsetResponse};

pub(crate) async fn handle<B: MessageApi>(
    context: Context<B>,
    caller: Caller,
    request: UpdateOffsetRequest,
) -> Result<UpdateOffsetResponse, Refusal> {
    let group = names::group(request.group.as_ref())?;
    let group = context.broker.member_group(&group, &caller.client_id);
    let queue = Queue::find(&context, request.message_queue.as_ref())?;
    if request.offset < 0 {
        let sentence = format!("offset {}: expected one from 0 on", request.offset);
        return Err(Refusal::new(Code::IllegalOffset, sentence));
    }
    let commit = || OffsetCommits {
        group: group.clone(),
        member_id: None,
        instance_id: None,
        generation: -1,
        partitions: vec![PartitionOffset {
            topic: TopicRef::Id(queue.topic.id),
            partition: queue.id,
            offset: Offset(request.offset),
            leader_epoch: None,
            metadata: String::new(),
        }],
    };
    let here = || async {
        let committed = context.broker.commit_offsets(commit()).await.pop();
        committed.unwrap_or(Err(BrokerError::LeaderNotAvailable))?;
        Ok(UpdateOffsetResponse::default())
    };
    at_coordinator(&context, &caller, &group.0, request.clone(), here).await
}
