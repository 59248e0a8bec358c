//! When something becomes due about the hidden batches of a broker group.
//!
//! Timers are rows that are deleted at the front all the time, and a scan from the very front would walk over all that
//! was deleted and not compacted yet. So it begins at a time below which nothing is left.

use std::sync::atomic::{AtomicI64, Ordering};

use duolog_record::entry::{Hidden, HiddenReason};
use duolog_state::StateError;
use duolog_state::reader::Timer;
use duolog_types::TimestampMs;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// What the tasks of a leader are told of hidden batches that were stored.
pub(crate) struct HiddenTimes {
    pub(super) deliveries: LowTime,
    pub(super) check_backs: LowTime,
    /// Until when the delivery task sleeps; `i64::MAX` while it is awake.
    sleeps_until: AtomicI64,
    earlier: Notify,
}

impl Default for HiddenTimes {
    fn default() -> Self {
        Self {
            deliveries: LowTime::default(),
            check_backs: LowTime::default(),
            sleeps_until: AtomicI64::new(i64::MAX),
            earlier: Notify::new(),
        }
    }
}

impl HiddenTimes {
    /// This node begins to lead: nothing is known of the rows.
    pub(crate) fn begin_term(&self) {
        self.deliveries.told(TimestampMs(i64::MIN));
        self.check_backs.told(TimestampMs(i64::MIN));
    }

    /// A hidden batch has its row now.
    pub(crate) fn stored(&self, hidden: Hidden) {
        match hidden.reason {
            HiddenReason::Half => self.check_backs.told(hidden.time),
            HiddenReason::Delayed => {
                self.deliveries.told(hidden.time);
                if hidden.time.0 < self.sleeps_until.load(Ordering::SeqCst) {
                    self.earlier.notify_one();
                }
            }
        }
    }

    /// The delivery task is about to look: from now on it wants to hear of everything.
    pub(super) fn wake_up(&self) {
        self.sleeps_until.store(i64::MAX, Ordering::SeqCst);
    }

    /// The delivery task has looked: only what comes before this time is news.
    pub(super) fn fall_asleep(&self, until: TimestampMs) {
        self.sleeps_until.store(until.0, Ordering::SeqCst);
    }

    /// Something earlier was stored since the task woke up.
    pub(super) async fn earlier(&self) {
        self.earlier.notified().await;
    }
}

/// A time below which there is no timer of a kind.
pub(super) struct LowTime {
    /// The least time of all that was stored since the last scan began.
    told: AtomicI64,
    /// The first time that the last scan found.
    known: Mutex<TimestampMs>,
}

impl Default for LowTime {
    fn default() -> Self {
        Self { told: AtomicI64::new(i64::MIN), known: Mutex::new(TimestampMs(i64::MIN)) }
    }
}

impl LowTime {
    fn told(&self, time: TimestampMs) {
        self.told.fetch_min(time.0, Ordering::SeqCst);
    }

    /// The first timers: `read` reads them from a time on. What is stored during the scan counts for the next one.
    pub(super) fn scan(
        &self,
        read: impl FnOnce(TimestampMs) -> Result<Vec<Timer>, StateError>,
    ) -> Result<Vec<Timer>, StateError> {
        let mut known = self.known.lock();
        *known = (*known).min(TimestampMs(self.told.swap(i64::MAX, Ordering::SeqCst)));
        let timers = read(*known)?;
        *known = timers.first().map_or(TimestampMs(i64::MAX), |timer| timer.time);
        Ok(timers)
    }
}

#[cfg(test)]
mod tests {
    use duolog_record::entry::Address;
    use duolog_types::{LogIndex, TopicId, TopicPartition};
    use futures_util::FutureExt;

    use super::*;

    fn timer(time: i64) -> Timer {
        let partition = TopicPartition { topic: TopicId([1; 16]), partition: 0 };
        Timer { time: TimestampMs(time), partition, address: Address { index: LogIndex(1), slot: 0 } }
    }

    /// Where a scan that finds these begins.
    fn scan(low: &LowTime, found: &[i64]) -> i64 {
        let mut from = TimestampMs(0);
        low.scan(|time| {
            from = time;
            Ok(found.iter().copied().map(timer).collect())
        })
        .unwrap();
        from.0
    }

    #[test]
    fn a_scan_begins_where_the_first_row_may_be() {
        let low = LowTime::default();
        assert_eq!(scan(&low, &[70, 80]), i64::MIN);
        assert_eq!(scan(&low, &[70, 80]), 70);
        low.told(TimestampMs(40));
        low.told(TimestampMs(50));
        assert_eq!(scan(&low, &[50, 70]), 40);
        assert_eq!(scan(&low, &[]), 50);
        low.told(TimestampMs(90));
        assert_eq!(scan(&low, &[90]), 90);
    }

    #[test]
    fn what_is_stored_during_a_scan_is_found_by_the_next_one() {
        let low = LowTime::default();
        scan(&low, &[]);
        low.scan(|_| {
            low.told(TimestampMs(5));
            Ok(Vec::new())
        })
        .unwrap();
        assert_eq!(scan(&low, &[5]), 5);
    }

    #[test]
    fn the_sleeper_hears_of_what_comes_before_it_wakes() {
        let times = HiddenTimes::default();
        let delayed = |time| Hidden { reason: HiddenReason::Delayed, time: TimestampMs(time) };
        let is_woken = || times.earlier().now_or_never().is_some();
        times.stored(delayed(500));
        assert!(is_woken(), "while it is awake it hears of all");
        times.fall_asleep(TimestampMs(100));
        times.stored(delayed(100));
        times.stored(Hidden { reason: HiddenReason::Half, time: TimestampMs(1) });
        assert!(!is_woken());
        times.stored(delayed(99));
        assert!(is_woken());
    }
}
