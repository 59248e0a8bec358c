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

use duolog_record::entry::NO_OFFSET;
use duolog_record::{Record, RecordBatch};
use duolog_state::rows::HiddenRow;

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

/// The record of a hidden batch.
fn record(runtime: &GroupRuntime, handle: HiddenHandle, row: &HiddenRow) -> ItemResult<Record> {
    let range = row.start..row.start + row.size_bytes;
    let batch = StoredBatch { index: handle.index, range, base_offset: NO_OFFSET, reference: None };
    let batch = RecordBatch::parse(stored::read(runtime, handle.partition, &batch)?).map_err(storage)?;
    let first = batch.records(RECORD_BYTES_MAX).map_err(storage)?.next();
    first.ok_or_else(|| storage("a hidden message without a record"))?.map_err(storage)
}
