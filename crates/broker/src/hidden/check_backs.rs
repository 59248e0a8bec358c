//! Half messages whose transactions have not ended in time: their producers are asked, and given up in the end.
//!
//! ```text
//! due ─▶ claim: nobody else looks for a producer for a while ─▶ asked ─▶ counted: again in 30 s
//!                                                            └▶ nobody there: again when the claim ends
//! ```
//!
//! As RocketMQ: asked every `transactionCheckInterval` (30 s), `transactionCheckMax` (15) times. Unlike RocketMQ, only questions
//! that a producer got count; a message whose producers are all away ends by its age, which is RocketMQ's `fileReservedTime`.

use std::collections::BTreeMap;
use std::sync::Arc;

use duolog_coordinator::sequencer::HiddenEnd;
use duolog_record::Record;
use duolog_replication::CommandResponse;
use duolog_state::command::{CheckBack, Command, HiddenCommand};
use duolog_state::keys::TimerKind;
use duolog_state::rows::{HiddenRow, HiddenState};
use duolog_state::{Response, reader};
use duolog_types::{BrokerGroupId, FlushWish, TimestampMs};
use futures_util::future::join_all;

use super::ending::{end_hidden, locate};
use super::record;
use crate::api::ItemResult;
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::message_api::{HiddenHandle, Orphan, STORE_TIME_HEADER};
use crate::produce::now;
use crate::runtime::{GroupRuntime, storage};

/// Between two questions about a message.
const CHECK_INTERVAL_MS: i64 = 30_000;
/// How long a claim holds, and so the time until the next look for a producer.
const CLAIM_MS: i64 = 10_000;
/// A message is given up when it is older.
pub(super) const AGE_MS_MAX: i64 = 72 * 3_600_000;
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
    let claim = |due: &Due| check(due.handle, due.checks, now, CLAIM_MS);
    let claims: Vec<CheckBack> = due.iter().map(claim).collect();
    let claimed = propose(runtime, claims, |due| HiddenCommand::Claim { due }).await?;
    let mut numbers = 0_u32..;
    due.retain(|_| numbers.next().is_some_and(|number| claimed.binary_search(&number).is_ok()));
    let (mut orphans, mut too_old, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
    for due in due {
        match record(runtime, due.handle, &due.row) {
            Ok(record) if now.0.saturating_sub(stored_at(&record).0) > AGE_MS_MAX => too_old.push(due),
            Ok(record) => orphans.extend(orphan(broker, &due, record)),
            Err(error) => {
                let HiddenHandle { partition, index, .. } = due.handle;
                tracing::error!(%partition, log_index = %index, %error, "cannot read a half message");
                unreadable.push(check(due.handle, due.checks, now, CHECK_INTERVAL_MS));
            }
        }
    }
    join_all(too_old.iter().map(|due| give_up(broker, due))).await;
    // Nobody can be asked about them, but they end some time.
    count(runtime, unreadable).await?;
    Ok(orphans)
}

/// When a front end took a message.
fn stored_at(record: &Record) -> TimestampMs {
    let header = record.headers.iter().find(|header| header.key == STORE_TIME_HEADER.as_bytes());
    let text = header.and_then(|header| std::str::from_utf8(header.value.as_deref()?).ok());
    text.and_then(|text| text.parse().ok()).map_or(record.timestamp, TimestampMs)
}

/// See [`crate::message_api::MessageApi::asked`].
pub(crate) async fn asked(broker: &Broker, asked: &[(HiddenHandle, u32)]) {
    let now = now();
    let mut by_group: BTreeMap<BrokerGroupId, Vec<CheckBack>> = BTreeMap::new();
    for (handle, checks) in asked.iter().copied() {
        // A topic that is gone has taken its half messages with it.
        if let Ok(place) = locate(broker, &handle) {
            by_group.entry(place.group).or_default().push(check(handle, checks, now, CHECK_INTERVAL_MS));
        }
    }
    for (group, due) in by_group {
        let counted = async { count(&*broker.runtime(group)?, due).await };
        if let Err(error) = counted.await {
            tracing::debug!(broker_group = %group, %error, "questions to producers are not counted");
        }
    }
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

fn check(handle: HiddenHandle, checks: u32, now: TimestampMs, again_in_ms: i64) -> CheckBack {
    let next = TimestampMs(now.0.saturating_add(again_in_ms));
    CheckBack { partition: handle.partition, address: handle.address(), checks, next }
}

async fn count(runtime: &GroupRuntime, due: Vec<CheckBack>) -> ItemResult<()> {
    propose(runtime, due, |due| HiddenCommand::CheckBack { due }).await.map(drop)
}

/// Which of them have changed.
async fn propose(
    runtime: &GroupRuntime,
    due: Vec<CheckBack>,
    command: impl FnOnce(Vec<CheckBack>) -> HiddenCommand,
) -> ItemResult<Vec<u32>> {
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let command = Command::Hidden(command(due));
    let proposed = runtime.group().propose_command(command.encode(), FlushWish::Now).await;
    match proposed.map_err(|error| BrokerError::RequestTimedOut(error.to_string()))? {
        (_, CommandResponse(Response::CheckBacks { counted })) => Ok(counted),
        (_, other) => Err(BrokerError::Storage(format!("unexpected answer of the broker group: {other}"))),
    }
}

/// `None` when its topic is gone.
fn orphan(broker: &Broker, due: &Due, record: Record) -> Option<Orphan> {
    let topic = broker.catalog().by_id(due.handle.partition.topic)?.row.name.clone();
    Some(Orphan { handle: due.handle, topic, record, checks: due.checks })
}

#[cfg(test)]
mod tests {
    use duolog_record::RecordHeader;
    use duolog_types::Offset;

    use super::*;

    #[test]
    fn the_age_counts_from_when_a_front_end_took_the_message() {
        let stored = |value: Option<&'static str>| {
            let headers = value.map(|value| RecordHeader::text(STORE_TIME_HEADER, value)).into_iter().collect();
            stored_at(&Record { offset: Offset(-1), timestamp: TimestampMs(5), key: None, value: None, headers })
        };
        for (value, expected) in [(Some("70"), 70), (Some("soon"), 5), (None, 5)] {
            assert_eq!(stored(value), TimestampMs(expected), "{value:?}");
        }
    }
}
