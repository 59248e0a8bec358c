//! The task that proposes changes of queues: what waits goes into one entry, in order.
//!
//! One entry is under way at a time. What comes meanwhile gathers for the next: an entry costs a flush on every replica, however little is
//! in it.

use std::sync::Arc;

use duolog_coordinator::pop::PopUpdate;
use duolog_replication::{Proposal, outcome};
use duolog_state::EntryKind;
use duolog_state::command::Command;
use duolog_types::FlushWish;
use tokio::sync::{mpsc, oneshot};

use super::queues::{Life, Submitted};
use crate::api::ItemResult;
use crate::error::BrokerError;
use crate::runtime::GroupRuntime;

/// Changes in one entry, at most; a change has at most a few dozen messages.
const UPDATES_MAX: usize = 1_024;

type Replies = Vec<oneshot::Sender<ItemResult<()>>>;

/// Runs as long as the node does.
pub(crate) async fn run(runtime: Arc<GroupRuntime>, mut submitted: mpsc::UnboundedReceiver<Submitted>) {
    let mut left_over = None;
    while let Some(first) = next(&mut left_over, &mut submitted).await {
        let life = first.life;
        let (updates, replies) = gather(first, &mut left_over, &mut submitted);
        // What ends without having been applied ends its life: nothing that was decided after it may be proposed.
        let is_applied = runtime.pop().is_alive(life) && propose(&runtime, life, updates).await;
        end(&runtime, life, replies, is_applied);
    }
}

/// Whether the changes are applied. When the term ends before, nobody waits to learn what has become of them.
async fn propose(runtime: &GroupRuntime, life: Life, updates: Vec<PopUpdate>) -> bool {
    let body = Command::Pop(updates).encode();
    let proposal = Proposal { kind: EntryKind::Command, flush: FlushWish::Now, body };
    match runtime.group().propose_as(life.term, proposal).await {
        Ok(_) if runtime.group().early().deliveries => true,
        Ok(receiver) => {
            let mut serving = runtime.subscribe_serving();
            tokio::select! {
                biased;
                applied = receiver => matches!(applied.map(outcome), Ok(Ok(_))),
                _ = serving.wait_for(|serving| *serving != Some(life.term)) => false,
            }
        }
        Err(_) => false,
    }
}

fn end(runtime: &GroupRuntime, life: Life, replies: Replies, is_applied: bool) {
    runtime.pop().ended(life, replies.len(), is_applied);
    answer(runtime, replies, is_applied);
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

/// What waits behind the first change, of the same life.
fn gather(
    first: Submitted,
    left_over: &mut Option<Submitted>,
    submitted: &mut mpsc::UnboundedReceiver<Submitted>,
) -> (Vec<PopUpdate>, Replies) {
    let life = first.life;
    let (mut updates, mut replies) = (vec![first.update], vec![first.reply]);
    while updates.len() < UPDATES_MAX {
        match submitted.try_recv() {
            Ok(more) if more.life == life => {
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
