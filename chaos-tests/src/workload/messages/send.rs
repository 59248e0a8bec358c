//! One attempt to send one message, and the pace of producers.

use std::time::Duration;

use duolog_rocketmq::proto::{Message, SendMessageRequest, SendResultEntry};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::client::{CALL_LIMIT, Client, Failure, PAUSE, outcome};
use super::{Context, Phase};
use crate::history::Value;
use crate::history::messages::{Form, MessageEvent, Outcome};

/// What a producer does next.
pub enum Attempt {
    Acked(SendResultEntry),
    Refused,
    /// Nothing was sent, or nobody knows; there was a pause.
    Open,
}

pub async fn send(
    context: &Context,
    client: &mut Client,
    (topic, value, form): (u16, Value, Form),
    message: Message,
) -> Attempt {
    let asked_ms = context.now_ms();
    let request = SendMessageRequest { messages: vec![message] };
    let answer = client.call(request, CALL_LIMIT, |mut stub, request| async move { stub.send_message(request).await });
    let (outcome, entry) = match answer.await {
        Ok(answer) => {
            let entry = answer.entries.into_iter().next().unwrap_or_default();
            (outcome(entry.status.as_ref().or(answer.status.as_ref())), entry)
        }
        Err(Failure::Lost(error)) => (Outcome::Open(error), SendResultEntry::default()),
        Err(Failure::NotSent) => {
            tokio::time::sleep(PAUSE).await;
            return Attempt::Open;
        }
    };
    let is_visible = matches!(form, Form::Plain | Form::Ordered { .. } | Form::Doomed);
    let offset = (is_visible && outcome == Outcome::Ok).then_some(entry.offset);
    let time_ms = context.now_ms();
    context.record(MessageEvent::Sent { asked_ms, time_ms, topic, value, form, outcome: outcome.clone(), offset });
    match outcome {
        Outcome::Ok => Attempt::Acked(entry),
        Outcome::Refused(_) => Attempt::Refused,
        Outcome::Open(_) => {
            client.turn();
            tokio::time::sleep(PAUSE).await;
            Attempt::Open
        }
    }
}

/// So many per second; what was missed is not made up for.
pub fn pace(per_second: u64) -> Interval {
    let mut pace = interval(Duration::from_millis(1_000 / per_second));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// Whether producers go on.
pub fn goes_on(context: &Context) -> bool {
    context.phase() == Phase::Load
}
