//! The long polls of a broker group: who waits for which partitions.
//!
//! A poll registers before it looks, so a change between its look and its wait wakes it. Without an index by partition
//! every visible entry would wake every idle consumer of the broker group.

use std::collections::HashMap;
use std::sync::Arc;

use duolog_types::TopicPartition;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Registered polls.
#[derive(Default)]
pub(crate) struct Wakeups(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    next_id: u64,
    polls: HashMap<TopicPartition, Vec<(u64, Arc<Notify>)>>,
}

/// A poll's place; it is given up when this is dropped.
pub(crate) struct Registration {
    waiting: Arc<Mutex<Waiting>>,
    id: u64,
    partitions: Vec<TopicPartition>,
}

impl Wakeups {
    /// From now on `poll` is notified when one of the partitions changes. One task may wait on `poll`.
    pub(crate) fn register(&self, partitions: Vec<TopicPartition>, poll: &Arc<Notify>) -> Registration {
        let mut waiting = self.0.lock();
        let id = waiting.next_id;
        waiting.next_id += 1;
        for partition in &partitions {
            waiting.polls.entry(*partition).or_default().push((id, poll.clone()));
        }
        drop(waiting);
        Registration { waiting: self.0.clone(), id, partitions }
    }

    /// These partitions have something new.
    pub(crate) fn wake(&self, partitions: &[TopicPartition]) {
        let waiting = self.0.lock();
        if waiting.polls.is_empty() {
            return;
        }
        partitions.iter().filter_map(|partition| waiting.polls.get(partition)).flatten().for_each(notify);
    }

    /// Something changed for all: a term began or ended, topics came or went.
    pub(crate) fn wake_all(&self) {
        self.0.lock().polls.values().flatten().for_each(notify);
    }
}

fn notify((_, poll): &(u64, Arc<Notify>)) {
    // Kept when the poll is still looking.
    poll.notify_one();
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock();
        for partition in &self.partitions {
            if let Some(polls) = waiting.polls.get_mut(partition) {
                polls.retain(|(id, _)| *id != self.id);
                if polls.is_empty() {
                    waiting.polls.remove(partition);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use duolog_types::TopicId;
    use futures_util::FutureExt;

    use super::*;

    fn partition(number: u32) -> TopicPartition {
        TopicPartition { topic: TopicId([1; 16]), partition: number }
    }

    fn is_woken(poll: &Notify) -> bool {
        poll.notified().now_or_never().is_some()
    }

    #[test]
    fn a_poll_hears_of_its_partitions_only_and_until_it_ends() {
        let wakeups = Wakeups::default();
        let (first, second) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let registration = wakeups.register(vec![partition(0), partition(1)], &first);
        let _other = wakeups.register(vec![partition(1)], &second);
        wakeups.wake(&[partition(0)]);
        assert_eq!((is_woken(&first), is_woken(&second)), (true, false));
        wakeups.wake(&[partition(1), partition(1)]);
        assert_eq!((is_woken(&first), is_woken(&second)), (true, true));
        wakeups.wake(&[partition(2)]);
        assert_eq!((is_woken(&first), is_woken(&second)), (false, false));
        drop(registration);
        wakeups.wake_all();
        assert_eq!((is_woken(&first), is_woken(&second)), (false, true));
        assert_eq!(wakeups.0.lock().polls.len(), 1, "what nobody waits for is forgotten");
    }
}
