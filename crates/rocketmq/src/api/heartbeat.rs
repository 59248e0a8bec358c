//! Heartbeat: a client is alive, so what was delivered to it with automatic renewal stays invisible.

use duolog_broker::message_api::MessageApi;

use crate::caller::Caller;
use crate::context::Context;
use crate::errors::Refusal;
use crate::proto::{HeartbeatRequest, HeartbeatResponse};

pub(crate) async fn handle<B: MessageApi>(
    context: Context<B>,
    caller: Caller,
    request: HeartbeatRequest,
) -> Result<HeartbeatResponse, Refusal> {
    context.clients.heard(&caller.client_id, request.client_type())?;
    if let Some(connection) = caller.connection {
        context.broker.renew(&caller.client_id, connection).await;
    }
    Ok(HeartbeatResponse::default())
}
