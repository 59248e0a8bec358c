//! Goal: the sequencer keeps its promises, whatever the order of sends, duplicates, refusals, applies and elections.
//!
//! Method: scenarios, and random interleavings against a small cluster of one: a log, the real judge as append hook, and
//! the real state machine. Checked: every waiter is answered exactly once, what was promised is where it was promised,
//! no sequence of a producer is stored twice, sequences are stored in order.

mod cluster;
mod hidden;

use std::collections::BTreeMap;

use duolog_coordinator::sequencer::{Answer, HiddenEnd, ProduceItem, ProduceRefusal, Produced, Proposal, WaiterId};
use duolog_record::entry::{EntryView, HiddenReason, NO_OFFSET};
use duolog_state::command::PartitionCommand;
use duolog_state::run::RunBarrier;
use duolog_state::{Command, EntryKind, reader};
use duolog_types::{AckPoint, FlushWish, LogIndex, Offset, ProducerEpoch, Term, TimestampMs, limits};
use proptest::prelude::*;

use cluster::*;

#[test]
fn items_are_coalesced_and_offsets_are_dense() {
    let mut cluster = Cluster::leading();
    let waiters: Vec<_> = (0..6).map(|n| cluster.submit(n % 2, None, 1 + n, SYNC)).collect();
    cluster.propose();
    assert_eq!(cluster.proposals.len(), 1, "one entry");
    cluster.settle();
    let offsets: Vec<_> = waiters.iter().map(|waiter| cluster.base_offset(*waiter)).collect();
    assert_eq!(offsets, [0, 0, 1, 2, 4, 6].map(Some));
    let index = LogIndex(cluster.log.len() as u64 - 1);
    let produced = Produced { base_offset: Offset(0), max_timestamp: TimestampMs(1), hidden_slot: None };
    let expected = Answer::WaitFor { term: Term(1), index, ack_point: AckPoint::Committed, produced };
    assert_eq!(cluster.answers[&waiters[0]], expected);
}

/// Single sends of many producers: one batch for each partition, but not across the batch of an idempotent producer.
#[test]
fn neighbours_of_one_record_become_one_batch() {
    let mut cluster = Cluster::leading();
    for (partition, stamp, count) in
        [(0, None, 1), (1, None, 1), (0, None, 1), (0, Some((7, 0, 0)), 1), (0, None, 1), (0, None, 1), (0, None, 2)]
    {
        cluster.submit(partition, stamp, count, SYNC);
    }
    cluster.settle();
    let stored = |partition| cluster.stored(partition).iter().map(|(base, ..)| *base).collect::<Vec<_>>();
    assert_eq!((stored(0), stored(1)), (vec![0, 2, 3, 5], vec![0]));
    let offsets: Vec<i64> = cluster.offsets(0).iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, (0..7).collect::<Vec<_>>());
}

#[test]
fn nothing_is_proposed_before_the_barrier_is_applied() {
    let mut cluster = Cluster::new();
    let refused = cluster.submit(0, None, 1, SYNC);
    assert_eq!(cluster.refusal(refused), Some(ProduceRefusal::NotLeading));
    cluster.elect(1);
    let waiter = cluster.submit(0, None, 1, SYNC);
    cluster.propose();
    assert_eq!(cluster.proposals, [Proposal::Barrier(RunBarrier { term: Term(1), run: 0 })]);
    cluster.settle();
    assert_eq!(cluster.base_offset(waiter), Some(0));
}

#[test]
fn duplicates_get_the_originals_offset_and_ack_point() {
    let mut cluster = Cluster::leading();
    let original = cluster.submit(0, Some((7, 0, 0)), 3, ASYNC);
    let in_the_same_entry = cluster.submit(0, Some((7, 0, 0)), 3, SYNC);
    cluster.propose();
    let in_flight = cluster.submit(0, Some((7, 0, 0)), 3, SYNC);
    cluster.propose();
    cluster.deliver(true);
    let appended = cluster.submit(0, Some((7, 0, 0)), 3, SYNC);
    cluster.propose();
    cluster.settle();
    for waiter in [in_the_same_entry, in_flight, appended] {
        assert_eq!(cluster.answers[&waiter], cluster.answers[&original]);
    }
    let applied = cluster.submit(0, Some((7, 0, 0)), 3, SYNC);
    cluster.propose();
    assert_eq!(cluster.base_offset(applied), Some(0));
    assert!(matches!(cluster.answers[&applied], Answer::Done(_)));
    assert_eq!(cluster.stored(0).len(), 1);
}

#[test]
fn sequences_are_judged_as_kafka_does() {
    let cases = [
        // What comes behind a gap is out of order when it comes again: what is missing may be on its way.
        ((7, 1, 8), Some(ProduceRefusal::NotLeading)),
        ((7, 1, 8), Some(ProduceRefusal::OutOfOrderSequence { found: 8, last: 6 })),
        ((7, 1, 9), Some(ProduceRefusal::NotLeading)),
        // Remembered as long as it is in flight, and no longer than five batches after.
        ((7, 1, 0), Some(ProduceRefusal::DuplicateSequence)),
        ((7, 0, 7), Some(ProduceRefusal::StaleEpoch { found: ProducerEpoch(0), current: ProducerEpoch(1) })),
        ((7, 2, 5), Some(ProduceRefusal::NotLeading)),
        ((7, 2, 5), Some(ProduceRefusal::OutOfOrderSequence { found: 5, last: -1 })),
        ((7, 2, 0), None),
        // An unknown producer may begin anywhere, but only when it comes again: see the next tests.
        ((8, 0, 55), Some(ProduceRefusal::NotLeading)),
        ((8, 0, 55), None),
    ];
    // Once against what is in flight, once against what was loaded from the state.
    for is_in_flight in [true, false] {
        let mut cluster = Cluster::leading();
        for sequence in 0..7 {
            cluster.submit(0, Some((7, 1, sequence)), 1, SYNC);
        }
        if !is_in_flight {
            cluster.settle();
            cluster.fail_over(0);
        }
        let waiters = cases.map(|(stamp, _)| cluster.submit(0, Some(stamp), 1, SYNC));
        cluster.settle();
        let found = waiters.map(|waiter| cluster.refusal(waiter));
        let mut expected = cases.map(|(_, refusal)| refusal);
        if is_in_flight {
            expected[3] = None;
        }
        assert_eq!(found, expected, "in flight: {is_in_flight}");
    }
}

#[test]
fn an_unknown_partition_is_refused_and_a_deleted_one_too() {
    let mut cluster = Cluster::leading();
    let unknown = cluster.submit(99, None, 1, SYNC);
    cluster.submit(0, None, 1, SYNC);
    cluster.settle();
    assert_eq!(cluster.refusal(unknown), Some(ProduceRefusal::UnknownPartition));
    let delete = PartitionCommand::DeleteTopic { topic_id: TOPIC, catalog_version: 2 };
    cluster.append(EntryKind::Command, Command::Partitions(delete).encode());
    cluster.apply(1);
    cluster.sequencer.partition_deleted(tp(0));
    let deleted = cluster.submit(0, None, 1, SYNC);
    cluster.settle();
    assert_eq!(cluster.refusal(deleted), Some(ProduceRefusal::UnknownPartition));
}

#[test]
fn a_refusal_ends_the_run_and_a_new_one_goes_on() {
    let mut cluster = Cluster::leading();
    let waiters: Vec<_> = (0..3)
        .map(|sequence| {
            let waiter = cluster.submit(0, Some((7, 0, sequence)), 1, SYNC);
            cluster.propose();
            waiter
        })
        .collect();
    let queued = cluster.submit(0, Some((7, 0, 3)), 1, SYNC);
    cluster.deliver(true);
    cluster.deliver(false);
    // The third entry lies in the log, but does not count.
    cluster.deliver(true);
    assert_eq!(cluster.base_offset(waiters[0]), Some(0));
    for waiter in [waiters[1], waiters[2], queued] {
        assert_eq!(cluster.refusal(waiter), Some(ProduceRefusal::Unknown));
    }
    cluster.settle();
    let retried: Vec<_> = (1..4).map(|sequence| cluster.submit(0, Some((7, 0, sequence)), 1, SYNC)).collect();
    cluster.settle();
    let offsets: Vec<_> = retried.iter().map(|waiter| cluster.base_offset(*waiter)).collect();
    assert_eq!(offsets, [1, 2, 3].map(Some));
}

#[test]
fn the_second_batch_of_an_unknown_producer_waits_for_the_retry_of_the_first() {
    let mut cluster = Cluster::leading();
    let first = cluster.submit(0, Some((7, 0, 0)), 1, ASYNC);
    cluster.propose();
    cluster.deliver(false);
    assert_eq!(cluster.refusal(first), Some(ProduceRefusal::Unknown));
    // It was on its way already when the first was refused.
    let second = cluster.submit(0, Some((7, 0, 1)), 1, ASYNC);
    cluster.settle();
    assert_eq!(cluster.refusal(second), Some(ProduceRefusal::NotLeading));
    let retried = [0, 1].map(|sequence| cluster.submit(0, Some((7, 0, sequence)), 1, ASYNC));
    cluster.settle();
    assert_eq!(retried.map(|waiter| cluster.base_offset(waiter)), [Some(0), Some(1)]);
}

/// The pipeline of a producer whose leader changed: the new one gets the second batch before the retry of the first.
#[test]
fn a_pipeline_that_arrives_in_the_wrong_order_at_a_new_leader_goes_on_with_its_retries() {
    for durability in [SYNC, ASYNC] {
        let mut cluster = Cluster::leading();
        cluster.submit(0, Some((7, 0, 0)), 1, durability);
        cluster.settle();
        cluster.fail_over(0);
        let early = [2, 3, 4].map(|sequence| cluster.submit(0, Some((7, 0, sequence)), 1, durability));
        let retried = [1, 2, 3, 4].map(|sequence| cluster.submit(0, Some((7, 0, sequence)), 1, durability));
        cluster.settle();
        assert_eq!(early.map(|waiter| cluster.refusal(waiter)), [Some(ProduceRefusal::NotLeading); 3]);
        assert_eq!(retried.map(|waiter| cluster.base_offset(waiter)), [1, 2, 3, 4].map(Some));
        let gap = [6, 6].map(|sequence| cluster.submit(0, Some((7, 0, sequence)), 1, durability));
        cluster.settle();
        let out_of_order = ProduceRefusal::OutOfOrderSequence { found: 6, last: 4 };
        assert_eq!(gap.map(|waiter| cluster.refusal(waiter)), [ProduceRefusal::NotLeading, out_of_order].map(Some));
    }
}

#[test]
fn after_a_loss_the_first_batch_may_be_ahead_in_async_modes_only() {
    for (durability, expected) in [(ASYNC, Some(1)), (SYNC, None)] {
        let mut cluster = Cluster::leading();
        cluster.submit(0, Some((7, 0, 0)), 1, durability);
        cluster.settle();
        cluster.submit(0, Some((7, 0, 1)), 1, durability);
        cluster.propose();
        cluster.deliver(true);
        // Sequence 1 was acknowledged and is lost.
        cluster.fail_over(0);
        let attempts = [2, 2].map(|sequence| cluster.submit(0, Some((7, 0, sequence)), 1, durability));
        let gap = [4, 4].map(|sequence| cluster.submit(0, Some((7, 0, sequence)), 1, durability));
        cluster.settle();
        assert_eq!(attempts.map(|waiter| cluster.base_offset(waiter)), [None, expected], "{durability}");
        assert_eq!(gap.map(|waiter| cluster.base_offset(waiter)), [None, None], "once per term");
        assert_eq!(cluster.ahead, usize::from(expected.is_some()));
    }
}

/// Found by the chaos run: Raft refused the entry with the batch that was taken ahead, and its retry was out of order for good.
#[test]
fn a_batch_that_was_taken_ahead_and_not_kept_may_come_again() {
    let mut cluster = Cluster::leading();
    cluster.submit(0, Some((7, 0, 0)), 1, ASYNC);
    cluster.settle();
    cluster.submit(0, Some((7, 0, 1)), 1, ASYNC);
    cluster.propose();
    cluster.deliver(true);
    // Sequence 1 was acknowledged and is lost.
    cluster.fail_over(0);
    cluster.settle();
    let attempts = [2, 2].map(|sequence| cluster.submit(0, Some((7, 0, sequence)), 1, ASYNC));
    cluster.propose();
    cluster.deliver(false);
    let refusals = attempts.map(|waiter| cluster.refusal(waiter));
    assert_eq!(refusals, [ProduceRefusal::NotLeading, ProduceRefusal::Unknown].map(Some));
    cluster.settle();
    let retried = [2, 3].map(|sequence| cluster.submit(0, Some((7, 0, sequence)), 1, ASYNC));
    cluster.settle();
    assert_eq!(retried.map(|waiter| cluster.base_offset(waiter)), [1, 2].map(Some));
    // Kept now: the next gap is one.
    let gap = [5, 5].map(|sequence| cluster.submit(0, Some((7, 0, sequence)), 1, ASYNC));
    cluster.settle();
    assert_eq!(gap.map(|waiter| cluster.base_offset(waiter)), [None, None]);
}

#[test]
fn a_later_batch_of_the_pipeline_is_never_taken_for_the_first_one() {
    let mut cluster = Cluster::leading();
    cluster.submit(0, Some((7, 0, 0)), 1, ASYNC);
    cluster.settle();
    cluster.fail_over(0);
    // Sequence 5 was refused before this node led; 6 and 7 were on their way behind it.
    for sequence in [6, 7] {
        let waiter = cluster.submit(0, Some((7, 0, sequence)), 1, ASYNC);
        cluster.settle();
        assert!(cluster.refusal(waiter).is_some(), "{sequence}");
    }
    // The producer sends all again, in order, until all are taken.
    let first_round = [5, 6, 7].map(|sequence| cluster.submit(0, Some((7, 0, sequence)), 1, ASYNC));
    cluster.settle();
    assert!(first_round.iter().all(|waiter| cluster.refusal(*waiter).is_some()));
    let second_round = [5, 6, 7].map(|sequence| cluster.submit(0, Some((7, 0, sequence)), 1, ASYNC));
    cluster.settle();
    assert_eq!(second_round.map(|waiter| cluster.base_offset(waiter)), [1, 2, 3].map(Some));
    // What lies in the gap was kept nowhere: it is never answered as a duplicate.
    let lost = cluster.submit(0, Some((7, 0, 1)), 1, ASYNC);
    cluster.settle();
    assert!(!matches!(cluster.refusal(lost), Some(ProduceRefusal::DuplicateSequence) | None));
}

#[test]
fn sequences_wrap_through_the_sequencer() {
    let mut cluster = Cluster::leading();
    let first_attempt = cluster.submit(0, Some((7, 0, i32::MAX - 1)), 3, SYNC);
    cluster.settle();
    assert_eq!(cluster.refusal(first_attempt), Some(ProduceRefusal::NotLeading));
    let waiters = [(i32::MAX - 1, 3), (1 + 1, 2), (4, 1)]
        .map(|(sequence, count)| cluster.submit(0, Some((7, 0, sequence)), count, SYNC));
    cluster.settle();
    // MAX−1, MAX, 0 | 1 is missing.
    assert_eq!(waiters.map(|waiter| cluster.base_offset(waiter)), [Some(0), None, None]);
    let next = cluster.submit(0, Some((7, 0, 1)), 2, SYNC);
    cluster.settle();
    assert_eq!(cluster.base_offset(next), Some(3));
}

#[test]
fn entries_and_bytes_in_flight_are_bounded() {
    let mut cluster = Cluster::leading();
    let megabyte = batch(None, 1, limits::ENTRY_BYTES_TARGET);
    let small = batch(None, 1, 10);
    cluster.submit_batch(0, small.clone(), SYNC);
    cluster.submit_batch(0, megabyte.clone(), SYNC);
    cluster.submit_batch(0, small, SYNC);
    for _ in 0..20 {
        cluster.submit_batch(0, megabyte.clone(), SYNC);
    }
    assert!(!cluster.sequencer.has_room());
    while cluster.sequencer.ready_to_propose() {
        cluster.propose();
        assert!(cluster.sequencer.in_flight_bytes() <= limits::IN_FLIGHT_BYTES_MAX);
    }
    let sizes: Vec<_> = cluster
        .proposals
        .iter()
        .map(|proposal| match proposal {
            Proposal::Batches(entry) => EntryView::parse(entry.body.clone()).unwrap().slot_count(),
            Proposal::Barrier(_) => 0,
        })
        .collect();
    assert!(sizes.iter().all(|slots| *slots == 1), "a large batch travels alone: {sizes:?}");
    assert_eq!(sizes.len(), 17, "2 small ones and 15 of 1 MiB fit 16 MiB");
    cluster.settle();
    assert_eq!(cluster.answers.len(), 23);
    assert_eq!(cluster.sequencer.in_flight_bytes(), 0);
}

#[test]
fn flush_messages_asks_for_a_flush_at_every_nth_record() {
    let mut cluster = Cluster::leading();
    let mut wishes = Vec::new();
    for number in 0..7 {
        let output = cluster.sequencer.submit(ProduceItem {
            waiter: WaiterId(number),
            partition: tp(0),
            batch: batch(None, 2, 1),
            durability: ASYNC,
            flush: FlushWish::WithinMs(100),
            flush_records: Some(5),
            log_append_time: Some(TimestampMs(9)),
            hidden: None,
        });
        cluster.take(output);
        cluster.propose();
        if let Some(Proposal::Batches(entry)) = cluster.proposals.back() {
            wishes.push(entry.flush == FlushWish::Now);
        }
    }
    assert_eq!(wishes, [false, false, true, false, false, true, false]);
}

/// One step of a random schedule.
#[derive(Debug, Clone)]
enum Step {
    Plain {
        partition: u32,
        count: u32,
    },
    /// The producer's next batch, or one again that it has sent (`back` batches ago).
    Send {
        producer: usize,
        partition: u32,
        back: usize,
        count: u32,
    },
    Propose,
    Deliver,
    Refuse,
    Apply(usize),
    FailOver {
        kept: usize,
    },
    Hide {
        partition: u32,
        reason: HiddenReason,
    },
    /// One of the hidden batches that are applied, or were and are lost, ends or tries to.
    End {
        which: prop::sample::Index,
        end: HiddenEnd,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..PARTITIONS, 1_u32..4).prop_map(|(partition, count)| Step::Plain { partition, count }),
        10 => (0_usize..3, 0..PARTITIONS, 0_usize..8, 1_u32..4)
            .prop_map(|(producer, partition, back, count)| Step::Send { producer, partition, back, count }),
        6 => Just(Step::Propose),
        6 => Just(Step::Deliver),
        1 => Just(Step::Refuse),
        5 => (1_usize..4).prop_map(Step::Apply),
        1 => (0_usize..4).prop_map(|kept| Step::FailOver { kept }),
        3 => (0..PARTITIONS, prop::bool::ANY).prop_map(|(partition, is_half)| Step::Hide {
            partition, reason: if is_half { HiddenReason::Half } else { HiddenReason::Delayed },
        }),
        5 => (any::<prop::sample::Index>(), prop::sample::select(&hidden::ENDS[..]))
            .prop_map(|(which, end)| Step::End { which, end }),
    ]
}

/// A well-behaved producer: it sends the next batch once, and again in order what was refused or is unknown.
#[derive(Default)]
struct Producer {
    /// Per partition: base sequence, count, and the waiter of the last attempt.
    sent: BTreeMap<u32, Vec<(i32, u32, WaiterId)>>,
}

impl Producer {
    fn send(&mut self, cluster: &mut Cluster, id: i64, (partition, back, count): (u32, usize, u32)) {
        let sent = self.sent.entry(partition).or_default();
        // What has failed is retried first, with everything after it, as a Kafka producer does.
        if let Some(failed) = sent.iter().position(|(.., waiter)| cluster.has_failed(*waiter)) {
            for (sequence, count, waiter) in &mut sent[failed..] {
                *waiter = cluster.submit(partition, Some((id, 0, *sequence)), *count, SYNC);
            }
        } else if back > 0 && back <= sent.len().min(5) {
            let at = sent.len() - back;
            let (sequence, count, _) = sent[at];
            cluster.submit(partition, Some((id, 0, sequence)), count, SYNC);
        } else {
            let sequence = sent.last().map_or(0, |(sequence, count, _)| sequence + count.cast_signed());
            let waiter = cluster.submit(partition, Some((id, 0, sequence)), count, SYNC);
            sent.push((sequence, count, waiter));
        }
    }
}

fn run(steps: &[Step]) {
    let mut cluster = Cluster::leading();
    let mut producers: [Producer; 3] = Default::default();
    let mut hidden = hidden::HiddenBatches::default();
    for step in steps {
        match *step {
            Step::Plain { partition, count } => {
                cluster.submit(partition, None, count, SYNC);
            }
            Step::Send { producer, partition, back, count } => {
                producers[producer].send(&mut cluster, producer as i64, (partition, back, count));
            }
            Step::Propose => cluster.propose(),
            Step::Deliver => cluster.deliver(true),
            Step::Refuse => cluster.deliver(false),
            Step::Apply(count) => cluster.apply(count),
            Step::FailOver { kept } => cluster.fail_over(kept),
            Step::Hide { partition, reason } => hidden.hide(&mut cluster, partition, reason),
            Step::End { which, end } => hidden.end(&mut cluster, which, end),
        }
    }
    cluster.settle();
    let waiters: Vec<_> = (0..cluster.next_waiter).map(WaiterId).collect();
    assert_eq!(cluster.answers.keys().copied().collect::<Vec<_>>(), waiters, "every waiter is answered exactly once");
    check_promises(&cluster);
    for partition in 0..PARTITIONS {
        check_sequences(&cluster, partition);
    }
    hidden.check(&cluster);
}

/// Whoever was told to wait for an index that this term kept, or that it is done, finds the batch there.
fn check_promises(cluster: &Cluster) {
    // A batch of one record may have become part of its neighbour's.
    let stored: Vec<_> = (0..PARTITIONS).flat_map(|partition| cluster.offsets(partition)).collect();
    let references: Vec<_> = (0..PARTITIONS).flat_map(|partition| cluster.references(partition)).collect();
    for (waiter, answer) in &cluster.answers {
        match answer {
            Answer::Refused(ProduceRefusal::Unknown | ProduceRefusal::NotLeading) => {}
            Answer::Refused(ProduceRefusal::OutOfOrderSequence { .. } | ProduceRefusal::DuplicateSequence) => {}
            Answer::Refused(ProduceRefusal::NoSuchHidden | ProduceRefusal::EndedOtherwise) => {}
            // Checked with what was hidden.
            Answer::Done(produced) | Answer::WaitFor { produced, .. } if produced.base_offset == NO_OFFSET => {}
            Answer::Refused(refusal) => panic!("{waiter:?}: {refusal}"),
            Answer::Done(produced) => {
                assert!(stored.iter().any(|(offset, _)| *offset == produced.base_offset.0), "{waiter:?} {produced:?}");
            }
            Answer::WaitFor { term, index, produced, .. } => {
                let is_kept = cluster.log.get(index.0 as usize).is_some_and(|entry| entry.term == *term);
                let is_there = stored.iter().any(|(offset, at)| (*offset, at) == (produced.base_offset.0, index))
                    || references.iter().any(|(base, _)| *base == produced.base_offset.0);
                assert!(!is_kept || is_there, "{waiter:?}: {produced:?} is not at log index {index}");
            }
        }
    }
}

/// No sequence twice, none out of order, none missing.
fn check_sequences(cluster: &Cluster, partition: u32) {
    let mut next = BTreeMap::new();
    let stored = cluster.stored(partition);
    let ends = stored.iter().skip(1).map(|(base, ..)| *base);
    let log_end = reader::log_end(cluster.machine.tables(), tp(partition)).unwrap().unwrap().0;
    for ((base, _, (producer, _, sequence)), end) in stored.iter().zip(ends.chain([log_end])) {
        if *producer >= 0 {
            let expected = next.entry(*producer).or_insert(0);
            assert_eq!(sequence, expected, "partition {partition}, producer {producer}, offset {base}: {stored:?}");
            *expected += (end - base) as i32;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_interleaving_keeps_the_promises(steps in prop::collection::vec(step(), 1..200)) {
        run(&steps);
    }
}
