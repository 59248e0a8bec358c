//! The machines that run on the leader of a broker group. Each is pure: `on(event, now)` answers with what to propose,
//! what to reply and when to wake it; the only durable mutation is `replay` of a committed record.

pub mod groups;
pub mod pop;
pub mod sequencer;
