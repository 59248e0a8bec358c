//! AckMessage: messages are consumed. Entries may be of partitions that different nodes lead.

use duolog_broker::message_api::{MessageApi, Receipt};
use duolog_types::NodeId;

use crate::caller::Caller;
use crate::context::Context;
use crate::errors::{Refusal, ok, overall};
use crate::place::scatter;
use crate::proto::{
    AckMessageEntry, AckMessageRequest, AckMessageResponse, AckMessageResultEntry, Code, Resource, Status,
};
use crate::{handles, names};

pub(crate) async fn handle<B: MessageApi>(
    context: Context<B>,
    caller: Caller,
    request: AckMessageRequest,
) -> Result<AckMessageResponse, Refusal> {
    let consumer = names::consumer(request.group.as_ref(), &caller)?;
    if request.entries.is_empty() {
        return Err(Refusal::new(Code::BadRequest, "there are no entries"));
    }
    let mut statuses: Vec<Option<Status>> = vec![None; request.entries.len()];
    let (mut items, mut places) = (Vec::new(), Vec::new());
    for (place, entry) in request.entries.iter().enumerate() {
        match handles::read_receipt(&entry.receipt_handle) {
            Ok(receipt) => {
                items.push((receipt.partition, (receipt, entry.clone())));
                places.push(place);
            }
            Err(refusal) => statuses[place] = Some(refusal.status()),
        }
    }
    let deadline = caller.deadline(context.retry());
    let here = |items: Vec<(Receipt, AckMessageEntry)>| {
        let receipts = items.into_iter().map(|(receipt, _)| receipt).collect();
        let acknowledged = context.broker.acknowledge(consumer.clone(), receipts);
        async { acknowledged.await.into_iter().map(|result| result.map_err(Refusal::from)).collect() }
    };
    let there = |node, items: Vec<(Receipt, AckMessageEntry)>| {
        let entries: Vec<AckMessageEntry> = items.into_iter().map(|(_, entry)| entry).collect();
        forward(&context, &caller, node, deadline, request.group.clone(), request.topic.clone(), entries)
    };
    let results = scatter(&context, &caller, deadline, &items, here, there).await;
    for (place, result) in places.into_iter().zip(results) {
        statuses[place] = Some(result.map_or_else(|refusal| refusal.status(), |()| ok()));
    }
    let status = overall(statuses.iter().map(Option::as_ref));
    let entry = |(entry, status): (AckMessageEntry, Option<Status>)| AckMessageResultEntry {
        message_id: entry.message_id,
        receipt_handle: entry.receipt_handle,
        status,
    };
    let entries = request.entries.into_iter().zip(statuses).map(entry).collect();
    Ok(AckMessageResponse { status: Some(status), entries })
}

async fn forward<B: MessageApi>(
    context: &Context<B>,
    caller: &Caller,
    node: NodeId,
    deadline: tokio::time::Instant,
    group: Option<Resource>,
    topic: Option<Resource>,
    entries: Vec<AckMessageEntry>,
) -> Vec<Result<(), Refusal>> {
    let count = entries.len();
    let request = AckMessageRequest { group, topic, entries };
    match context.peers.forward(node, caller, request, deadline).await {
        Ok(answer) if answer.entries.len() == count => {
            answer.entries.into_iter().map(|entry| result_of(entry.status)).collect()
        }
        Ok(answer) => vec![result_of(answer.status); count],
        Err(refusal) => vec![Err(refusal); count],
    }
}

fn result_of(status: Option<Status>) -> Result<(), Refusal> {
    let status = status.unwrap_or_default();
    match status.code() {
        Code::Ok => Ok(()),
        code => Err(Refusal::Own(code, status.message)),
    }
}
