//! NotifyClientTermination: a client ends. What was delivered to it becomes visible when its time is over.

use duolog_broker::message_api::MessageApi;

use crate::caller::Caller;
use crate::context::Context;
use crate::errors::Refusal;
use crate::proto::{NotifyClientTerminationRequest, NotifyClientTerminationResponse};

pub(crate) async fn handle<B: MessageApi>(
    context: Context<B>,
    caller: Caller,
    _: NotifyClientTerminationRequest,
) -> Result<NotifyClientTerminationResponse, Refusal> {
    context.clients.remove(&caller.client_id);
    Ok(NotifyClientTerminationResponse::default())
}
