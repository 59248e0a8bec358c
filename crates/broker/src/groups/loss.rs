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
