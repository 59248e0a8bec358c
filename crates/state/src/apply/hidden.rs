//! Hidden batches: stored, made visible by a reference, closed, forgotten.
//!
//! ```text
//!             ┌─ reference ─▶ Visible ── log start passes the offset ──▶ ∅
//!  Half ──────┼─ rolled back ▶ RolledBack ─┐
//!             └─ given up ───▶ GivenUp ────┴─ forget, when its time is over ─▶ ∅
//!  Delayed ───┬─ reference ─▶ Visible
//!             └─ recalled ──▶ ∅
//! ```
//!
//! A row keeps its entry in the log. The sequencer ends each hidden batch once; apply does not rely on it: a reference
//! takes its offset in any case, and a close of what does not wait changes nothing.

use duolog_record::BatchFilter;
use duolog_record::entry::{Address, Close, Closing, Hidden, HiddenReason, Payload, Slot};
use duolog_types::{Offset, Term, TimestampMs, TopicId, TopicPartition};

use super::context::Context;
use crate::command::{CheckBack, HiddenCommand, Response};
use crate::event::StateEvent;
use crate::keys::TimerKind;
use crate::rows::{HiddenRow, HiddenState, ReferenceRow, TimerRow};
use crate::tables::TableId;
use crate::{StateError, keys, reader};

/// Rows that one command forgets, at most.
const FORGOTTEN_MAX: usize = 1_000;

pub(super) fn apply(context: &mut Context<'_>, command: HiddenCommand) -> Result<Response, StateError> {
    match command {
        HiddenCommand::CheckBack { due } => check_back(context, &due, 1),
        HiddenCommand::Claim { due } => check_back(context, &due, 0),
        HiddenCommand::Forget { now } => forget(context, now),
    }
}

/// A hidden batch was stored.
pub(super) fn store(
    context: &mut Context<'_>,
    (address, term): (Address, Term),
    slot: &Slot,
    hidden: Hidden,
    filter: BatchFilter,
) {
    let partition = slot.partition;
    put(context, partition, address, &HiddenRow::new(slot, term, hidden, filter));
    context.emit(StateEvent::HiddenStored { partition, address, hidden });
}

/// A reference has put the payload into the consume queue.
pub(super) fn make_visible(context: &mut Context<'_>, slot: &Slot, payload: Payload, before: Option<HiddenRow>) {
    let (tp, address) = (slot.partition, payload.address);
    if let Some(row) = &before {
        delete_timer(context, address, row);
    }
    let reason = before.and_then(|row| row.state.waiting()).unwrap_or(HiddenReason::Half);
    let state = HiddenState::Visible { reason, offset: slot.base_offset };
    let Payload { term, start, size_bytes, .. } = payload;
    let filter = before.map_or(BatchFilter::ANY, |row| row.filter);
    put(context, tp, address, &HiddenRow { term, start, size_bytes, state, filter });
    context.put(TableId::References, keys::reference(tp, slot.base_offset), &ReferenceRow(address));
}

/// A hidden batch never becomes visible.
pub(super) fn close(context: &mut Context<'_>, tp: TopicPartition, close: Close) -> Result<(), StateError> {
    let Close { address, closing, keep_until } = close;
    let Some(row) = reader::hidden(&context.tables, tp, address)?.filter(|row| row.state.waiting().is_some()) else {
        return Ok(());
    };
    delete_timer(context, address, &row);
    match closing {
        Closing::RolledBack => {
            put(context, tp, address, &HiddenRow { state: HiddenState::RolledBack { keep_until }, ..row })
        }
        Closing::GivenUp => put(context, tp, address, &HiddenRow { state: HiddenState::GivenUp { keep_until }, ..row }),
        Closing::Recalled => context.tables.delete(TableId::HiddenMessages, keys::hidden(tp, address)),
    }
    Ok(())
}

/// The rows of the consume queue below `first_kept` are gone, and with them what held their payloads.
pub(super) fn unpin_below(context: &mut Context<'_>, tp: TopicPartition, first_kept: Offset) -> Result<(), StateError> {
    for (offset, address) in reader::references_below(&context.tables, tp, first_kept)? {
        context.tables.delete(TableId::References, keys::reference(tp, offset));
        context.tables.delete(TableId::HiddenMessages, keys::hidden(tp, address));
    }
    Ok(())
}

/// A topic was deleted.
pub(super) fn delete_topic(context: &mut Context<'_>, topic: TopicId) -> Result<(), StateError> {
    for (_, address, row) in reader::hidden_of_topic(&context.tables, topic)? {
        delete_timer(context, address, &row);
    }
    for table in [TableId::HiddenMessages, TableId::References] {
        context.tables.delete_range(table, topic.0.to_vec(), keys::topic_end(topic));
    }
    Ok(())
}

/// Moves check-backs in time, and counts so many questions to each producer.
fn check_back(context: &mut Context<'_>, due: &[CheckBack], questions: u32) -> Result<Response, StateError> {
    let mut counted = Vec::new();
    for (check, number) in due.iter().zip(0_u32..) {
        let CheckBack { partition, address, checks: seen, next } = *check;
        let Some(row) = reader::hidden(&context.tables, partition, address)? else { continue };
        if matches!(row.state, HiddenState::Half { checks, .. } if checks == seen) {
            delete_timer(context, address, &row);
            let state = HiddenState::Half { check_at: next, checks: seen.saturating_add(questions) };
            put(context, partition, address, &HiddenRow { state, ..row });
            counted.push(number);
        }
    }
    Ok(Response::CheckBacks { counted })
}

fn forget(context: &mut Context<'_>, now: TimestampMs) -> Result<Response, StateError> {
    let oldest = reader::timers(&context.tables, TimerKind::Expiry, TimestampMs(i64::MIN), FORGOTTEN_MAX)?;
    let is_over = |timer: &&reader::Timer| timer.time <= now;
    let mut response = Response::Unchanged;
    for timer in oldest.iter().take_while(is_over) {
        context.tables.delete(TableId::Timers, keys::timer(TimerKind::Expiry, timer.time, timer.address));
        context.tables.delete(TableId::HiddenMessages, keys::hidden(timer.partition, timer.address));
        response = Response::Ok;
    }
    Ok(response)
}

/// Puts the row and its timer.
fn put(context: &mut Context<'_>, tp: TopicPartition, address: Address, row: &HiddenRow) {
    context.put(TableId::HiddenMessages, keys::hidden(tp, address), row);
    if let Some((kind, time)) = row.state.timer() {
        context.put(TableId::Timers, keys::timer(kind, time, address), &TimerRow(tp));
    }
}

fn delete_timer(context: &mut Context<'_>, address: Address, row: &HiddenRow) {
    if let Some((kind, time)) = row.state.timer() {
        context.tables.delete(TableId::Timers, keys::timer(kind, time, address));
    }
}
