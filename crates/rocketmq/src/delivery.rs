//! The answer to ReceiveMessage: a status, the messages, and when they were sent. What the client does not take, because it is gone
//! or waits no more, becomes visible again: with automatic renewal it would otherwise stay invisible as long as the client lives.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::vec::IntoIter;

use duolog_broker::message_api::MessageApi;
use tokio_stream::Stream;

use crate::api::change_invisible_duration;
use crate::caller::Caller;
use crate::context::Context;
use crate::proto::receive_message_response::Content;
use crate::proto::{ChangeInvisibleDurationRequest, Message, ReceiveMessageResponse, Resource, Status};
use crate::time::{now, to_duration, to_timestamp};

/// The items that the client has not got yet.
pub(crate) struct Delivery<B: MessageApi> {
    context: Context<B>,
    caller: Caller,
    group: Option<Resource>,
    status: Option<Status>,
    messages: IntoIter<Message>,
    /// Whether the time is still to come: Python's push consumer cannot do without it.
    wants_time: bool,
}

impl<B: MessageApi> Delivery<B> {
    pub(crate) fn new(
        context: Context<B>,
        caller: Caller,
        group: Option<Resource>,
        status: Status,
        messages: Vec<Message>,
    ) -> Self {
        let wants_time = !messages.is_empty();
        Self { context, caller, group, status: Some(status), messages: messages.into_iter(), wants_time }
    }
}

impl<B: MessageApi> Stream for Delivery<B> {
    type Item = Result<ReceiveMessageResponse, tonic::Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let status = self.status.take().map(Content::Status);
        let content = status.or_else(|| self.messages.next().map(Content::Message)).or_else(|| {
            let is_last = std::mem::take(&mut self.wants_time);
            is_last.then(|| Content::DeliveryTimestamp(to_timestamp(now())))
        });
        Poll::Ready(content.map(|content| Ok(ReceiveMessageResponse { content: Some(content) })))
    }
}

// No field is pinned.
impl<B: MessageApi> Unpin for Delivery<B> {}

impl<B: MessageApi> Drop for Delivery<B> {
    fn drop(&mut self) {
        let left: Vec<Message> = self.messages.by_ref().collect();
        let runtime = tokio::runtime::Handle::try_current();
        let (false, Ok(runtime)) = (left.is_empty(), runtime) else { return };
        tracing::debug!(messages = left.len(), client_id = self.caller.client_id, "messages were not taken");
        runtime.spawn(give_back(self.context.clone(), self.caller.patient(), self.group.take(), left));
    }
}

async fn give_back<B: MessageApi>(
    context: Context<B>,
    caller: Caller,
    group: Option<Resource>,
    messages: Vec<Message>,
) {
    for message in messages {
        let system = message.system_properties.unwrap_or_default();
        let request = ChangeInvisibleDurationRequest {
            group: group.clone(),
            topic: message.topic,
            receipt_handle: system.receipt_handle.unwrap_or_default(),
            invisible_duration: Some(to_duration(0)),
            message_id: system.message_id,
            ..ChangeInvisibleDurationRequest::default()
        };
        if let Err(refusal) = change_invisible_duration::handle(context.clone(), caller.clone(), request).await {
            tracing::debug!(?refusal, "a message that was not taken stays invisible for its time");
        }
    }
}
