//! One file per call.

pub(crate) mod ack_message;
pub(crate) mod change_invisible_duration;
pub(crate) mod end_transaction;
pub(crate) mod forward_to_dead_letter_queue;
pub(crate) mod get_offset;
pub(crate) mod heartbeat;
pub(crate) mod notify_client_termination;
pub(crate) mod pull_message;
pub(crate) mod query_assignment;
pub(crate) mod query_offset;
pub(crate) mod query_route;
mod queue;
pub(crate) mod recall_message;
pub(crate) mod receive_message;
pub(crate) mod send_message;
pub(crate) mod telemetry;
pub(crate) mod update_offset;

use crate::errors::Refusal;
use crate::proto::Code;

/// Longest time that a message may be invisible: RocketMQ's twelve hours.
const INVISIBLE_MS_MAX: u64 = 12 * 3_600 * 1_000;

/// The answer to a call that belongs to lite topics.
pub(crate) fn not_implemented(call: &str) -> Refusal {
    Refusal::new(Code::NotImplemented, format!("{call} is not supported by this broker"))
}

/// A time for which a message is to be invisible.
fn invisible_ms(duration: Option<&prost_types::Duration>, ms_min: u64) -> Result<u64, Refusal> {
    let ms = duration.and_then(crate::time::from_duration);
    ms.filter(|ms| (ms_min..=INVISIBLE_MS_MAX).contains(ms)).ok_or_else(|| {
        let found = duration.map_or("none".to_owned(), |found| format!("{} s and {} ns", found.seconds, found.nanos));
        Refusal::new(
            Code::IllegalInvisibleTime,
            format!("invisible duration: expected {ms_min} to {INVISIBLE_MS_MAX} ms, found {found}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use prost_types::Duration;

    use super::*;

    #[test]
    fn an_invisible_duration_has_bounds() {
        let of = |seconds| invisible_ms(Some(&Duration { seconds, nanos: 0 }), 1);
        assert_eq!(of(10), Ok(10_000));
        for refusal in [of(-1), of(0), of(100_000), invisible_ms(None, 0)] {
            assert_eq!(refusal.unwrap_err().code(), Code::IllegalInvisibleTime);
        }
    }
}
