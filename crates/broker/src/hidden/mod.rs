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

pub(crate) use check_backs::orphans;
pub(crate) use delivery::deliver;
pub(crate) use ending::{end_transaction, recall};
pub(crate) use forget::forget;
pub(crate) use send::send;
pub(crate) use times::HiddenTimes;
