//! Half and delayed messages: stored where they stay, and seen by nobody until a reference points to them.
//!
//! ```text
//!  send ──▶ [sequencer] ──▶ hidden slot ──▶ apply: row, timer ──┬─ deliver, when its time has come ─┐
//!                 ▲                                             ├─ end_transaction, recall ─────────┤
//!                 │                                             └─ orphans: asked too often ────────┤
//!                 └───────────────────── reference or close, one per message ◀──────────────────────┘
//! ```
//!
//! Nothing here is remembered beyond a term but by the replicated state: a new leader goes on from its rows.

mod check_backs;
mod delivery;
mod ending;
mod forget;
mod send;
mod times;
mod transactions;

use duolog_record::entry::{Hidden, HiddenReason, NO_OFFSET};
use duolog_record::{Record, RecordBatch};
use duolog_state::rows::HiddenRow;
use duolog_types::{TimestampMs, limits};

use crate::api::ItemResult;
use crate::message_api::HiddenHandle;
use crate::runtime::{GroupRuntime, storage};
use crate::stored::{self, StoredBatch};

pub(crate) use check_backs::{asked, orphans};
pub(crate) use delivery::deliver;
pub(crate) use ending::{end_transaction, recall};
pub(crate) use forget::forget;
pub(crate) use send::send;
pub(crate) use times::HiddenTimes;
pub use transactions::{Transaction, TransactionState};

/// A record may take so many bytes once it is decompressed.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// What a delayed message waits for; nothing, when its time has come already.
///
/// # Errors
/// The time is too far away: a sentence.
pub(crate) fn delayed(time: TimestampMs, now: TimestampMs) -> Result<Option<Hidden>, String> {
    let (max, found) = (limits::DELAY_MS_MAX, time.0.saturating_sub(now.0));
    if found > max {
        return Err(format!("a message can be delayed for {max} ms at most, found {found}"));
    }
    Ok((found > 0).then_some(Hidden { reason: HiddenReason::Delayed, time }))
}

/// The record of a hidden batch.
fn record(runtime: &GroupRuntime, handle: HiddenHandle, row: &HiddenRow) -> ItemResult<Record> {
    let range = row.start..row.start + row.size_bytes;
    let batch = StoredBatch { index: handle.index, range, base_offset: NO_OFFSET, reference: None };
    let batch = RecordBatch::parse(stored::read(runtime, handle.partition, &batch)?).map_err(storage)?;
    let first = batch.records(RECORD_BYTES_MAX).map_err(storage)?.next();
    first.ok_or_else(|| storage("a hidden message without a record"))?.map_err(storage)
}
