//! RecallMessage: takes back a delayed message.

use duolog_broker::message_api::MessageApi;

use crate::caller::Caller;
use crate::context::Context;
use crate::errors::Refusal;
use crate::handles;
use crate::place::at_leader;
use crate::proto::{RecallMessageRequest, RecallMessageResponse};

pub(crate) async fn handle<B: MessageApi>(
    context: Context<B>,
    caller: Caller,
    request: RecallMessageRequest,
) -> Result<RecallMessageResponse, Refusal> {
    let (handle, message_id) = handles::read_hidden(&request.recall_handle)?;
    let here = || async {
        context.broker.recall(handle).await?;
        Ok(RecallMessageResponse { message_id: message_id.clone(), status: None })
    };
    at_leader(&context, &caller, handle.partition, request, here).await
}
