//! Entries that seem to be damaged: which of them to look for at other nodes now, and who waits for them.
//!
//! ```text
//!  suspect ─▶ sought ─┬─▶ whole: forgotten
//!               ▲     └─▶ hopeless: rests ──▶ sought again when it is suspected after that, or when somebody waits
//!               └──────────────────────────────────────────────────────────────────┘
//! ```
//!
//! An entry that no other node can give is met again and again, by consumers, by Raft, by each pass of the scrubber. Those that can be
//! put back must not wait behind it.

use std::collections::BTreeMap;
use std::time::Duration;

use duolog_types::LogIndex;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A hopeless entry is left alone for so long. Shorter than Raft's reader waits: for it there is another search in any case.
const REST: Duration = Duration::from_secs(2);

/// Hears whether the entry is whole.
pub(crate) type Waiter = oneshot::Sender<bool>;

/// The entries under repair, and the hopeless ones.
#[derive(Default)]
pub(crate) struct Repairs {
    cases: BTreeMap<LogIndex, Case>,
}

struct Case {
    waiters: Vec<Waiter>,
    /// `None` while it is sought.
    rests_until: Option<Instant>,
    is_hopeless: bool,
}

impl Repairs {
    /// An entry seems to be damaged. Whether to seek it now; if so, [`Repairs::ended`] must follow.
    pub(crate) fn suspect(&mut self, index: LogIndex, waiter: Option<Waiter>, now: Instant) -> bool {
        let new = || Case { waiters: Vec::new(), rests_until: Some(now), is_hopeless: false };
        let case = self.cases.entry(index).or_insert_with(new);
        case.waiters.extend(waiter);
        let is_due = case.rests_until.is_some_and(|until| until <= now);
        if is_due {
            case.rests_until = None;
        }
        is_due
    }

    /// Whether the entry was sought in vain before.
    pub(crate) fn is_hopeless(&self, index: LogIndex) -> bool {
        self.cases.get(&index).is_some_and(|case| case.is_hopeless)
    }

    /// The entry whose rest ends first of those that somebody waits for, and when.
    pub(crate) fn next_due(&self) -> Option<(Instant, LogIndex)> {
        let is_awaited = |case: &Case| case.waiters.iter().any(|waiter| !waiter.is_closed());
        let awaited = self.cases.iter().filter(|(_, case)| is_awaited(case));
        awaited.filter_map(|(index, case)| Some((case.rests_until?, *index))).min()
    }

    /// The search has ended: everybody who waits hears whether the entry is whole now, or gone.
    pub(crate) fn ended(&mut self, index: LogIndex, is_whole: bool, now: Instant) {
        let Some(mut case) = self.cases.remove(&index) else { return };
        for waiter in case.waiters.drain(..) {
            // It may have given up.
            let _ = waiter.send(is_whole);
        }
        if !is_whole {
            self.cases.insert(index, Case { rests_until: Some(now + REST), is_hopeless: true, ..case });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: LogIndex = LogIndex(7);

    fn waiter() -> (Waiter, oneshot::Receiver<bool>) {
        oneshot::channel()
    }

    #[test]
    fn an_entry_is_sought_once_for_all_who_wait() {
        let (mut repairs, now) = (Repairs::default(), Instant::now());
        assert!(repairs.suspect(ENTRY, None, now));
        let (first, mut first_hears) = waiter();
        let (second, mut second_hears) = waiter();
        assert!(!repairs.suspect(ENTRY, Some(first), now));
        assert!(!repairs.suspect(ENTRY, Some(second), now));
        assert!(repairs.suspect(LogIndex(8), None, now), "another one is sought beside it");
        assert_eq!(repairs.next_due(), None, "it is under way");
        repairs.ended(ENTRY, true, now);
        assert_eq!((first_hears.try_recv(), second_hears.try_recv()), (Ok(true), Ok(true)));
        assert!(repairs.suspect(ENTRY, None, now), "damaged once more");
    }

    #[test]
    fn a_hopeless_entry_rests_and_is_sought_again() {
        let (mut repairs, now) = (Repairs::default(), Instant::now());
        assert!(repairs.suspect(ENTRY, None, now));
        assert!(!repairs.is_hopeless(ENTRY));
        repairs.ended(ENTRY, false, now);
        assert!(repairs.is_hopeless(ENTRY));
        let later = now + REST;
        assert!(!repairs.suspect(ENTRY, None, later - Duration::from_millis(1)));
        assert_eq!(repairs.next_due(), None, "nobody waits");
        assert!(repairs.suspect(ENTRY, None, later));
        repairs.ended(ENTRY, false, later);
        let (waiter, mut hears) = waiter();
        assert!(!repairs.suspect(ENTRY, Some(waiter), later));
        assert_eq!(repairs.next_due(), Some((later + REST, ENTRY)), "somebody waits: once it has rested");
        assert!(repairs.suspect(ENTRY, None, later + REST));
        repairs.ended(ENTRY, true, later + REST);
        assert_eq!(hears.try_recv(), Ok(true));
        assert!(!repairs.is_hopeless(ENTRY));
    }

    #[test]
    fn nothing_is_sought_for_those_who_gave_up() {
        let (mut repairs, now) = (Repairs::default(), Instant::now());
        assert!(repairs.suspect(ENTRY, None, now));
        repairs.ended(ENTRY, false, now);
        let (waiter, hears) = waiter();
        assert!(!repairs.suspect(ENTRY, Some(waiter), now));
        drop(hears);
        assert_eq!(repairs.next_due(), None);
    }
}
