//! Entries that were proposed and are not applied yet, and who waits for them.

use std::collections::BTreeMap;

use duolog_record::entry::{Address, EntryHeader};
use duolog_types::{AckPoint, LogIndex, ProducerId, TopicPartition};

use super::producer::Claim;
use super::{Answer, ProduceRefusal, Produced, Reply, WaiterId};

/// Someone who waits for a batch: its producer, or a duplicate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) waiter: WaiterId,
    pub(super) ack_point: AckPoint,
    pub(super) produced: Produced,
}

/// An entry in flight.
#[derive(Debug, Default)]
pub(super) struct InFlightEntry {
    pub(super) size_bytes: usize,
    /// Where it lies, once it is appended; then `waiting` is empty, for all were told.
    index: Option<LogIndex>,
    waiting: Vec<Waiting>,
    /// The idempotent batches, in order, each with its ack point.
    pub(super) claims: Vec<((TopicPartition, ProducerId), Claim, AckPoint)>,
    /// The hidden batches that end in it.
    pub(super) ends: Vec<Address>,
}

impl InFlightEntry {
    pub(super) fn is_appended(&self) -> bool {
        self.index.is_some()
    }

    /// Batches that their producer will send again, unless the state has them. Of what was appended, the leader alone
    /// may have acknowledged a batch of an `async` topic: when it is lost, its producer goes on behind it.
    pub(super) fn claims_to_retry(&self) -> impl Iterator<Item = ((TopicPartition, ProducerId), &Claim)> {
        let is_retried = |ack_point| match ack_point {
            AckPoint::Received | AckPoint::Committed => true,
            AckPoint::Appended | AckPoint::Flushed => !self.is_appended(),
        };
        self.claims.iter().filter(move |(.., ack_point)| is_retried(*ack_point)).map(|(key, claim, _)| (*key, claim))
    }

    /// The waiter of a batch of an entry that is being filled.
    pub(super) fn push_waiting(&mut self, waiting: Waiting) {
        self.waiting.push(waiting);
    }

    /// Tells the waiter what to wait for, now or as soon as it is known.
    pub(super) fn wait(&mut self, id: EntryHeader, waiting: Waiting, replies: &mut Vec<Reply>) {
        match self.index {
            Some(index) => replies.push(wait_for(id, index, &waiting)),
            None => self.waiting.push(waiting),
        }
    }

    /// Tells everyone who was not told what to wait for that nobody knows.
    pub(super) fn refuse(self, replies: &mut Vec<Reply>) {
        let unknown =
            |waiting: Waiting| Reply { waiter: waiting.waiter, answer: Answer::Refused(ProduceRefusal::Unknown) };
        replies.extend(self.waiting.into_iter().map(unknown));
    }
}

fn wait_for(id: EntryHeader, index: LogIndex, waiting: &Waiting) -> Reply {
    let Waiting { waiter, ack_point, produced } = *waiting;
    Reply { waiter, answer: Answer::WaitFor { term: id.run_term, index, ack_point, produced } }
}

/// All entries in flight, by run and number.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    entries: BTreeMap<EntryHeader, InFlightEntry>,
    size_bytes: usize,
}

impl InFlight {
    pub(super) fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    pub(super) fn contains(&self, id: EntryHeader) -> bool {
        self.entries.contains_key(&id)
    }

    pub(super) fn get_mut(&mut self, id: EntryHeader) -> Option<&mut InFlightEntry> {
        self.entries.get_mut(&id)
    }

    pub(super) fn insert(&mut self, id: EntryHeader, entry: InFlightEntry) {
        self.size_bytes += entry.size_bytes;
        self.entries.insert(id, entry);
    }

    /// The first entry of the run of `id`, before `id`, that is not appended.
    pub(super) fn first_missing_before(&self, id: EntryHeader) -> Option<EntryHeader> {
        let first = EntryHeader { number: 0, ..id };
        self.entries.range(first..id).find(|(_, entry)| !entry.is_appended()).map(|(id, _)| *id)
    }

    pub(super) fn appended(&mut self, id: EntryHeader, index: LogIndex, replies: &mut Vec<Reply>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.index = Some(index);
            replies.extend(std::mem::take(&mut entry.waiting).iter().map(|waiting| wait_for(id, index, waiting)));
        }
    }

    /// Drops what is applied; gives the hidden batches that have ended with it.
    pub(super) fn applied(&mut self, through: LogIndex) -> Vec<Address> {
        let mut ended = Vec::new();
        let is_applied = |entry: &InFlightEntry| entry.index.is_some_and(|index| index <= through);
        let size_bytes = &mut self.size_bytes;
        self.entries.retain(|_, entry| {
            let keep = !is_applied(entry);
            if !keep {
                *size_bytes -= entry.size_bytes;
                ended.append(&mut entry.ends);
            }
            keep
        });
        ended
    }

    /// Takes out an entry and all after it.
    pub(super) fn take_from(&mut self, id: EntryHeader) -> Vec<(EntryHeader, InFlightEntry)> {
        let taken = self.entries.split_off(&id);
        self.size_bytes = self.entries.values().map(|entry| entry.size_bytes).sum();
        taken.into_iter().collect()
    }

    /// Takes out everything.
    pub(super) fn take_all(&mut self) -> Vec<(EntryHeader, InFlightEntry)> {
        self.size_bytes = 0;
        std::mem::take(&mut self.entries).into_iter().collect()
    }
}
