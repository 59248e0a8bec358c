//! The tail cache: the newest entries in memory, bounded in bytes, but never without what is not yet in the file.

use std::collections::VecDeque;

use duolog_types::LogIndex;

use crate::entry::{LogEntry, LogId};
use crate::format::RECORD_HEADER_BYTES;

/// Invariant: indexes rise. They may leap, after a purge beyond the last entry.
pub(crate) struct Tail {
    entries: VecDeque<(u64, LogEntry)>,
    bytes: usize,
    bytes_max: usize,
    /// Tickets rise with every append. An index is no substitute: after a truncation it is given again.
    next_ticket: u64,
    written_ticket: u64,
}

impl Tail {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_max, next_ticket: 1, written_ticket: 0 }
    }

    /// Takes an entry and gives its ticket.
    pub(crate) fn push(&mut self, entry: LogEntry) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.bytes += weight(&entry);
        self.entries.push_back((ticket, entry));
        ticket
    }

    /// Everything up to this ticket can be read from the file from now on.
    pub(crate) fn written(&mut self, ticket: u64) {
        self.written_ticket = self.written_ticket.max(ticket);
        while self.bytes > self.bytes_max && self.entries.front().is_some_and(|(t, _)| *t <= self.written_ticket) {
            let (_, entry) = self.entries.pop_front().expect("there is a front");
            self.bytes -= weight(&entry);
        }
    }

    /// Forgets entries from this index on.
    pub(crate) fn truncate_from(&mut self, index: LogIndex) {
        while self.entries.back().is_some_and(|(_, entry)| entry.index >= index) {
            let (_, entry) = self.entries.pop_back().expect("there is a back");
            self.bytes -= weight(&entry);
        }
    }

    pub(crate) fn get(&self, index: LogIndex) -> Option<&LogEntry> {
        let at = self.entries.partition_point(|(_, entry)| entry.index < index);
        self.entries.get(at).map(|(_, entry)| entry).filter(|entry| entry.index == index)
    }

    pub(crate) fn log_id(&self, index: LogIndex) -> Option<LogId> {
        self.get(index).map(|entry| (entry.term, entry.index))
    }

    /// Last ticket given.
    pub(crate) fn last_ticket(&self) -> u64 {
        self.next_ticket - 1
    }
}

fn weight(entry: &LogEntry) -> usize {
    entry.body.len() + RECORD_HEADER_BYTES
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use duolog_types::{FlushWish, Term};

    use super::*;

    fn entry(index: u64) -> LogEntry {
        let body = Bytes::from(vec![0; 36]);
        LogEntry { index: LogIndex(index), term: Term(1), kind: 0, flush: FlushWish::Now, body }
    }

    #[test]
    fn only_written_entries_are_evicted_even_when_an_index_is_given_twice() {
        let mut tail = Tail::new(250);
        let tickets: Vec<u64> = (0..4).map(|index| tail.push(entry(index))).collect();
        tail.written(0);
        assert!(tail.get(LogIndex(0)).is_some(), "nothing is written yet");
        tail.truncate_from(LogIndex(2));
        tail.push(entry(2));
        tail.push(entry(3));
        // The first entries 2 and 3 are written; the second ones are not.
        tail.written(tickets[3]);
        assert!(tail.get(LogIndex(1)).is_none());
        assert!(tail.get(LogIndex(2)).is_some());
        tail.written(tail.last_ticket());
        assert_eq!(tail.bytes, 200);
        assert!(tail.get(LogIndex(9)).is_none());
    }
}
