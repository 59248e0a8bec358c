//! GetOffset: the offset that a group has committed for a queue, by whatever kind of client.

use duolog_broker::api::TopicRef;
use duolog_broker::message_api::MessageApi;

use super::queue::Queue;
use crate::caller::Caller;
use crate::context::Context;
use crate::errors::Refusal;
use crate::names;
use crate::place::at_coordinator;
use crate::proto::{Code, GetOffsetRequest, GetOffsetResponse};

pub(crate) async fn handle<B: MessageApi>(
    context: Context<B>,
    caller: Caller,
    request: GetOffsetRequest,
) -> Result<GetOffsetResponse, Refusal> {
    let group = names::group(request.group.as_ref())?;
    let own = context.broker.member_group(&group, &caller.client_id);
    let queue = Queue::find(&context, request.message_queue.as_ref())?;
    let wanted = || Some(vec![(TopicRef::Id(queue.topic.id), queue.id)]);
    let here = || async {
        let found = context.broker.fetch_offsets(own.clone(), wanted()).await?;
        match found.into_iter().find_map(|offset| offset.committed) {
            Some(committed) => Ok(GetOffsetResponse { status: None, offset: committed.offset.0 }),
            None => Err(Refusal::new(
                Code::OffsetNotFound,
                format!("group {group} has committed nothing for queue {} of topic {}", queue.id, queue.topic.name),
            )),
        }
    };
    at_coordinator(&context, &caller, &own.0, request, here).await
}
