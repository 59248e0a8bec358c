//! The ends of hidden batches. Each ends once: judged by the applied state and by the ends that are in flight.
//!
//! What was proposed by an earlier run, here or at the leader before, is applied or lost by the time at which a run begins,
//! so the applied state and this run's own ends are all there is.

use std::collections::BTreeMap;

use duolog_record::entry::{Address, Close, Closing, HiddenReason};
use duolog_state::rows::HiddenState;
use duolog_types::{Offset, Term};

use super::producer::Origin;
use super::{HiddenEnd, Produced};

/// An end that is in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    pub(super) end: HiddenEnd,
    /// The term of the hidden batch's entry.
    pub(super) term: Term,
    pub(super) produced: Produced,
    pub(super) origin: Origin,
}

/// Ends in flight, by hidden batch.
pub(super) type Endings = BTreeMap<Address, Ending>;

/// What an end is to a hidden batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The batch waits for it.
    Accept,
    /// It ended so before; of a visible one its offset.
    Done(Option<Offset>),
    /// It ended otherwise, or cannot end so.
    Refuse,
}

/// Judges an end by the applied state.
pub(super) fn judge(state: &HiddenState, end: HiddenEnd) -> Verdict {
    let fits = |reason| match end {
        HiddenEnd::Commit | HiddenEnd::RollBack | HiddenEnd::GiveUp => reason == HiddenReason::Half,
        HiddenEnd::Deliver | HiddenEnd::Recall => reason == HiddenReason::Delayed,
    };
    match state {
        HiddenState::Half { .. } if fits(HiddenReason::Half) => Verdict::Accept,
        HiddenState::Delayed { .. } if fits(HiddenReason::Delayed) => Verdict::Accept,
        HiddenState::Visible { reason, offset } if end.makes_visible() && fits(*reason) => Verdict::Done(Some(*offset)),
        // Giving up is a roll-back by the broker.
        HiddenState::RolledBack { .. } | HiddenState::GivenUp { .. }
            if matches!(end, HiddenEnd::RollBack | HiddenEnd::GiveUp) =>
        {
            Verdict::Done(None)
        }
        HiddenState::Half { .. }
        | HiddenState::Delayed { .. }
        | HiddenState::Visible { .. }
        | HiddenState::RolledBack { .. }
        | HiddenState::GivenUp { .. } => Verdict::Refuse,
    }
}

impl HiddenEnd {
    /// Whether the batch becomes visible.
    #[must_use]
    pub fn makes_visible(self) -> bool {
        self.closing().is_none()
    }

    pub(super) fn closing(self) -> Option<Closing> {
        match self {
            Self::Commit | Self::Deliver => None,
            Self::RollBack => Some(Closing::RolledBack),
            Self::GiveUp => Some(Closing::GivenUp),
            Self::Recall => Some(Closing::Recalled),
        }
    }
}

impl super::EndItem {
    pub(super) fn close(&self) -> Option<Close> {
        let close = |closing| Close { address: self.address, closing, keep_until: self.keep_until };
        self.end.closing().map(close)
    }
}

#[cfg(test)]
mod tests {
    use duolog_types::TimestampMs;

    use super::*;

    #[test]
    fn a_batch_ends_once_and_only_as_its_reason_allows() {
        let at = TimestampMs(9);
        let visible = |reason| HiddenState::Visible { reason, offset: Offset(3) };
        let ends = [HiddenEnd::Commit, HiddenEnd::RollBack, HiddenEnd::GiveUp, HiddenEnd::Deliver, HiddenEnd::Recall];
        let (accept, refuse) = (Verdict::Accept, Verdict::Refuse);
        let (done, at_offset) = (Verdict::Done(None), Verdict::Done(Some(Offset(3))));
        for (state, expected) in [
            (HiddenState::Half { check_at: at, checks: 2 }, [accept, accept, accept, refuse, refuse]),
            (HiddenState::Delayed { deliver_at: at }, [refuse, refuse, refuse, accept, accept]),
            (visible(HiddenReason::Half), [at_offset, refuse, refuse, refuse, refuse]),
            (visible(HiddenReason::Delayed), [refuse, refuse, refuse, at_offset, refuse]),
            (HiddenState::RolledBack { keep_until: at }, [refuse, done, done, refuse, refuse]),
            (HiddenState::GivenUp { keep_until: at }, [refuse, done, done, refuse, refuse]),
        ] {
            assert_eq!(ends.map(|end| judge(&state, end)), expected, "{state:?}");
        }
    }
}
