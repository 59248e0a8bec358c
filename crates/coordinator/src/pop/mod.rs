//! Deliveries of single messages to a consumer group: what one group has taken of one partition.
//!
//! ```text
//!  records ──▶ offer ─┬─ taken ──▶ delivery ──▶ settle (acknowledged, dead letter)
//!      ▲              ├─ passed over (the filter does not want it)
//!   cursor            └─ held (FIFO: an earlier one of its message group is out)
//!                                     │
//!            due again ◀── time is up, or moved by the consumer ──┘
//! ```
//!
//! [`PopQueue`] is pure: time and delivery ids are inputs, every change comes out as a [`PopUpdate`] to be proposed in the
//! order in which they came out. It runs ahead of the replicated state by what is proposed and not applied, so it lives for one
//! term of its leader and is loaded anew from the applied state in the next.

mod order;
mod queue;
mod take;

pub use order::order_of;
pub use queue::{ConnectionId, PopQueue, Renewal};
pub use take::{Bounds, Offer, Taken, Taking};

pub use duolog_state::command::PopUpdate;
pub use duolog_state::reader::PopState;
