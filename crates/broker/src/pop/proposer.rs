//! The task that proposes changes of queues: what waits goes into one entry, in order.

use std::sync::Arc;

use duolog_coordinator::pop::PopUpdate;
use duolog_replication::{Proposal, outcome};
use duolog_state::EntryKind;
use duolog_state::command::Command;
use duolog_types::{FlushWish, Term};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};

use super::queues::Submitted;
use crate::api::ItemResult;
use crate::error::BrokerError;
use crate::runtime::GroupRuntime;

/// Changes in one entry, at most; a change has at most a few dozen messages.
const UPDATES_MAX: usize = 1_024;
/// Entries under way, at most.
const UNDER_WAY_MAX: usize = 256;

type Replies = Vec<oneshot::Sender<ItemResult<()>>>;

/// Runs as long as the node does.
pub(crate) async fn run(runtime: Arc<GroupRuntime>, mut submitted: mpsc::UnboundedReceiver<Submitted>) {
    let mut under_way: FuturesUnordered<BoxFuture<'static, (Term, Replies, bool)>> = FuturesUnordered::new();
    let mut left_over = None;
    loop {
        tokio::select! {
            biased;
            Some((term, replies, is_applied)) = under_way.next(), if !under_way.is_empty() => {
                runtime.pop().ended(term, replies.len(), is_applied);
                answer(&runtime, replies, is_applied);
            }
            first = next(&mut left_over, &mut submitted), if under_way.len() < UNDER_WAY_MAX => {
                let Some(first) = first else { return };
                let term = first.term;
                let (updates, replies) = gather(first, &mut left_over, &mut submitted);
                let body = Command::Pop(updates).encode();
                let proposal = Proposal { kind: EntryKind::Command, flush: FlushWish::Now, body };
                let proposed = runtime.group().propose_as(term, proposal).await;
                under_way.push(Box::pin(async move {
                    let is_applied = match proposed {
                        Ok(receiver) => matches!(receiver.await.map(outcome), Ok(Ok(_))),
                        Err(_) => false,
                    };
                    (term, replies, is_applied)
                }));
            }
        }
    }
}

async fn next(
    left_over: &mut Option<Submitted>,
    submitted: &mut mpsc::UnboundedReceiver<Submitted>,
) -> Option<Submitted> {
    match left_over.take() {
        Some(first) => Some(first),
        None => submitted.recv().await,
    }
}

/// What waits behind the first change, of the same term.
fn gather(
    first: Submitted,
    left_over: &mut Option<Submitted>,
    submitted: &mut mpsc::UnboundedReceiver<Submitted>,
) -> (Vec<PopUpdate>, Replies) {
    let term = first.term;
    let (mut updates, mut replies) = (vec![first.update], vec![first.reply]);
    while updates.len() < UPDATES_MAX {
        match submitted.try_recv() {
            Ok(more) if more.term == term => {
                updates.push(more.update);
                replies.push(more.reply);
            }
            Ok(other) => {
                *left_over = Some(other);
                break;
            }
            Err(_) => break,
        }
    }
    (updates, replies)
}

fn answer(runtime: &GroupRuntime, replies: Replies, is_applied: bool) {
    for reply in replies {
        let result = if is_applied { Ok(()) } else { Err(unknown(runtime)) };
        // Nobody may be waiting any more.
        let _ = reply.send(result);
    }
}

/// It may have happened: a consumer that asks again gets the messages when their time is up.
fn unknown(runtime: &GroupRuntime) -> BrokerError {
    match runtime.not_leader() {
        BrokerError::NotLeader { leader: Some(leader), epoch } => {
            BrokerError::NotLeader { leader: Some(leader), epoch }
        }
        _ => BrokerError::LeaderNotAvailable,
    }
}
