//! ChangeInvisibleDuration: a delivered message becomes visible earlier or later. The receipt is replaced.

use duolog_broker::message_api::MessageApi;

use super::invisible_ms;
use crate::caller::Caller;
use crate::context::Context;
use crate::errors::Refusal;
use crate::place::at_leader;
use crate::proto::{ChangeInvisibleDurationRequest, ChangeInvisibleDurationResponse};
use crate::{handles, names};

pub(crate) async fn handle<B: MessageApi>(
    context: Context<B>,
    caller: Caller,
    request: ChangeInvisibleDurationRequest,
) -> Result<ChangeInvisibleDurationResponse, Refusal> {
    let consumer = names::consumer(request.group.as_ref(), &caller)?;
    let receipt = handles::read_receipt(&request.receipt_handle)?;
    let invisible_ms = invisible_ms(request.invisible_duration.as_ref(), 0)?;
    let here = || async {
        let receipt = context.broker.change_invisible(consumer.clone(), receipt, invisible_ms).await?;
        Ok(ChangeInvisibleDurationResponse { receipt_handle: handles::write_receipt(&receipt), status: None })
    };
    at_leader(&context, &caller, receipt.partition, request, here).await
}
