//! Keeps an answer in proportion to what there is to tell, whatever its request asks for: a name of a few bytes may stand for
//! a description of megabytes, and a request may name it a hundred thousand times.
//!
//! - What a request names again is not answered again: clients look answers up by name.
//! - Where many names may add up, an answer has a limit; what comes after it is refused, item by item.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::{Encodable, StrBytes};

use crate::context::Context;

/// Bytes of an answer after which no more items are told.
const ANSWER_BYTES_MAX: usize = 32 << 20;
/// Items that are computed at a time, and so the most that go beyond the limit.
const ITEMS_AT_A_TIME: usize = 128;

/// Leaves of each name the first item.
pub(crate) fn each_once<T, K: Ord>(items: &mut Vec<T>, name: impl Fn(&T) -> K) {
    let mut seen = BTreeSet::new();
    items.retain(|item| seen.insert(name(item)));
}

/// Leaves of each partition the first item, over all topics of a request.
pub(crate) fn each_partition_once<'a, P: 'a>(
    topics: impl Iterator<Item = (&'a TopicName, &'a mut Vec<P>)>,
    index: impl Fn(&P) -> i32,
) {
    let mut seen = BTreeSet::new();
    for (topic, partitions) in topics {
        partitions.retain(|partition| seen.insert((topic.clone(), index(partition))));
    }
}

/// Answers items in order, a few at a time.
pub(crate) async fn a_few_at_a_time<T, F: Future>(items: Vec<T>, mut answer: impl FnMut(T) -> F) -> Vec<F::Output> {
    let mut answers = Vec::with_capacity(items.len());
    let mut items = items.into_iter();
    loop {
        let few: Vec<F> = items.by_ref().take(ITEMS_AT_A_TIME).map(&mut answer).collect();
        if few.is_empty() {
            return answers;
        }
        answers.extend(join_all(few).await);
    }
}

/// The room that an answer has.
#[derive(Debug, Default)]
pub(crate) struct AnswerRoom {
    used_bytes: AtomicUsize,
}

impl AnswerRoom {
    /// Kafka's code and a sentence for an item that has no room any more.
    pub(crate) fn refusal<B>(&self, context: &Context<B>) -> Option<(i16, Option<StrBytes>)> {
        let is_full = self.used_bytes.load(Ordering::Relaxed) >= ANSWER_BYTES_MAX;
        is_full.then(|| {
            let sentence = format!("the answer has {ANSWER_BYTES_MAX} bytes before this: ask for fewer at a time");
            context.refusal(ResponseError::InvalidRequest, sentence)
        })
    }

    /// Counts an item that is told.
    pub(crate) fn count<M: Encodable>(&self, version: i16, item: &M) {
        // An item that has no size fails again, and for all to see, when the answer is encoded.
        self.used_bytes.fetch_add(item.compute_size(version).unwrap_or(0), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn items_are_answered_in_order_and_never_too_many_at_a_time() {
        let count = 3 * ITEMS_AT_A_TIME + 1;
        let (begun, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (begun, answered) = (&begun, &answered);
        let answer = |item: usize| async move {
            begun.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            let ahead = begun.load(Ordering::Relaxed) - answered.fetch_add(1, Ordering::Relaxed);
            assert!(ahead <= ITEMS_AT_A_TIME, "{ahead} at a time");
            item
        };
        let answers = a_few_at_a_time((0..count).collect(), answer).await;
        assert_eq!(answers, (0..count).collect::<Vec<_>>());
    }
}
