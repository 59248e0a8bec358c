//! After a loss that a topic's mode allowed, a committed offset may lie beyond the log end, and a consumer that began there
//! would skip what is written next. So before an offset is first given out in a term of its partition, it is compared with
//! the log of the partition's leader and pulled back if need be (DESIGN 4, "After a loss that the mode allows").
//!
//! No call of its own: the leader is asked for its last log id, and this node's replica for the rest once it has applied
//! that far. What a consumer has seen lies at or below that id, or is lost.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::time::Duration;

use duolog_record::group::{CommittedOffset, GroupId};
use duolog_replication::outcome;
use duolog_state::command::{Command, GroupCommand, PullBack};
use duolog_state::{EntryKind, Response, StateError, TableReader, reader};
use duolog_types::{BrokerGroupId, FlushWish, LeaderEpoch, Offset, Term, TopicPartition};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Coordinator;
use super::fetch::Found;
use crate::api::ItemResult;
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::fetch::PARK_MAX;
use crate::runtime::{GroupRuntime, storage};

/// Between two questions to a leader that does not answer.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// The partition's term in which each committed offset was found to be good; forgotten with the coordinator's term.
#[derive(Default)]
pub(super) struct CheckedOffsets(Mutex<Checked>);

#[derive(Default)]
struct Checked {
    term: Term,
    of: HashMap<GroupId, HashMap<TopicPartition, Term>>,
}

impl CheckedOffsets {
    fn contains(&self, term: Term, group: &GroupId, partition: TopicPartition, partition_term: Term) -> bool {
        let checked = self.0.lock();
        checked.term == term && checked.of.get(group).and_then(|of| of.get(&partition)) == Some(&partition_term)
    }

    fn insert(&self, term: Term, group: &GroupId, partition: TopicPartition, partition_term: Term) {
        let mut checked = self.0.lock();
        if checked.term < term {
            *checked = Checked { term, of: HashMap::new() };
        }
        if checked.term == term {
            checked.of.entry(group.clone()).or_default().insert(partition, partition_term);
        }
    }
}

/// Checks what was not checked yet, and replaces what was pulled back.
pub(super) async fn check(
    broker: &Broker,
    coordinator: &Coordinator,
    term: Term,
    group: &GroupId,
    found: &mut [Found],
) -> ItemResult<()> {
    let deadline = Instant::now() + PARK_MAX;
    let mut by_host: BTreeMap<BrokerGroupId, Vec<&mut Found>> = BTreeMap::new();
    for offset in found {
        let partition_term = broker.runtime(offset.host)?.leadership().term;
        if !coordinator.checked.contains(term, group, offset.partition, partition_term) {
            by_host.entry(offset.host).or_default().push(offset);
        }
    }
    for (host, offsets) in by_host {
        let runtime = broker.runtime(host)?;
        let partition_term = catch_up(broker, &runtime, deadline).await?;
        for offset in offsets {
            let beyond = beyond_end(&*runtime.tables(), offset.partition, &offset.committed, partition_term);
            if let Some((to, to_leader_epoch)) = beyond.map_err(storage)? {
                let pull_back = PullBack {
                    group: group.clone(),
                    partition: offset.partition,
                    from: offset.committed.offset,
                    from_leader_epoch: offset.committed.leader_epoch,
                    to,
                    to_leader_epoch,
                };
                offset.committed = pull_back_offset(coordinator, term, pull_back).await?;
            }
            coordinator.checked.insert(term, group, offset.partition, partition_term);
        }
    }
    Ok(())
}

/// Waits until this node's replica has everything that the leader had when it was asked; gives the leader's term.
async fn catch_up(broker: &Broker, runtime: &GroupRuntime, deadline: Instant) -> ItemResult<Term> {
    let too_late = |_| BrokerError::CoordinatorLoading;
    let asked = async {
        loop {
            if let Some(answer) = broker.cluster_handle().leader_last(runtime.id()).await {
                return answer;
            }
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        }
    };
    let (term, last) = tokio::time::timeout_at(deadline, asked).await.map_err(too_late)?;
    let mut applied = runtime.group().applied();
    let caught_up = applied.wait_for(|mark| mark.is_some_and(|mark| mark.index >= last.0));
    // An error means that the replica is closed.
    tokio::time::timeout_at(deadline, caught_up).await.map_err(too_late)?.map_err(|_| BrokerError::NotCoordinator)?;
    Ok(term)
}

/// Where a committed offset must go back to, with the leader epoch of the record before; `None` when it is good.
fn beyond_end(
    tables: &dyn TableReader,
    partition: TopicPartition,
    committed: &CommittedOffset,
    term: Term,
) -> Result<Option<(Offset, Option<LeaderEpoch>)>, StateError> {
    // A group that does not know the partition yet has lost nothing of it.
    let Some(log_end) = reader::log_end(tables, partition)? else { return Ok(None) };
    let current = reader::CurrentEpoch { epoch: term.leader_epoch(), log_end };
    let end = match committed.leader_epoch {
        // An epoch that this leader does not know is newer: it will be compared in its own term.
        Some(epoch) => reader::epoch_end_offset(tables, partition, epoch, current)?.map(|end| end.end_offset),
        None => Some(log_end),
    };
    let Some(to) = end.filter(|end| *end < committed.offset) else { return Ok(None) };
    let before = if to > Offset(0) { reader::epoch_of(tables, partition, Offset(to.0 - 1))? } else { None };
    Ok(Some((to, before)))
}

/// Proposes it, and gives what is committed afterwards: the group may have committed something else in between.
async fn pull_back_offset(coordinator: &Coordinator, term: Term, pull_back: PullBack) -> ItemResult<CommittedOffset> {
    let (group, partition) = (pull_back.group.clone(), pull_back.partition);
    let body = Command::Groups(GroupCommand::PullBackOffset(pull_back)).encode();
    let proposal = duolog_replication::Proposal { kind: EntryKind::Command, flush: FlushWish::Now, body };
    let unknown = || BrokerError::CoordinatorNotAvailable;
    let proposed = coordinator.runtime.group().propose_as(term, proposal).await.map_err(|_| unknown())?;
    let (_, response) = outcome(proposed.await.map_err(|_| unknown())?).map_err(|_| BrokerError::NotCoordinator)?;
    if response.0 == Response::Ok {
        coordinator.pulled_back.fetch_add(1, Ordering::Relaxed);
    }
    let tables = coordinator.runtime.tables();
    reader::committed_offset(&*tables, &group, partition).map_err(storage)?.ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    //! A partition of two terms: the records 0 to 9 are of term 1, 10 to 14 of term 3. Where must a consumer go on?

    use duolog_record::BatchBuilder;
    use duolog_record::entry::{BatchMeta, EntryBuilder, EntryHeader};
    use duolog_state::command::PartitionCommand;
    use duolog_state::run::RunBarrier;
    use duolog_state::{AppliedEntry, Machine, MemoryTables};
    use duolog_types::{Durability, LogIndex, TimestampMs, TopicConfig, TopicId};

    use super::*;

    const TP: TopicPartition = TopicPartition { topic: TopicId([3; 16]), partition: 0 };

    fn batch_of_term(term: u64, base_offset: i64, records: usize) -> [(Term, EntryKind, bytes::Bytes); 2] {
        let (term, run) = (Term(term), 0);
        let mut batch = BatchBuilder::new();
        for _ in 0..records {
            batch.push(TimestampMs(1), None, Some(b"value")).unwrap();
        }
        let mut entry = EntryBuilder::new(EntryHeader { run_term: term, run, number: 0 });
        let durability = Durability::default();
        let base_offset = Offset(base_offset);
        let meta = BatchMeta { partition: TP, base_offset, durability, flags: 0, log_append_time: None };
        entry.push(meta, &batch.build().unwrap());
        let barrier = (term, EntryKind::RunBarrier, RunBarrier { term, run }.encode());
        [barrier, (term, EntryKind::Batches, entry.finish())]
    }

    fn tables() -> MemoryTables {
        let upsert = Command::Partitions(PartitionCommand::UpsertTopic {
            topic_id: TP.topic,
            catalog_version: 1,
            partitions: vec![0],
            config: TopicConfig::default(),
        });
        let mut entries = vec![(Term(1), EntryKind::Command, upsert.encode())];
        entries.extend(batch_of_term(1, 0, 10));
        entries.extend(batch_of_term(3, 10, 5));
        let log: Vec<_> = (0..)
            .map(LogIndex)
            .zip(entries)
            .map(|(index, (term, kind, body))| AppliedEntry { index, term, kind, body })
            .collect();
        let mut machine = Machine::open(MemoryTables::new()).unwrap();
        machine.apply(&log).unwrap();
        machine.tables().clone()
    }

    #[test]
    fn an_offset_goes_back_to_where_its_epoch_ends() {
        let tables = tables();
        assert_eq!(reader::log_end(&tables, TP).unwrap(), Some(Offset(15)));
        for (offset, epoch, expected) in [
            (10, Some(1), None),
            (11, Some(1), Some((10, Some(1)))),
            // Everything of term 2 is lost.
            (12, Some(2), Some((10, Some(1)))),
            (15, Some(3), None),
            (16, Some(3), Some((15, Some(3)))),
            // The leader has written nothing of term 4 yet.
            (15, Some(4), None),
            (16, Some(4), Some((15, Some(3)))),
            // Nobody but a newer leader knows.
            (99, Some(5), None),
            (5, Some(0), Some((0, None))),
            (15, None, None),
            (16, None, Some((15, Some(3)))),
        ] {
            let committed = CommittedOffset {
                offset: Offset(offset),
                leader_epoch: epoch.map(LeaderEpoch),
                metadata: String::new(),
                commit_timestamp: TimestampMs(1),
            };
            let found = beyond_end(&tables, TP, &committed, Term(4)).unwrap();
            let expected = expected.map(|(to, epoch): (i64, Option<i32>)| (Offset(to), epoch.map(LeaderEpoch)));
            assert_eq!(found, expected, "offset {offset}, epoch {epoch:?}");
            let elsewhere = TopicPartition { partition: 1, ..TP };
            assert_eq!(beyond_end(&tables, elsewhere, &committed, Term(4)).unwrap(), None);
        }
    }

    #[test]
    fn a_check_holds_for_a_term_of_the_partition_and_of_the_coordinator() {
        let checked = CheckedOffsets::default();
        let (group, other) = (GroupId("g".into()), GroupId("h".into()));
        checked.insert(Term(2), &group, TP, Term(7));
        assert!(checked.contains(Term(2), &group, TP, Term(7)));
        assert!(!checked.contains(Term(2), &group, TP, Term(8)));
        assert!(!checked.contains(Term(3), &group, TP, Term(7)));
        assert!(!checked.contains(Term(2), &other, TP, Term(7)));
        checked.insert(Term(3), &other, TP, Term(7));
        assert!(!checked.contains(Term(3), &group, TP, Term(7)));
        // A late answer of an earlier term changes nothing.
        checked.insert(Term(2), &group, TP, Term(7));
        assert!(checked.contains(Term(3), &other, TP, Term(7)));
    }
}
