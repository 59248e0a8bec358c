//! Items of an answer that its client has not taken yet. Who takes none for too long gets no more of them: so clients that ask and do
//! not read fill the memory only for a while.

use std::sync::Arc;
use std::time::Duration;
use std::vec::IntoIter;

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tonic::Status;

/// How long a client may take none of its items: the largest message comes through within it over a slow line.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The items, in order.
pub(crate) struct Unread<T> {
    left: Arc<Mutex<Left<T>>>,
    watch: Option<AbortHandle>,
}

struct Left<T> {
    items: IntoIter<T>,
    /// Set until the client is told that it was too slow.
    is_given_up: bool,
}

impl<T: Send + 'static> Unread<T> {
    /// `give_up` gets what is left when the client has taken nothing for as long as `patience`. To be called on a runtime.
    pub(crate) fn new(items: Vec<T>, patience: Duration, give_up: impl FnOnce(Vec<T>) + Send + 'static) -> Self {
        let is_empty = items.is_empty();
        let left = Arc::new(Mutex::new(Left { items: items.into_iter(), is_given_up: false }));
        let watch = (!is_empty).then(|| tokio::spawn(watch(left.clone(), patience, give_up)).abort_handle());
        Self { left, watch }
    }

    /// The next item.
    ///
    /// # Errors
    /// Once, when the rest was given up.
    pub(crate) fn next(&self) -> Result<Option<T>, Status> {
        let mut left = self.left.lock();
        if std::mem::take(&mut left.is_given_up) {
            return Err(Status::deadline_exceeded("the answer was not read in time: what was left of it is given up"));
        }
        Ok(left.items.next())
    }

    /// All that is left.
    pub(crate) fn take(&self) -> Vec<T> {
        self.left.lock().items.by_ref().collect()
    }
}

impl<T> Drop for Unread<T> {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

async fn watch<T>(left: Arc<Mutex<Left<T>>>, patience: Duration, give_up: impl FnOnce(Vec<T>)) {
    loop {
        let before = left.lock().items.len();
        if before == 0 {
            return;
        }
        sleep(patience).await;
        if let Some(rest) = rest_of(&left, before) {
            give_up(rest);
            return;
        }
    }
}

/// Takes what is left when that is as much as before.
fn rest_of<T>(left: &Mutex<Left<T>>, before: usize) -> Option<Vec<T>> {
    let mut left = left.lock();
    if left.items.len() < before {
        return None;
    }
    left.is_given_up = true;
    Some(left.items.by_ref().collect())
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn what_is_not_taken_for_too_long_is_given_up() {
        let (give_up, given_up) = oneshot::channel();
        let unread = Unread::new(vec![1, 2, 3], Duration::from_millis(50), |rest| give_up.send(rest).unwrap());
        assert_eq!(unread.next().unwrap(), Some(1));
        assert_eq!(given_up.await.unwrap(), [2, 3]);
        assert_eq!(unread.next().unwrap_err().code(), Code::DeadlineExceeded);
        assert_eq!(unread.next().unwrap(), None, "it is told once");
    }

    #[tokio::test]
    async fn who_takes_what_there_is_loses_nothing() {
        let unread = Unread::new(vec![1, 2, 3], PATIENCE, |_| panic!("nobody was slow"));
        assert_eq!(unread.next().unwrap(), Some(1));
        assert_eq!(rest_of(&unread.left, 3), None, "one was taken since");
        assert_eq!(unread.take(), [2, 3]);
        assert_eq!(unread.next().unwrap(), None);
    }
}
