//! ForwardMessageToDeadLetterQueue: a consumer gives up a message.

use duolog_broker::message_api::MessageApi;

use crate::caller::Caller;
use crate::context::Context;
use crate::errors::Refusal;
use crate::place::at_leader;
use crate::proto::{ForwardMessageToDeadLetterQueueRequest, ForwardMessageToDeadLetterQueueResponse};
use crate::{handles, names};

pub(crate) async fn handle<B: MessageApi>(
    context: Context<B>,
    caller: Caller,
    request: ForwardMessageToDeadLetterQueueRequest,
) -> Result<ForwardMessageToDeadLetterQueueResponse, Refusal> {
    let consumer = names::consumer(request.group.as_ref(), &caller)?;
    let receipt = handles::read_receipt(&request.receipt_handle)?;
    let here = || async {
        context.broker.dead_letter(consumer.clone(), receipt).await?;
        Ok(ForwardMessageToDeadLetterQueueResponse::default())
    };
    at_leader(&context, &caller, receipt.partition, request, here).await
}
