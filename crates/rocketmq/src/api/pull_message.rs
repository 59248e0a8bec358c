//! PullMessage: a consumer that keeps its own offsets reads a queue.

use std::time::Duration;

use duolog_broker::BrokerError;
use duolog_broker::api::TopicRef;
use duolog_broker::message_api::{MessageApi, Pull};
use duolog_types::{MessageType, Offset};
use tokio::time::Instant;

use super::queue::Queue;
use super::receive_message::{filter_of, nothing};
use crate::caller::Caller;
use crate::context::Context;
use crate::errors::{Refusal, ok};
use crate::mapping::{Place, to_message};
use crate::names;
use crate::place::{Leader, Patience, leader_of};
use crate::proto::pull_message_response::Content;
use crate::proto::{Code, PullMessageRequest};
use crate::settings::{POLL_MS, RECEIVE_BATCH_MAX};
use crate::time::from_duration;

/// The items of the answer: its status, the messages, and where to go on.
pub(crate) async fn handle<B: MessageApi>(
    context: Context<B>,
    caller: Caller,
    request: PullMessageRequest,
) -> Result<Vec<Content>, Refusal> {
    names::group(request.group.as_ref())?;
    let queue = Queue::find(&context, request.message_queue.as_ref())?;
    let wait = request.long_polling_timeout.as_ref().and_then(from_duration).unwrap_or(POLL_MS).min(2 * POLL_MS);
    let wait = Duration::from_millis(wait);
    let until = caller.deadline(wait);
    let mut patience = Patience::new(&caller, caller.deadline(wait + context.retry()));
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let result = match leader_of(&context, &caller, queue.partition) {
            Ok(Leader::Here) => here(&context, &request, &queue, left).await,
            Ok(Leader::There(node)) => {
                let deadline = Instant::now() + left + context.retry();
                context.peers.pull(node, &caller, request.clone(), deadline).await
            }
            Err(refusal) => Err(refusal),
        };
        match result {
            Err(refusal) if refusal.is_transient() && patience.wait().await => {}
            result => return result,
        }
    }
}

async fn here<B: MessageApi>(
    context: &Context<B>,
    request: &PullMessageRequest,
    queue: &Queue,
    wait: Duration,
) -> Result<Vec<Content>, Refusal> {
    let pull = Pull {
        topic: TopicRef::Id(queue.topic.id),
        partition: queue.id,
        offset: Offset(request.offset),
        count_max: u32::try_from(request.batch_size).unwrap_or(0).clamp(1, RECEIVE_BATCH_MAX),
        filter: filter_of(request.filter_expression.as_ref()),
        wait_ms_max: u64::try_from(wait.as_millis()).unwrap_or(POLL_MS),
    };
    let pulled = tokio::select! {
        pulled = context.broker.pull(pull) => pulled,
        () = context.stop.cancelled() => Err(BrokerError::LeaderNotAvailable),
    };
    let pulled = pulled.map_err(|error| match error {
        BrokerError::InvalidRequest(sentence) => Refusal::Own(Code::IllegalFilterExpression, sentence),
        error => error.into(),
    })?;
    context.metrics.count_delivered(pulled.records.len());
    let resource = request.message_queue.as_ref().and_then(|queue| queue.topic.clone()).unwrap_or_default();
    let is_fifo = queue.topic.config.message_type() == MessageType::Fifo;
    let place = || Place { topic: &resource, partition: pulled.partition, is_fifo, host: context.own_address.as_str() };
    let status = if pulled.records.is_empty() { nothing() } else { ok() };
    let messages = pulled.records.iter().map(|record| Content::Message(to_message(record, place())));
    let next = Content::NextOffset(pulled.next_offset.0);
    Ok(std::iter::once(Content::Status(status)).chain(messages).chain([next]).collect())
}
