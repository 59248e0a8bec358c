//! Half messages whose transactions have not ended in time: their producers are asked, and given up in the end.
//!
//! As RocketMQ: asked again every `transactionCheckInterval` (30 s), `transactionCheckMax` (15) times.

use std::sync::Arc;

use duolog_coordinator::sequencer::HiddenEnd;
use duolog_replication::CommandResponse;
use duolog_state::command::{CheckBack, Command, HiddenCommand};
use duolog_state::keys::TimerKind;
use duolog_state::rows::{HiddenRow, HiddenState};
use duolog_state::{Response, reader};
use duolog_types::{FlushWish, TimestampMs};
use futures_util::future::join_all;

use super::ending::end_hidden;
use super::record;
use crate::api::ItemResult;
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::message_api::{HiddenHandle, Orphan};
use crate::produce::now;
use crate::runtime::{GroupRuntime, storage};

/// Between two questions about a message.
const CHECK_INTERVAL_MS: i64 = 30_000;
/// Questions about a message.
const CHECKS_MAX: u32 = 15;
/// Messages of one look at a broker group, at most.
const ORPHANS_MAX: usize = 128;
/// Their bytes, roughly.
const ORPHAN_BYTES_MAX: usize = 8 << 20;

/// A half message that is due.
struct Due {
    handle: HiddenHandle,
    row: HiddenRow,
    checks: u32,
}

/// See [`crate::message_api::MessageApi::orphans`].
pub(crate) async fn orphans(broker: &Broker) -> Vec<Orphan> {
    let mut orphans = Vec::new();
    for runtime in broker.runtimes() {
        match of_group(broker, runtime).await {
            Ok(found) => orphans.extend(found),
            Err(error) => tracing::debug!(broker_group = %runtime.id(), %error, "cannot look for half messages now"),
        }
    }
    orphans
}

async fn of_group(broker: &Broker, runtime: &Arc<GroupRuntime>) -> ItemResult<Vec<Orphan>> {
    if runtime.subscribe_serving().borrow().is_none() {
        return Ok(Vec::new());
    }
    let now = now();
    let (overdue, mut due): (Vec<Due>, Vec<Due>) =
        due(runtime, now)?.into_iter().partition(|due| due.checks >= CHECKS_MAX);
    join_all(overdue.iter().map(|due| give_up(broker, due))).await;
    let counted = count(runtime, &due, TimestampMs(now.0.saturating_add(CHECK_INTERVAL_MS))).await?;
    let mut numbers = 0_u32..;
    due.retain(|_| numbers.next().is_some_and(|number| counted.binary_search(&number).is_ok()));
    Ok(due.iter().filter_map(|due| orphan(broker, runtime, due)).collect())
}

/// Half messages whose time has come, the oldest first, as many as one look may take.
fn due(runtime: &GroupRuntime, now: TimestampMs) -> ItemResult<Vec<Due>> {
    let tables = runtime.tables();
    let read = |from| reader::timers(&*tables, TimerKind::CheckBack, from, ORPHANS_MAX);
    let timers = runtime.hidden().check_backs.scan(read).map_err(storage)?;
    let mut due = Vec::new();
    let mut bytes = 0;
    for timer in timers.into_iter().take_while(|timer| timer.time <= now) {
        let row = reader::hidden(&*tables, timer.partition, timer.address).map_err(storage)?;
        let Some(row) = row else { continue };
        let HiddenState::Half { checks, .. } = row.state else { continue };
        bytes += row.size_bytes as usize;
        if bytes > ORPHAN_BYTES_MAX && !due.is_empty() {
            break;
        }
        let (partition, address) = (timer.partition, timer.address);
        let handle = HiddenHandle { partition, index: address.index, term: row.term, slot: address.slot };
        due.push(Due { handle, row, checks });
    }
    Ok(due)
}

async fn give_up(broker: &Broker, due: &Due) {
    let HiddenHandle { partition, index, .. } = due.handle;
    match end_hidden(broker, due.handle, HiddenEnd::GiveUp).await {
        Ok(()) => tracing::warn!(%partition, log_index = %index, checks = due.checks,
            "rolled back a half message whose producer never answered"),
        Err(error) => tracing::debug!(%partition, log_index = %index, %error, "cannot give a half message up now"),
    }
}

/// Counts the questions before they are asked; which of them nobody else asks.
async fn count(runtime: &GroupRuntime, due: &[Due], next: TimestampMs) -> ItemResult<Vec<u32>> {
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let check = |due: &Due| CheckBack {
        partition: due.handle.partition,
        address: due.handle.address(),
        checks: due.checks,
        next,
    };
    let command = Command::Hidden(HiddenCommand::CheckBack { due: due.iter().map(check).collect() });
    let proposed = runtime.group().propose_command(command.encode(), FlushWish::Now).await;
    match proposed.map_err(|error| BrokerError::RequestTimedOut(error.to_string()))? {
        (_, CommandResponse(Response::CheckBacks { counted })) => Ok(counted),
        (_, other) => Err(BrokerError::Storage(format!("unexpected answer of the broker group: {other}"))),
    }
}

/// `None` when the message cannot be read or its topic is gone; it was counted, so it ends some time.
fn orphan(broker: &Broker, runtime: &GroupRuntime, due: &Due) -> Option<Orphan> {
    let partition = due.handle.partition;
    let topic = broker.catalog().by_id(partition.topic)?.row.name.clone();
    match record(runtime, due.handle, &due.row) {
        Ok(record) => Some(Orphan { handle: due.handle, topic, record, checks: due.checks }),
        Err(error) => {
            tracing::error!(%partition, log_index = %due.handle.index, %error, "cannot read a half message");
            None
        }
    }
}
