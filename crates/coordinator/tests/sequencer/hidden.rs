//! Hidden batches take no offset, and each ends once, whoever leads meanwhile.

use std::collections::BTreeMap;

use duolog_coordinator::sequencer::{Answer, HiddenEnd, ProduceRefusal, WaiterId};
use duolog_record::entry::{Address, EntryView, HiddenReason, SlotKind};
use duolog_state::reader;
use duolog_state::rows::HiddenState;
use duolog_types::Term;
use proptest::prelude::*;

use super::cluster::*;

pub const ENDS: [HiddenEnd; 5] =
    [HiddenEnd::Commit, HiddenEnd::RollBack, HiddenEnd::GiveUp, HiddenEnd::Deliver, HiddenEnd::Recall];

const OTHERWISE: Option<ProduceRefusal> = Some(ProduceRefusal::EndedOtherwise);

/// A half message of partition 0 that is applied.
fn half(cluster: &mut Cluster) -> (Address, Term) {
    let waiter = cluster.hide(0, HiddenReason::Half);
    cluster.settle();
    cluster.handle(waiter).expect("it is stored")
}

fn state(cluster: &Cluster, (address, _): (Address, Term)) -> Option<HiddenState> {
    reader::hidden(cluster.machine.tables(), tp(0), address).unwrap().map(|row| row.state)
}

#[test]
fn a_hidden_batch_takes_no_offset_and_its_reference_does() {
    let mut cluster = Cluster::leading();
    let before = cluster.submit(0, None, 1, SYNC);
    let hidden = cluster.hide(0, HiddenReason::Half);
    let after = cluster.submit(0, None, 1, SYNC);
    cluster.propose();
    assert_eq!(cluster.proposals.len(), 1, "one entry");
    cluster.settle();
    let handle = cluster.handle(hidden).expect("it is stored");
    assert_eq!(handle.0.slot, 1);
    let commit = cluster.end(0, handle, HiddenEnd::Commit);
    let behind = cluster.submit(0, None, 1, SYNC);
    cluster.settle();
    let offsets = [before, after, commit, behind].map(|waiter| cluster.base_offset(waiter));
    assert_eq!(offsets, [0, 1, 2, 3].map(Some));
    assert_eq!(cluster.references(0), [(2, handle.0)]);
}

#[test]
fn an_end_again_is_answered_as_the_first_one_and_another_end_is_refused() {
    let mut cluster = Cluster::leading();
    let handle = half(&mut cluster);
    let first = cluster.end(0, handle, HiddenEnd::Commit);
    let in_the_same_entry = cluster.end(0, handle, HiddenEnd::Commit);
    let against = cluster.end(0, handle, HiddenEnd::RollBack);
    cluster.propose();
    let in_flight = cluster.end(0, handle, HiddenEnd::Commit);
    cluster.propose();
    cluster.settle();
    for waiter in [in_the_same_entry, in_flight] {
        assert_eq!(cluster.answers[&waiter], cluster.answers[&first]);
    }
    assert_eq!(cluster.refusal(against), Some(ProduceRefusal::Unknown), "the commit may be lost yet");
    let applied = ENDS.map(|end| cluster.end(0, handle, end));
    cluster.settle();
    assert!(matches!(cluster.answers[&applied[0]], Answer::Done(produced) if produced.base_offset.0 == 0));
    let refusals = applied.map(|waiter| cluster.refusal(waiter));
    assert_eq!(refusals, [None, OTHERWISE, OTHERWISE, OTHERWISE, OTHERWISE]);
    assert_eq!(cluster.references(0).len(), 1);
}

#[test]
fn a_rolled_back_message_stays_so() {
    let mut cluster = Cluster::leading();
    let handle = half(&mut cluster);
    let rolled_back = cluster.end(0, handle, HiddenEnd::RollBack);
    cluster.settle();
    assert!(cluster.refusal(rolled_back).is_none());
    assert!(matches!(state(&cluster, handle), Some(HiddenState::RolledBack { .. })));
    let (again, commit) = (cluster.end(0, handle, HiddenEnd::RollBack), cluster.end(0, handle, HiddenEnd::Commit));
    cluster.settle();
    assert!(matches!(cluster.answers[&again], Answer::Done(_)));
    assert_eq!(cluster.refusal(commit), OTHERWISE);
    assert_eq!(cluster.references(0), []);
}

#[test]
fn a_new_leader_goes_on_from_what_is_kept() {
    for kept in [0, 1] {
        let mut cluster = Cluster::leading();
        let handle = half(&mut cluster);
        cluster.end(0, handle, HiddenEnd::Commit);
        cluster.propose();
        cluster.deliver(true);
        cluster.fail_over(kept);
        let commit = cluster.end(0, handle, HiddenEnd::Commit);
        cluster.settle();
        assert_eq!(cluster.base_offset(commit), Some(0), "kept: {kept}");
        assert_eq!(matches!(cluster.answers[&commit], Answer::Done(_)), kept == 1);
        assert_eq!(cluster.references(0), [(0, handle.0)]);
    }
}

#[test]
fn a_handle_of_a_lost_entry_ends_nothing_that_lies_there_now() {
    let mut cluster = Cluster::leading();
    cluster.submit(0, None, 1, SYNC);
    cluster.propose();
    let lost = cluster.hide(0, HiddenReason::Half);
    cluster.propose();
    cluster.deliver(true);
    cluster.deliver(true);
    let lost = cluster.handle(lost).expect("it was appended");
    // Both are lost; the new run's barrier takes the first one's place.
    cluster.fail_over(0);
    cluster.settle();
    let other = half(&mut cluster);
    assert_eq!(lost.0, other.0);
    let commit = cluster.end(0, lost, HiddenEnd::Commit);
    cluster.settle();
    assert_eq!(cluster.refusal(commit), Some(ProduceRefusal::NoSuchHidden));
    assert!(matches!(state(&cluster, other), Some(HiddenState::Half { .. })));
}

/// What a random schedule has hidden and ended.
#[derive(Default)]
pub struct HiddenBatches {
    hidden: Vec<(u32, WaiterId)>,
    ends: Vec<(WaiterId, Address, Term, HiddenEnd)>,
}

impl HiddenBatches {
    pub fn hide(&mut self, cluster: &mut Cluster, partition: u32, reason: HiddenReason) {
        let waiter = cluster.hide(partition, reason);
        self.hidden.push((partition, waiter));
    }

    /// As a driver does it: only what lies at or below the applied index is ended.
    pub fn end(&mut self, cluster: &mut Cluster, which: prop::sample::Index, end: HiddenEnd) {
        let applied = cluster.machine.applied().map(|applied| applied.index);
        let known = self.hidden.iter().filter_map(|(partition, waiter)| Some((*partition, cluster.handle(*waiter)?)));
        let known: Vec<_> = known.filter(|(_, (address, _))| Some(address.index) <= applied).collect();
        if known.is_empty() {
            return;
        }
        let (partition, handle) = known[which.index(known.len())];
        let waiter = cluster.end(partition, handle, end);
        self.ends.push((waiter, handle.0, handle.1, end));
    }

    pub fn check(&self, cluster: &Cluster) {
        for (_, waiter) in &self.hidden {
            let Some((address, term)) = cluster.handle(*waiter) else { continue };
            let Some(entry) = cluster.log.get(address.index.0 as usize).filter(|entry| entry.term == term) else {
                continue;
            };
            let slot = EntryView::parse(entry.body.clone()).unwrap().slot(address.slot).unwrap();
            assert!(matches!(slot.kind, SlotKind::Hidden(_)), "{waiter:?} at {address:?}");
        }
        let mut visible = BTreeMap::new();
        for (offset, address) in (0..PARTITIONS).flat_map(|partition| cluster.references(partition)) {
            let before = visible.insert(address, offset);
            assert_eq!(before, None, "{address:?} became visible twice");
        }
        for (waiter, address, term, end) in &self.ends {
            let (offset, is_kept) = match &cluster.answers[waiter] {
                Answer::Done(produced) => (produced.base_offset.0, true),
                Answer::WaitFor { produced, .. } => (produced.base_offset.0, !cluster.has_failed(*waiter)),
                Answer::Refused(_) => continue,
            };
            let is_of_this_entry = cluster.log.get(address.index.0 as usize).is_some_and(|entry| entry.term == *term);
            if is_kept && is_of_this_entry {
                let expected = end.makes_visible().then_some(offset);
                assert_eq!(visible.get(address).copied(), expected, "{waiter:?}: {end:?} of {address:?}");
            }
        }
    }
}
