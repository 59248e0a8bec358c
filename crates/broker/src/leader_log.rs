//! What a leader knows of its term's entries that the state has not applied yet: positions, visibility, waiting producers.
//!
//! ```text
//!  offsets of a partition:   log start ──── applied ────▶│◀──── tail: appended, not applied ────▶│ log end
//!                            consume queue (RocksDB)      │ batch │ batch │ batch │ …
//!                                                  high watermark ▲ end of the prefix that has reached its own point
//! ```
//!
//! Invariants: the high watermark never goes back; a batch is visible only when it and all before it in its partition have
//! reached their visibility points; a waiter is released exactly once: at its ack point, or when the term ends.
//! Deliberately absent: reading and writing. This is plain data, told what happened.

use std::collections::{HashMap, HashSet, VecDeque};

use duolog_replication::Watermarks;
use duolog_types::{
    AckPoint, Durability, LogIndex, Offset, Term, TimestampMs, TopicId, TopicPartition, VisibilityPoint,
};

/// A batch of the tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TailBatch {
    pub(crate) base_offset: Offset,
    pub(crate) end_offset: Offset,
    pub(crate) index: LogIndex,
    /// Set when its bytes lie in an earlier entry.
    pub(crate) reference: Option<TailReference>,
    /// Byte range within the body of the entry that holds its bytes.
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) durability: Durability,
    /// When it was appended, in milliseconds of a local clock; for exposure.
    pub(crate) appended_ms: u64,
}

/// A hidden batch that became visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TailReference {
    /// The entry that holds its bytes.
    pub(crate) index: LogIndex,
    /// When it became visible.
    pub(crate) at: TimestampMs,
}

impl TailBatch {
    fn size_bytes(&self) -> u64 {
        u64::from(self.end - self.start)
    }

    fn is_visible(&self, marks: &Watermarks) -> bool {
        self.index.0
            < match self.durability.visibility_point() {
                VisibilityPoint::Received => marks.received_next,
                VisibilityPoint::Committed => marks.committed_next,
            }
    }
}

/// A partition in its leader's memory.
#[derive(Debug, Default)]
struct PartitionTail {
    log_end: Offset,
    high_watermark: Offset,
    /// Batches that are not applied, in order.
    batches: VecDeque<TailBatch>,
}

impl PartitionTail {
    /// A partition to which this term has not written yet.
    fn applied(end: Offset) -> Self {
        Self { log_end: end, high_watermark: end, batches: VecDeque::new() }
    }

    /// Moves the high watermark over the longest prefix that has reached its points. Whether it moved.
    fn advance(&mut self, marks: &Watermarks) -> bool {
        let before = self.high_watermark;
        let from = self.batches.partition_point(|batch| batch.end_offset <= before);
        for batch in self.batches.range(from..) {
            if !batch.is_visible(marks) {
                break;
            }
            self.high_watermark = batch.end_offset;
        }
        self.high_watermark > before
    }
}

/// Records and bytes that were acknowledged and would be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exposure {
    /// Records.
    pub records: u64,
    /// Bytes of their record batches.
    pub bytes: u64,
    /// Age of the oldest, in milliseconds.
    pub age_ms: u64,
}

impl Exposure {
    fn add(&mut self, batch: &TailBatch, now_ms: u64) {
        self.records += u64::try_from(batch.end_offset.0 - batch.base_offset.0).unwrap_or(0);
        self.bytes += batch.size_bytes();
        self.age_ms = self.age_ms.max(now_ms.saturating_sub(batch.appended_ms));
    }
}

impl Exposure {
    /// Adds another partition's.
    pub(crate) fn merge(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.age_ms = self.age_ms.max(other.age_ms);
    }
}

/// The exposure of a partition: what would be lost with the leader, and with all machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PartitionExposure {
    pub(crate) leader_loss: Exposure,
    pub(crate) power_loss: Exposure,
}

/// The entries of a leader's term.
#[derive(Debug)]
pub(crate) struct LeaderLog<W> {
    term: Term,
    marks: Watermarks,
    partitions: HashMap<TopicPartition, PartitionTail>,
    /// Topics whose deletion lies in this term's log: topic ids never come back.
    deleted: HashSet<TopicId>,
    /// Partitions of each entry, in log order, until the entry is committed.
    uncommitted: VecDeque<(LogIndex, Vec<TopicPartition>)>,
    /// Partitions of each entry, in log order, until the entry is received by a quorum.
    unreceived: VecDeque<(LogIndex, Vec<TopicPartition>)>,
    waiting: [VecDeque<(LogIndex, Vec<W>)>; 4],
}

fn queue(point: AckPoint) -> usize {
    match point {
        AckPoint::Appended => 0,
        AckPoint::Flushed => 1,
        AckPoint::Received => 2,
        AckPoint::Committed => 3,
    }
}

fn next_of(point: usize, marks: &Watermarks) -> u64 {
    match point {
        0 => marks.appended_next,
        1 => marks.flushed_next,
        2 => marks.received_next,
        _ => marks.committed_next,
    }
}

/// What a step released.
#[derive(Debug)]
pub(crate) struct Released<W> {
    pub(crate) waiters: Vec<W>,
    /// Partitions whose high watermark moved; one may be named twice.
    pub(crate) visible: Vec<TopicPartition>,
}

impl<W> LeaderLog<W> {
    /// A term in which nothing was appended yet; everything before is applied.
    pub(crate) fn new(term: Term) -> Self {
        Self {
            term,
            marks: Watermarks { term: term.0, ..Watermarks::default() },
            partitions: HashMap::new(),
            deleted: HashSet::new(),
            uncommitted: VecDeque::new(),
            unreceived: VecDeque::new(),
            waiting: std::array::from_fn(|_| VecDeque::new()),
        }
    }

    /// The term.
    pub(crate) fn term(&self) -> Term {
        self.term
    }

    /// An entry of this term was appended: its batches in order, each with the waiter of its producer.
    ///
    /// `applied_end` gives the applied log end of a partition that this term has not seen yet.
    pub(crate) fn appended(
        &mut self,
        index: LogIndex,
        batches: impl IntoIterator<Item = (TopicPartition, TailBatch, Vec<W>)>,
        applied_end: impl Fn(TopicPartition) -> Offset,
    ) {
        let mut partitions = Vec::new();
        for (partition, batch, waiters) in batches {
            let tail =
                self.partitions.entry(partition).or_insert_with(|| PartitionTail::applied(applied_end(partition)));
            assert_eq!(tail.log_end, batch.base_offset, "the judge let a gap through in {partition}");
            tail.log_end = batch.end_offset;
            tail.batches.push_back(batch);
            partitions.push(partition);
            if !waiters.is_empty() {
                self.wait(index, batch.durability.ack_point(), waiters);
            }
        }
        partitions.dedup();
        self.unreceived.push_back((index, partitions.clone()));
        self.uncommitted.push_back((index, partitions));
    }

    /// Waiters for an entry's point: a producer, or the duplicate of one.
    pub(crate) fn wait(&mut self, index: LogIndex, point: AckPoint, waiters: Vec<W>) {
        let queue = &mut self.waiting[queue(point)];
        let at = queue.partition_point(|(queued, _)| *queued <= index);
        queue.insert(at, (index, waiters));
    }

    /// The watermarks moved.
    pub(crate) fn advance(&mut self, marks: Watermarks) -> Released<W> {
        let mut released = Released { waiters: Vec::new(), visible: Vec::new() };
        if marks.term != self.term.0 {
            return released;
        }
        self.marks = marks;
        for (queue, next) in
            [(&mut self.unreceived, marks.received_next), (&mut self.uncommitted, marks.committed_next)]
        {
            while queue.front().is_some_and(|(index, _)| index.0 < next) {
                let (_, partitions) = queue.pop_front().expect("looked at");
                for partition in partitions {
                    let tail = self.partitions.get_mut(&partition);
                    if tail.is_some_and(|tail| tail.advance(&marks)) {
                        released.visible.push(partition);
                    }
                }
            }
        }
        released.waiters = self.release();
        released
    }

    /// Waiters whose point has been reached.
    pub(crate) fn release(&mut self) -> Vec<W> {
        let mut waiters = Vec::new();
        for (point, queue) in self.waiting.iter_mut().enumerate() {
            let next = next_of(point, &self.marks);
            while queue.front().is_some_and(|(index, _)| index.0 < next) {
                waiters.extend(queue.pop_front().expect("looked at").1);
            }
        }
        waiters
    }

    /// Everything up to `index` is in the consume queue now; the tail forgets what is visible too.
    pub(crate) fn applied(&mut self, index: LogIndex, touched: impl IntoIterator<Item = TopicPartition>) {
        for partition in touched {
            if let Some(tail) = self.partitions.get_mut(&partition) {
                while tail.batches.front().is_some_and(|b| b.index <= index && b.end_offset <= tail.high_watermark) {
                    tail.batches.pop_front();
                }
            }
        }
    }

    /// A topic's deletion was appended: what follows for it in the log is void.
    pub(crate) fn delete_topic(&mut self, topic: TopicId) {
        self.deleted.insert(topic);
    }

    /// Whether a topic's deletion was appended in this term.
    pub(crate) fn is_deleted(&self, topic: TopicId) -> bool {
        self.deleted.contains(&topic)
    }

    /// A partition is gone.
    pub(crate) fn forget(&mut self, partition: TopicPartition) {
        self.partitions.remove(&partition);
    }

    /// Notes the applied end of a partition that `ends` did not know.
    pub(crate) fn learn(&mut self, partition: TopicPartition, applied_end: Offset) {
        self.partitions.entry(partition).or_insert_with(|| PartitionTail::applied(applied_end));
    }

    /// High watermark and log end of a partition that this term has written to or that was asked for before; `None`: both are
    /// the applied log end.
    pub(crate) fn ends(&self, partition: TopicPartition) -> Option<(Offset, Offset)> {
        self.partitions.get(&partition).map(|tail| (tail.high_watermark, tail.log_end))
    }

    /// The tail's batches from the one that holds `offset`, as far as they are visible, at most `limit`.
    pub(crate) fn visible_from(&self, partition: TopicPartition, offset: Offset, limit: usize) -> Vec<TailBatch> {
        let Some(tail) = self.partitions.get(&partition) else { return Vec::new() };
        let from = tail.batches.partition_point(|batch| batch.end_offset <= offset);
        let visible = tail.batches.range(from..).take_while(|batch| batch.end_offset <= tail.high_watermark);
        visible.take(limit).copied().collect()
    }

    /// What of this partition was acknowledged and would be lost.
    pub(crate) fn exposure(&self, partition: TopicPartition, now_ms: u64) -> PartitionExposure {
        let mut exposure = PartitionExposure::default();
        let Some(tail) = self.partitions.get(&partition) else { return exposure };
        for batch in &tail.batches {
            let acknowledged = batch.index.0 < next_of(queue(batch.durability.ack_point()), &self.marks);
            if acknowledged && batch.index.0 >= self.marks.received_next {
                exposure.leader_loss.add(batch, now_ms);
            }
            if acknowledged && batch.index.0 >= self.marks.committed_next {
                exposure.power_loss.add(batch, now_ms);
            }
        }
        exposure
    }

    /// The term has ended: everyone who still waits.
    pub(crate) fn end(self) -> Vec<W> {
        self.waiting.into_iter().flatten().flat_map(|(_, waiters)| waiters).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: TopicPartition = TopicPartition { topic: TopicId([1; 16]), partition: 0 };

    fn batch(index: u64, base: i64, mode: Durability) -> (TopicPartition, TailBatch, Vec<u64>) {
        let batch = TailBatch {
            base_offset: Offset(base),
            end_offset: Offset(base + 1),
            index: LogIndex(index),
            reference: None,
            start: 0,
            end: 10,
            durability: mode,
            appended_ms: 0,
        };
        (P, batch, vec![index])
    }

    fn marks(appended: u64, flushed: u64, received: u64, committed: u64) -> Watermarks {
        Watermarks {
            term: 1,
            appended_next: appended,
            flushed_next: flushed,
            received_next: received,
            committed_next: committed,
        }
    }

    fn log(modes: &[Durability]) -> LeaderLog<u64> {
        let mut log = LeaderLog::new(Term(1));
        for (i, mode) in modes.iter().enumerate() {
            log.appended(LogIndex(i as u64), [batch(i as u64, i as i64, *mode)], |_| Offset(0));
        }
        log
    }

    #[test]
    fn each_mode_is_answered_at_its_own_point() {
        let [ss, sa, as_, aa] = Durability::ALL;
        for (mode, enough, not_enough) in [
            (ss, marks(1, 1, 1, 1), marks(1, 1, 1, 0)),
            (sa, marks(1, 0, 1, 0), marks(1, 1, 0, 0)),
            (as_, marks(1, 1, 0, 0), marks(1, 0, 1, 0)),
            (aa, marks(1, 0, 0, 0), marks(0, 0, 0, 0)),
        ] {
            assert!(log(&[mode]).advance(not_enough).waiters.is_empty(), "{mode}");
            assert_eq!(log(&[mode]).advance(enough).waiters, [0], "{mode}");
        }
    }

    #[test]
    fn readers_never_see_past_a_batch_that_has_not_reached_its_point() {
        let [ss, sa, _, aa] = Durability::ALL;
        let mut log = log(&[sa, ss, aa]);
        assert_eq!(log.advance(marks(3, 0, 3, 0)).visible, [P]);
        assert_eq!(log.ends(P), Some((Offset(1), Offset(3))), "the sync/sync batch in the middle holds the rest back");
        assert_eq!(log.advance(marks(3, 0, 3, 2)).visible, [P]);
        assert_eq!(log.ends(P), Some((Offset(3), Offset(3))));
    }

    #[test]
    fn nothing_is_visible_that_only_the_leader_has() {
        let mut log = log(&[Durability::ALL[3]]);
        let released = log.advance(marks(1, 1, 0, 0));
        assert_eq!(released.waiters, [0]);
        assert!(released.visible.is_empty());
        assert!(log.visible_from(P, Offset(0), 9).is_empty());
        assert_eq!(log.exposure(P, 7).leader_loss, Exposure { records: 1, bytes: 10, age_ms: 7 });
    }

    #[test]
    fn a_tail_keeps_what_is_applied_but_not_visible_yet() {
        let mut log = log(&[Durability::ALL[0]]);
        log.applied(LogIndex(0), [P]);
        log.advance(marks(1, 1, 1, 1));
        assert_eq!(log.visible_from(P, Offset(0), 9).len(), 1);
        log.applied(LogIndex(0), [P]);
        assert!(log.visible_from(P, Offset(0), 9).is_empty());
        assert_eq!(log.ends(P), Some((Offset(1), Offset(1))));
    }

    #[test]
    fn the_end_of_a_term_gives_back_everyone_who_waits() {
        let mut log = log(&[Durability::ALL[0], Durability::ALL[3]]);
        assert_eq!(log.advance(marks(2, 0, 0, 0)).waiters, [1]);
        assert_eq!(log.end(), [0]);
    }

    #[test]
    fn marks_of_another_term_release_nothing() {
        let mut log = log(&[Durability::ALL[3]]);
        assert!(log.advance(Watermarks { term: 2, ..marks(9, 9, 9, 9) }).waiters.is_empty());
    }
}
