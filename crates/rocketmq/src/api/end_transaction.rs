//! EndTransaction: a half message becomes visible or never does.

use duolog_broker::message_api::{MessageApi, Resolution};

use crate::caller::Caller;
use crate::context::Context;
use crate::errors::Refusal;
use crate::handles;
use crate::place::at_leader;
use crate::proto::{Code, EndTransactionRequest, EndTransactionResponse, TransactionResolution};

pub(crate) async fn handle<B: MessageApi>(
    context: Context<B>,
    caller: Caller,
    request: EndTransactionRequest,
) -> Result<EndTransactionResponse, Refusal> {
    let named = |refusal: Refusal| refusal.with_receipt_code(Code::InvalidTransactionId);
    let (handle, _) = handles::read_hidden(&request.transaction_id).map_err(named)?;
    let resolution = match request.resolution() {
        TransactionResolution::Commit => Resolution::Commit,
        TransactionResolution::Rollback => Resolution::Rollback,
        // The producer does not know yet; it is asked again.
        TransactionResolution::Unspecified => return Ok(EndTransactionResponse::default()),
    };
    let here = || async {
        context.broker.end_transaction(handle, resolution).await?;
        Ok(EndTransactionResponse::default())
    };
    at_leader(&context, &caller, handle.partition, request, here).await.map_err(named)
}
