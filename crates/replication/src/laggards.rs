//! Which voters hold back the purge mark: those that are neither 16 GiB nor an hour behind. The others get a snapshot.
//!
//! ```text
//!   leader's last index, sampled:  ── an hour ago ── … ── a minute ago ── now
//!                                        ▲ a voter below this is an hour behind
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A voter with more bytes of log before it than this is not waited for.
pub const BEHIND_BYTES_MAX: u64 = 16 << 30;
/// Nor is one that lacks what the leader had so long ago.
const BEHIND_TIME_MAX: Duration = Duration::from_secs(3_600);
const SAMPLE_EVERY: Duration = Duration::from_secs(60);

/// What the leader's log held, and when; a sample of at least an hour's age is first, once there is one.
#[derive(Debug, Default)]
pub(crate) struct Laggards {
    samples: VecDeque<(Instant, u64)>,
}

impl Laggards {
    /// The smallest index that a voter which is waited for has; `None` when nobody is waited for.
    ///
    /// `behind_bytes` gives the bytes of log above an index.
    pub(crate) fn slowest(
        &mut self,
        voters: impl IntoIterator<Item = u64>,
        last_index: u64,
        now: Instant,
        behind_bytes: impl Fn(u64) -> u64,
    ) -> Option<u64> {
        self.sample(last_index, now);
        let an_hour_ago =
            self.samples.front().filter(|(at, _)| now - *at >= BEHIND_TIME_MAX).map_or(0, |(_, last)| *last);
        voters.into_iter().filter(|index| *index >= an_hour_ago && behind_bytes(*index) < BEHIND_BYTES_MAX).min()
    }

    fn sample(&mut self, last_index: u64, now: Instant) {
        if self.samples.back().is_none_or(|(at, _)| now - *at >= SAMPLE_EVERY) {
            self.samples.push_back((now, last_index));
        }
        while self.samples.get(1).is_some_and(|(at, _)| now - *at >= BEHIND_TIME_MAX) {
            self.samples.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_voter_is_waited_for_until_it_is_an_hour_behind() {
        let mut laggards = Laggards::default();
        let start = Instant::now();
        // The leader appends 100 entries a minute; one voter stays at 150, another follows.
        for minute in 0..200_u32 {
            let last = u64::from(minute) * 100;
            let slowest = laggards.slowest([150, last, last], last, start + MINUTE * minute, |_| 0);
            // In minute 62 the leader's log of an hour ago ended with 200.
            let expected = if minute < 62 { last.min(150) } else { last };
            assert_eq!(slowest, Some(expected), "minute {minute}");
        }
        assert!(laggards.samples.len() <= 62, "{} samples are kept", laggards.samples.len());
    }

    #[test]
    fn an_idle_leader_waits_for_everybody() {
        let mut laggards = Laggards::default();
        let start = Instant::now();
        for minute in 0..200 {
            assert_eq!(laggards.slowest([7, 7], 7, start + MINUTE * minute, |_| 0), Some(7));
        }
    }

    #[test]
    fn a_voter_is_waited_for_until_it_is_too_many_bytes_behind() {
        let mut laggards = Laggards::default();
        let behind_bytes = |index: u64| if index < 10 { BEHIND_BYTES_MAX } else { BEHIND_BYTES_MAX - 1 };
        assert_eq!(laggards.slowest([9, 10, 11], 20, Instant::now(), behind_bytes), Some(10));
        assert_eq!(laggards.slowest([9], 20, Instant::now(), behind_bytes), None);
    }
}
