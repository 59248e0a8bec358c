//! The answer to ReceiveMessage: a status, the messages, and when they were sent. What the client does not take, because it is gone,
//! waits no more or does not read, becomes visible again: with automatic renewal it would otherwise stay invisible as long as the client
//! lives.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use duolog_broker::message_api::MessageApi;
use tokio_stream::Stream;

use crate::api::change_invisible_duration;
use crate::caller::Caller;
use crate::context::Context;
use crate::proto::receive_message_response::Content;
use crate::proto::{ChangeInvisibleDurationRequest, Message, ReceiveMessageResponse, Resource, Status};
use crate::time::{now, to_duration, to_timestamp};
use crate::unread::Unread;

/// The items that the client has not got yet.
pub(crate) struct Delivery<B: MessageApi> {
    receiver: Arc<Receiver<B>>,
    status: Option<Status>,
    messages: Unread<Message>,
    /// Whether the time is still to come: Python's push consumer cannot do without it.
    wants_time: bool,
}

/// Who is answered.
struct Receiver<B> {
    context: Context<B>,
    caller: Caller,
    group: Option<Resource>,
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
        let receiver = Arc::new(Receiver { context, caller, group });
        let slow = receiver.clone();
        let messages = Unread::new(&receiver.context.answers, messages, move |left| slow.give_back(left));
        Self { receiver, status: Some(status), messages, wants_time }
    }

    fn next(&mut self) -> Result<Option<Content>, tonic::Status> {
        if let Some(status) = self.status.take() {
            return Ok(Some(Content::Status(status)));
        }
        if let Some(message) = self.messages.next()? {
            return Ok(Some(Content::Message(message)));
        }
        let is_last = std::mem::take(&mut self.wants_time);
        Ok(is_last.then(|| Content::DeliveryTimestamp(to_timestamp(now()))))
    }
}

impl<B: MessageApi> Stream for Delivery<B> {
    type Item = Result<ReceiveMessageResponse, tonic::Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let content = self.next().transpose();
        Poll::Ready(content.map(|content| content.map(|content| ReceiveMessageResponse { content: Some(content) })))
    }
}

// No field is pinned.
impl<B: MessageApi> Unpin for Delivery<B> {}

impl<B: MessageApi> Drop for Delivery<B> {
    fn drop(&mut self) {
        self.receiver.give_back(self.messages.take());
    }
}

impl<B: MessageApi> Receiver<B> {
    /// Makes messages visible again that were not taken, without waiting for it.
    fn give_back(&self, left: Vec<Message>) {
        let runtime = tokio::runtime::Handle::try_current();
        let (false, Ok(runtime)) = (left.is_empty(), runtime) else { return };
        tracing::debug!(messages = left.len(), client_id = self.caller.client_id, "messages were not taken");
        runtime.spawn(give_back(self.context.clone(), self.caller.patient(), self.group.clone(), left));
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
