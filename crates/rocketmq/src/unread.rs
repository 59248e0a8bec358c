//! Items of an answer that its client has not taken yet. Who takes none for too long gets no more of them: so clients that ask and do
//! not read fill the memory only for a while.
//!
//! One task looks at all open answers now and then. An answer that is read at once costs an entry in a map, and no task and no timer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use std::vec::IntoIter;

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How long a client may take none of its items: the largest message comes through within it over a slow line.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Looks within that time. It is over by so much at most when the last of them sees it.
const LOOKS: u32 = 4;

/// The open answers of a front end.
pub(crate) struct Answers {
    patience: Duration,
    open: Mutex<HashMap<u64, Weak<dyn Watched>>>,
    next: AtomicU64,
}

/// An answer, whatever its items are.
trait Watched: Send + Sync {
    /// Gives up what is left when nothing was taken for as long as `patience`.
    fn look(&self, now: Instant, patience: Duration);
}

/// The items, in order.
pub(crate) struct Unread<T> {
    answer: Arc<Answer<T>>,
    /// Where it is looked at, and under which number; `None` when it never had items.
    watched: Option<(Arc<Answers>, u64)>,
}

struct Answer<T>(Mutex<Left<T>>);

struct Left<T> {
    items: IntoIter<T>,
    /// How many there were when something was last seen to be taken, and when that was.
    seen: (usize, Instant),
    give_up: Option<Box<dyn FnOnce(Vec<T>) + Send>>,
    /// Set until the client is told that it was too slow.
    is_given_up: bool,
}

impl Answers {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, open: Mutex::default(), next: AtomicU64::new(0) }
    }

    fn look(&self, now: Instant) {
        // Not under the lock: what is given up takes other ones.
        let open: Vec<Arc<dyn Watched>> = self.open.lock().values().filter_map(Weak::upgrade).collect();
        for answer in open {
            answer.look(now, self.patience);
        }
    }
}

/// Looks at all open answers until the front end stops.
pub(crate) async fn run(answers: Arc<Answers>, stop: CancellationToken) {
    let mut ticks = interval(answers.patience / LOOKS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => answers.look(Instant::now()),
            () = stop.cancelled() => return,
        }
    }
}

impl<T: Send + 'static> Unread<T> {
    /// `give_up` gets what is left when the client has taken nothing for too long.
    pub(crate) fn new(answers: &Arc<Answers>, items: Vec<T>, give_up: impl FnOnce(Vec<T>) + Send + 'static) -> Self {
        let seen = (items.len(), Instant::now());
        let left = Left { items: items.into_iter(), seen, give_up: Some(Box::new(give_up)), is_given_up: false };
        let answer = Arc::new(Answer(Mutex::new(left)));
        let watched = (seen.0 > 0).then(|| {
            let number = answers.next.fetch_add(1, Ordering::Relaxed);
            let weak: Weak<Answer<T>> = Arc::downgrade(&answer);
            answers.open.lock().insert(number, weak);
            (answers.clone(), number)
        });
        Self { answer, watched }
    }

    /// The next item.
    ///
    /// # Errors
    /// Once, when the rest was given up.
    pub(crate) fn next(&self) -> Result<Option<T>, Status> {
        let mut left = self.answer.0.lock();
        if std::mem::take(&mut left.is_given_up) {
            return Err(Status::deadline_exceeded("the answer was not read in time: what was left of it is given up"));
        }
        Ok(left.items.next())
    }

    /// All that is left.
    pub(crate) fn take(&self) -> Vec<T> {
        self.answer.0.lock().items.by_ref().collect()
    }
}

impl<T> Drop for Unread<T> {
    fn drop(&mut self) {
        if let Some((answers, number)) = &self.watched {
            answers.open.lock().remove(number);
        }
    }
}

impl<T: Send> Watched for Answer<T> {
    fn look(&self, now: Instant, patience: Duration) {
        let mut left = self.0.lock();
        let (before, since) = left.seen;
        let count = left.items.len();
        if count < before {
            left.seen = (count, now);
            return;
        }
        if count == 0 || now.saturating_duration_since(since) < patience {
            return;
        }
        let Some(give_up) = left.give_up.take() else { return };
        left.is_given_up = true;
        let rest: Vec<T> = left.items.by_ref().collect();
        drop(left);
        give_up(rest);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn what_is_not_taken_for_too_long_is_given_up() {
        let answers = Arc::new(Answers::new(Duration::from_millis(50)));
        let (give_up, given_up) = oneshot::channel();
        let unread = Unread::new(&answers, vec![1, 2, 3], |rest| give_up.send(rest).unwrap());
        assert_eq!(unread.next().unwrap(), Some(1));
        let stop = CancellationToken::new();
        let looking = tokio::spawn(run(answers, stop.clone()));
        assert_eq!(given_up.await.unwrap(), [2, 3]);
        assert_eq!(unread.next().unwrap_err().code(), Code::DeadlineExceeded);
        assert_eq!(unread.next().unwrap(), None, "it is told once");
        stop.cancel();
        looking.await.unwrap();
    }

    #[test]
    fn who_takes_what_there_is_loses_nothing() {
        let answers = Arc::new(Answers::new(PATIENCE));
        let unread = Unread::new(&answers, vec![1, 2, 3], |_| panic!("nobody was slow"));
        let begun = Instant::now();
        assert_eq!(unread.next().unwrap(), Some(1));
        answers.look(begun + 2 * PATIENCE);
        assert_eq!(unread.next().unwrap(), Some(2), "one was taken since");
        answers.look(begun + 3 * PATIENCE);
        answers.look(begun + 4 * PATIENCE - Duration::from_millis(1));
        assert_eq!(unread.take(), [3]);
        answers.look(begun + 9 * PATIENCE);
        assert_eq!(unread.next().unwrap(), None);
    }

    #[test]
    fn what_is_read_or_dropped_is_not_looked_at() {
        let answers = Arc::new(Answers::new(PATIENCE));
        let given_up = Arc::new(Mutex::new(Vec::new()));
        let give_up = || {
            let given_up = given_up.clone();
            move |rest: Vec<i32>| given_up.lock().extend(rest)
        };
        let begun = Instant::now();
        let empty = Unread::new(&answers, Vec::new(), give_up());
        assert_eq!((empty.next().unwrap(), answers.open.lock().len()), (None, 0));
        let (kept, dropped) = (Unread::new(&answers, vec![1], give_up()), Unread::new(&answers, vec![2, 3], give_up()));
        assert_eq!(answers.open.lock().len(), 2);
        drop(dropped);
        assert_eq!(answers.open.lock().len(), 1);
        answers.look(begun + PATIENCE / 2);
        assert!(given_up.lock().is_empty(), "its time is not over");
        for _ in 0..2 {
            answers.look(begun + 2 * PATIENCE);
            assert_eq!(*given_up.lock(), [1], "once");
        }
        drop(kept);
        assert!(answers.open.lock().is_empty());
    }
}
