//! The *received* marks of the followers, as their append streams bring them to the leader.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::watermarks::Mark;

/// Last mark of each follower. A new mark replaces the old one: a follower's log may have been truncated.
pub(crate) struct ReceivedMarks {
    marks: Mutex<BTreeMap<u64, Mark>>,
    changed: watch::Sender<()>,
}

impl ReceivedMarks {
    pub(crate) fn new() -> Self {
        Self { marks: Mutex::new(BTreeMap::new()), changed: watch::channel(()).0 }
    }

    /// A follower told what it has received, or has flushed, which implies it.
    pub(crate) fn update(&self, node: u64, mark: Mark) {
        {
            let mut marks = self.marks.lock();
            let known = marks.entry(node).or_insert(mark);
            // Within a term a log only grows: a flush answer that is behind the mark says nothing new.
            *known = if known.term == mark.term { (*known).max(mark) } else { mark };
        }
        self.changed.send_replace(());
    }

    /// A new term: what followers said to an earlier leader's stream is asked for anew.
    pub(crate) fn reset(&self) {
        self.marks.lock().clear();
    }

    pub(crate) fn get(&self) -> BTreeMap<u64, Mark> {
        self.marks.lock().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
