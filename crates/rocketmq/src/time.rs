//! The protocol's times and ours.

use std::time::{SystemTime, UNIX_EPOCH};

use duolog_types::TimestampMs;
use prost_types::{Duration, Timestamp};

const NANOS_PER_MS: i32 = 1_000_000;
const MS_PER_S: i64 = 1_000;

/// This node's wall clock.
pub(crate) fn now() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimestampMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A time in milliseconds; the rest is cut off. What is out of range becomes the nearest that is not.
pub(crate) fn from_timestamp(time: &Timestamp) -> TimestampMs {
    TimestampMs(time.seconds.saturating_mul(MS_PER_S).saturating_add(i64::from(time.nanos / NANOS_PER_MS)))
}

pub(crate) fn to_timestamp(time: TimestampMs) -> Timestamp {
    let nanos = i32::try_from(time.0.rem_euclid(MS_PER_S)).unwrap_or(0) * NANOS_PER_MS;
    Timestamp { seconds: time.0.div_euclid(MS_PER_S), nanos }
}

/// A duration in milliseconds; `None` when it is negative.
pub(crate) fn from_duration(duration: &Duration) -> Option<u64> {
    let ms = duration.seconds.saturating_mul(MS_PER_S).saturating_add(i64::from(duration.nanos / NANOS_PER_MS));
    u64::try_from(ms).ok()
}

pub(crate) fn to_duration(ms: u64) -> Duration {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    Duration { seconds: ms / MS_PER_S, nanos: i32::try_from(ms % MS_PER_S).unwrap_or(0) * NANOS_PER_MS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_both_ways() {
        for ms in [0, 1, 999, 1_000, 1_700_000_000_123, -1, -1_500] {
            assert_eq!(from_timestamp(&to_timestamp(TimestampMs(ms))), TimestampMs(ms));
        }
        for ms in [0, 1, 1_999, 7_200_000] {
            assert_eq!(from_duration(&to_duration(ms)), Some(ms));
        }
    }

    #[test]
    fn what_makes_no_sense_does_no_harm() {
        assert_eq!(from_duration(&Duration { seconds: -1, nanos: 0 }), None);
        assert_eq!(from_timestamp(&Timestamp { seconds: i64::MAX, nanos: 1 }), TimestampMs(i64::MAX));
    }
}
